from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch

import mst
from conftest import randomise, tiny_config
from counted_by_hand import ALL_ONES, by_hand
from mst.errors import InputError
from mst.measure import (
    ANALOG,
    COST_MODELS,
    HOROWITZ_45NM_FP32,
    MEMORY_45NM,
    EnergyEstimate,
    budget_by,
    budget_by_step,
    count_rows,
    mask_savings,
)
from mst.measure.budget import Axis
from mst.models import MaskedSpikingTransformer


@pytest.fixture(scope="module", params=["rate", "lossless"])
def estimate(request: pytest.FixtureRequest) -> EnergyEstimate:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    randomise(model)
    return mst.estimate_energy(mst.simulate(mst.convert(model, request.param), torch.rand(3, 1, 8, 8), 12))


@pytest.mark.parametrize("axis", get_args(Axis))
def test_budget_sums_to_the_total_along_every_axis(estimate: EnergyEstimate, axis: Axis) -> None:
    sums = budget_by(estimate.budget, axis)
    total = estimate.everything
    assert sum(snn for snn, _ in sums.values()) == pytest.approx(total.snn.energy_pj, rel=1e-12)
    assert sum(ann for _, ann in sums.values()) == pytest.approx(total.ann.energy_pj, rel=1e-12)
    assert len(sums) > 2
    assert all(snn >= 0 for snn, _ in sums.values())


def test_budget_steps_sum_to_the_total(estimate: EnergyEstimate) -> None:
    by_step = budget_by_step(estimate.budget, "stage")
    assert sum(map(sum, by_step.values())) == pytest.approx(estimate.everything.snn.energy_pj, rel=1e-12)
    assert {len(steps) for steps in by_step.values()} == {12}


def test_budget_holds_maps_products_and_functions_as_the_estimate_does(estimate: EnergyEstimate) -> None:
    kinds = budget_by(estimate.budget, "kind")
    maps = [kinds[kind] for kind in ("linear", "convolution", "product", "batch_norm") if kind in kinds]
    assert sum(snn for snn, _ in maps) == pytest.approx(estimate.maps_and_products.snn.energy_pj, rel=1e-12)
    assert sum(ann for _, ann in maps) == pytest.approx(estimate.maps_and_products.ann.energy_pj, rel=1e-12)
    assert kinds["function"][0] == pytest.approx(estimate.all_functions.snn.energy_pj, rel=1e-12)
    assert kinds["function"][1] == pytest.approx(estimate.all_functions.ann.energy_pj, rel=1e-12)


def test_budget_by_a_model_of_ones_counts_operations() -> None:
    result = by_hand("rate", masking_ratio=0.5)
    estimate = mst.estimate_energy(result, ALL_ONES)
    for row in estimate.budget:
        assert row.snn.energy_pj == sum(row.counted.snn.values())
        assert row.ann.energy_pj == sum(row.counted.ann.values())
    assert budget_by(estimate.budget, "operation")["ac"][0] == result.spike_counts["site"] * 3
    assert estimate.everything.snn.energy_pj == sum(sum(row.snn.values()) for row in count_rows(result))


def test_budget_prices_a_network_counted_by_hand() -> None:
    budget = {(row.name, row.counted.kind): row for row in mst.estimate_energy(by_hand("rate")).budget}
    neurons = budget["site", "neurons"]
    # two neurons, four steps: an addition and a comparison each, and a subtraction for each of 6 spikes
    assert neurons.snn.energy_pj == pytest.approx((8 + 8 + 6) * 0.9)
    assert neurons.ann.energy_pj == pytest.approx(2 * 0.9)
    assert neurons.snn_energy_pj_by_step == pytest.approx([(2 + 2 + n) * 0.9 for n in (2, 1, 2, 1)])
    assert budget["input", "input"].snn.energy_pj == 0  # left out, with a reason
    assert "arithmetic" in HOROWITZ_45NM_FP32.leaves_out["input_read"]


def test_budget_by_site_gives_macs_to_no_site() -> None:
    sites = budget_by(mst.estimate_energy(by_hand("rate")).budget, "site")
    assert sites["site"][0] == pytest.approx((18 + 22) * 0.9)  # accumulations and the neurons themselves
    assert sites[ANALOG][0] == pytest.approx(16 * 4.6)
    assert sites["site"][1] == pytest.approx(6 * 4.6 + 2 * 0.9)


def test_budget_by_site_holds_macs_of_rows_that_spikes_drive_too(estimate: EnergyEstimate) -> None:
    """softmax·v under lossless coding: the spikes of v drive ACs, the softmax MACs."""
    sites, kinds, operations = (budget_by(estimate.budget, axis) for axis in ("site", "kind", "operation"))
    assert sites[ANALOG][0] == pytest.approx(operations["mac"][0] + kinds["function"][0])


def test_budget_with_a_kind_that_has_no_price_is_refused_by_name() -> None:
    chip = dataclasses.replace(ALL_ONES, name="chip", constants={"mac": 1.0, "ac": 1.0})
    estimate = mst.estimate_energy(by_hand("rate"), chip)
    assert "neuron_update" in estimate.unpriced
    assert estimate.budget == ()
    with pytest.raises(InputError, match="chip has no energy for neuron_update, current_addition, .*leaves_out"):
        _ = estimate.everything


def test_mask_savings_are_the_dropped_spikes_at_the_price_of_those_that_were_sent() -> None:
    result = by_hand("rate", 16, masking_ratio=0.5)
    sent, dropped = result.spike_counts["site"], result.dropped_counts["site"]
    estimate = mst.estimate_energy(result)
    (saving,) = mask_savings(estimate.budget, {"site": (sent, dropped)})
    assert min(sent, dropped) > 0
    assert saving.saved_pj == pytest.approx(dropped * 3 * 0.9)
    assert saving.drawn_pj == pytest.approx((sent + dropped) * (3.7 + 2 * 0.9))
    assert mask_savings(mst.estimate_energy(by_hand("rate")).budget, {"site": (6.0, 0.0)}) == ()


def test_budget_of_a_model_with_memory_is_the_published_formula() -> None:
    budget = {(row.name, row.counted.kind): row for row in mst.estimate_energy(by_hand("rate"), MEMORY_45NM).budget}
    assert budget["last", "linear"].snn.energy_pj == pytest.approx(18 * (5 * 33 / 32 + 0.9))
    assert budget["last", "linear"].ann.energy_pj == pytest.approx(6 * (2 * 5 + 0.9 + 3.7))
    # eight updates
    assert budget["site", "neurons"].snn.energy_pj == pytest.approx(8 * (2 * 5 + 3.7 + 3 * 0.9 + 5 / 32))
    assert budget["site", "neurons"].ann.energy_pj == pytest.approx(2 * (5 + 0.9))
    assert budget["input", "input"].snn.energy_pj == pytest.approx(8 * 5)


def test_budget_of_data_movement_is_paid_by_spike_or_by_neuron_and_step() -> None:
    priced = {
        name: mst.estimate_energy(by_hand("rate"), COST_MODELS[f"22nm-{name}"].with_constants({"mac": 1.0}))
        for name in ("sparse", "dense")
    }
    neurons = {name: next(r for r in each.budget if r.counted.kind == "neurons") for name, each in priced.items()}
    add = 0.05448
    assert neurons["sparse"].snn.energy_pj == pytest.approx(6 * 3.0 + (8 + 8 + 6) * add)
    assert neurons["dense"].snn.energy_pj == pytest.approx(8 * 0.25 + (8 + 8 + 6) * add)
    assert neurons["sparse"].ann.energy_pj == pytest.approx(2 * (8 * 0.25 + add))


def test_budget_of_memories_by_size_has_the_totals_of_the_estimate() -> None:
    estimate = mst.estimate_energy(by_hand("lossless", 8), COST_MODELS["45nm-sram"])
    kinds = budget_by(estimate.budget, "kind")
    assert kinds["linear"][0] == pytest.approx(estimate.maps_and_products.snn.energy_pj)
    assert kinds["linear"][1] == pytest.approx(10 * (4.6 + 2 * 5.0))
    assert estimate.snn_energy_pj_per_step[-1] == pytest.approx(estimate.snn.energy_pj)
    assert sum(site.snn.energy_pj for site in estimate.sites.values()) == pytest.approx(estimate.snn.energy_pj)
