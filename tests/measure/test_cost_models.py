from __future__ import annotations

import dataclasses

import pytest
import torch

import mst
from conftest import randomise, tiny_config
from counted_by_hand import by_hand
from mst.errors import InputError
from mst.measure import (
    AC,
    COST_MODELS,
    HOROWITZ_45NM_FP32,
    MAC,
    CostModel,
    Operations,
    cost_model_named,
    readable_energy,
    register_cost_model,
)
from mst.models import MaskedSpikingTransformer
from mst.simulation import SimulationResult

ONES = CostModel("ones", {MAC: 1.0, AC: 1.0}, "test", "simulated")


@pytest.fixture(scope="module", params=["rate", "lossless"])
def result(request: pytest.FixtureRequest) -> SimulationResult:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    randomise(model)
    return mst.simulate(mst.convert(model, request.param), torch.rand(3, 1, 8, 8), 12)


@pytest.mark.parametrize(
    ("name", "mac", "ac"), [("45nm-fp32", 4.6, 0.9), ("45nm-fp16", 1.5, 0.4), ("45nm-int8", 0.23, 0.03)]
)
def test_cost_models_price_a_network_counted_by_hand(name: str, mac: float, ac: float) -> None:
    result = by_hand("rate")
    estimate = mst.estimate_energy(result, COST_MODELS[name])
    assert result.spike_counts == {"site": 6}
    macs, acs = 4 * 4, 6 * 3  # the first map at every step; three outputs for each spike
    assert estimate.snn.energy_pj == pytest.approx(macs * mac + acs * ac, rel=1e-12)
    assert estimate.ann.energy_pj == pytest.approx((4 + 6) * mac, rel=1e-12)
    assert estimate.sites["site"].snn.energy_pj == pytest.approx(acs * ac, rel=1e-12)
    assert estimate.snn_energy_pj_per_step[0] == pytest.approx(4 * mac + 2 * 3 * ac, rel=1e-12)


def test_cost_model_of_ones_counts_operations(result: SimulationResult) -> None:
    estimate = mst.estimate_energy(result, ONES)
    for cost in (estimate.snn, estimate.ann, *(row.snn for row in estimate.operations)):
        assert cost.energy_pj == pytest.approx(cost.num_macs + cost.num_acs)
    for site in estimate.sites.values():
        assert site.snn.energy_pj == pytest.approx(site.snn.num_macs + site.snn.num_acs)
    assert estimate.snn_energy_pj_per_step[-1] == pytest.approx(estimate.snn.num_macs + estimate.snn.num_acs)


def test_cost_model_changes_energies_and_no_counts(result: SimulationResult) -> None:
    before, after = mst.estimate_energy(result), mst.estimate_energy(result, ONES)
    assert before.snn.operations == after.snn.operations
    assert before.snn.energy_pj != after.snn.energy_pj
    assert after.cost_model is ONES


def test_cost_components_sum_to_the_price() -> None:
    operations = Operations({MAC: 3.0, AC: 5.0}) + Operations({AC: 1.0}).scaled(2.0)
    assert operations == Operations({MAC: 3.0, AC: 7.0})
    assert HOROWITZ_45NM_FP32.components(operations) == {MAC: 3 * 4.6, AC: 7 * 0.9}
    assert HOROWITZ_45NM_FP32.price(operations).energy_pj == 3 * 4.6 + 7 * 0.9


def test_cost_model_from_outside_needs_one_registration(
    result: SimulationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = CostModel("my-chip", {MAC: 2000.0, AC: 500.0}, "data sheet", "measured", "14 nm", unit="fJ")
    monkeypatch.delitem(COST_MODELS, "my-chip", raising=False)
    register_cost_model(chip)
    try:
        estimate = mst.estimate_energy(result, cost_model_named("my-chip"))
        assert estimate.snn.energy_pj == pytest.approx(2.0 * estimate.snn.num_macs + 0.5 * estimate.snn.num_acs)
        assert estimate.cost_model.to_dict() == {
            "mac_pj": 2.0, "ac_pj": 0.5, "source": "14 nm (data sheet)", "name": "my-chip", "status": "measured",
        }  # fmt: skip
        with pytest.raises(InputError, match="there is another cost model 'my-chip' already"):
            register_cost_model(dataclasses.replace(chip, source="elsewhere"))
    finally:
        del COST_MODELS["my-chip"]


def test_cost_model_refuses_by_name_what_it_cannot_price(result: SimulationResult) -> None:
    spikes_only = CostModel("spikes-only", {AC: 1.0}, "test", "simulated")
    with pytest.raises(InputError, match="spikes-only has no energy for operations of the kind 'mac', only for ac"):
        mst.estimate_energy(result, spikes_only)
    assert spikes_only.price(Operations({MAC: 0.0, AC: 2.0})).energy_pj == 2.0


def test_cost_model_takes_other_constants() -> None:
    assert HOROWITZ_45NM_FP32.with_constants({MAC: 4.6}) is HOROWITZ_45NM_FP32
    changed = HOROWITZ_45NM_FP32.with_constants({AC: 0.1})
    assert (changed.energy_of(MAC), changed.energy_of(AC), str(changed)) == (
        4.6,
        0.1,
        "MAC 4.6 pJ, AC 0.1 pJ; as given",
    )
    assert str(HOROWITZ_45NM_FP32) == (
        "MAC 4.6 pJ, AC 0.9 pJ; 45 nm CMOS, 32-bit floating point (Horowitz, ISSCC 2014)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constants": {AC: 0.0}}, "ones: energies must be above 0 pJ, got {'ac': 0.0}"),
        ({"constants": {AC: -1.0}}, "energies must be above 0 pJ"),
        ({"constants": {MAC: float("nan")}}, "energies must be above 0 pJ"),
        ({"constants": {MAC: float("inf")}}, "energies must be above 0 pJ"),
        ({"constants": {}}, "energies must be above 0 pJ, got none"),
        ({"unit": "J"}, "unknown unit 'J'; choose from fJ, pJ, nJ"),
        ({"status": "guessed"}, "unknown status 'guessed'; choose from measured, simulated, pre-silicon"),
    ],
)
def test_cost_model_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(ONES, **changes)


def test_cost_model_with_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown cost model '45nm-fp64'; did you mean .*45nm-fp32"):
        cost_model_named("45nm-fp64")


@pytest.mark.parametrize(
    ("energy_pj", "text"), [(0.5, "0.5 pJ"), (1234.0, "1.23 nJ"), (5e6, "5 µJ"), (2.5e9, "2.5 mJ")]
)
def test_readable_energy_has_a_unit_with_few_digits(energy_pj: float, text: str) -> None:
    assert readable_energy(energy_pj) == text


def test_a_spike_at_22_nm_is_an_addition_and_its_movement() -> None:
    assert COST_MODELS["22nm-sparse"].energy_of("spike") == pytest.approx(0.05448 + 3.0)
    assert COST_MODELS["22nm-dense"].energy_of("spike") == pytest.approx(0.05448)
    assert COST_MODELS["22nm-dense"].energy_of("neuron_update") == pytest.approx(0.25)
