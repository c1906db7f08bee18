from __future__ import annotations

import dataclasses
import itertools
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mst
from conftest import randomise, tiny_config
from mst.errors import InputError
from mst.measure import AC, MAC, CostModel, check_can_be_priced
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS
from mst.simulation import SimulationResult


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    randomise(model)
    return mst.simulate(mst.convert(model), torch.rand(3, 1, 8, 8), 12)


def test_energy_rows_sum_to_the_totals(result: SimulationResult) -> None:
    estimate = mst.estimate_energy(result)
    for side in ("snn", "ann"):
        for figure in ("num_macs", "num_acs", "energy_pj"):
            rows = sum(getattr(getattr(row, side), figure) for row in estimate.operations)
            assert rows == pytest.approx(getattr(getattr(estimate, side), figure), rel=1e-12)
            sites = sum(getattr(getattr(site, side), figure) for site in estimate.sites.values())
            assert sites == pytest.approx(getattr(getattr(estimate, side), figure), rel=1e-12)


def test_energy_by_site_is_spikes_times_fan_out(result: SimulationResult) -> None:
    estimate, spikes = mst.estimate_energy(result), result.spike_counts
    fan_out = {
        "layers.0.blocks.0.shortcut1_if": 24,  # qkv: 3 x 8
        "layers.0.blocks.0.attn.q_if": 4,  # keys of the window
        "layers.0.blocks.0.attn.k_if": 0,  # the queries' spikes are counted instead
        "layers.0.blocks.0.attn.attn_if": 0,  # goes into the analog softmax
        "layers.0.blocks.0.attn.v_if": 4,  # queries of the window
        "layers.0.blocks.0.attn.attn_v_if": 8,
        "layers.0.blocks.0.attn.proj_if": 4 + 16,  # four BatchNorms of the residual stream, and patch merging
        "layers.0.blocks.0.shortcut2_if": 16,
        "layers.0.blocks.0.mlp.fc1_if": 8,
    }
    for site, outputs in fan_out.items():
        assert estimate.sites[site].snn.num_acs == pytest.approx(spikes[site] * outputs / 3), site
        assert estimate.sites[site].snn.energy_pj == pytest.approx(spikes[site] * outputs / 3 * 0.9), site


def test_energy_of_the_ann_is_its_dense_macs(result: SimulationResult) -> None:
    estimate = mst.estimate_energy(result)
    rows = {row.name: row for row in estimate.operations}
    assert rows["patch_embed.proj"].ann.num_macs == 16 * 8 * 4
    assert rows["layers.0.blocks.0.attn.qkv"].ann.num_macs == 16 * 8 * 24
    assert rows["layers.0.blocks.0.attn.query_key"].ann.num_macs == 4 * 2 * 4 * 4 * 4  # windows, heads, N, N, D
    assert rows["layers.0.downsample.reduction"].ann.num_macs == 4 * 32 * 16
    assert rows["head"].ann.num_macs == 16 * 3
    assert estimate.ann.num_acs == 0
    assert estimate.ann.energy_pj == pytest.approx(estimate.ann.num_macs * 4.6)


def test_energy_analog_operations_are_macs_at_every_step(result: SimulationResult) -> None:
    rows = {row.name: row for row in mst.estimate_energy(result).operations}
    analog = {name for name, row in rows.items() if row.snn.num_macs > 0}
    assert {"patch_embed.proj", "norm", "head"} <= analog
    assert {row.kind for name, row in rows.items() if name not in analog} == {"linear", "product", "batch_norm"}
    for name in analog:
        assert rows[name].snn.num_macs == rows[name].ann.num_macs * 12
        assert rows[name].snn.num_acs == 0


def test_energy_after_each_step_ends_at_the_total_and_rises(result: SimulationResult) -> None:
    estimate = mst.estimate_energy(result)
    steps = estimate.snn_energy_pj_per_step
    assert len(steps) == 12
    assert steps[-1] == pytest.approx(estimate.snn.energy_pj)
    assert all(later > earlier for earlier, later in itertools.pairwise(steps))


def test_energy_of_the_papers_network_is_4_5_gmac() -> None:
    """Swin-T with BatchNorm at 224 px. The figure derived for it is 4.49 GMAC."""
    model = MaskedSpikingTransformer(mst.MSTConfig()).eval()
    from mst.operations import trace_operations

    operations = trace_operations(model, torch.zeros(1, 3, 224, 224)).operations
    matrix = sum(op.dense_macs for op in operations if op.kind in ("linear", "convolution", "product"))
    assert matrix / 1e9 == pytest.approx(4.49, abs=0.01)
    total = sum(op.dense_macs for op in operations)
    assert total / matrix < 1.01


@pytest.mark.parametrize("other", [None, 3, nn.ReLU()])
def test_energy_of_something_else_than_a_result_is_refused(other: object) -> None:
    with pytest.raises(InputError, match="takes what mst.simulate returns, got .*; simulate the spiking network first"):
        mst.estimate_energy(other)  # type: ignore[arg-type]


def test_energy_without_recorded_operations_is_refused() -> None:
    model = MaskedSpikingTransformer(tiny_config())
    bare = mst.simulate(mst.convert(model), torch.rand(1, 1, 8, 8), 2, record_operations=False)
    with pytest.raises(ValueError, match="record_operations=True"):
        mst.estimate_energy(bare)


def test_energy_estimate_prints_in_one_short_line(result: SimulationResult) -> None:
    estimate = mst.estimate_energy(result)
    assert re.fullmatch(r"EnergyEstimate\([\d.]+ [nµ]J = [\d.]+x its ANN, T=12, 45nm-fp32\)", repr(estimate))
    assert re.fullmatch(r"Cost\([\d.]+ [nµ]J: [\d,]+ MACs, [\d,]+ ACs\)", repr(estimate.snn))


def gated(coding: str) -> SimulationResult:
    """A network with a softmax that is a module, a GELU, and a gate."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.softmax, self.last = QCFS(4, 1.0), nn.Softmax(-1), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.first(x)
            y: torch.Tensor = self.last(self.softmax(a) * F.gelu(a))
            return y

    images = torch.tensor([[1.0, 0.5, 0.0]])
    return mst.simulate(mst.convert(Gated().eval(), coding, images), images, 8)


def test_energy_of_functions_stands_beside_maps_and_products() -> None:
    result = gated("lossless")
    estimate = mst.estimate_energy(result)
    assert [row.name for row in estimate.operations] == ["softmax", "last"]
    softmax, gelu, product = estimate.functions
    assert [(row.name, row.kind, row.operation) for row in estimate.functions] == [
        ("softmax (softmax)", "function", "softmax"),
        ("(the network itself) (gelu)", "function", ""),
        ("(the network itself) (mul)", "function", ""),
    ]
    # of each element a comparison, two additions, an exp and a multiplication; of the row a reciprocal
    exp, reciprocal, erf = 9 * 3.7 + 10 * 0.9, 7 * 3.7 + 4 * 0.9, 24 * 3.7 + 20 * 0.9
    assert softmax.ann.energy_pj == pytest.approx(3 * (3 * 0.9 + exp + 3.7) + reciprocal)
    assert gelu.ann.energy_pj == pytest.approx(3 * (erf + 3 * 3.7 + 0.9))
    assert product.ann.energy_pj == pytest.approx(3 * 3.7)
    # the inputs reach 4 and 2 levels and 0; the product changes wherever the softmax does
    rows = int(result.functions[0].shared_per_step.sum())  # type: ignore[union-attr]
    assert (softmax.evaluations, gelu.evaluations) == (rows, result.spikes_per_image / 3)
    assert product.snn.energy_pj <= 3 * rows * 3.7
    last = estimate.operations[-1]
    assert (estimate.maps_and_products.snn, estimate.maps_and_products.ann) == (last.snn, last.ann)
    for side in ("snn", "ann"):
        functions = sum(getattr(row, side).energy_pj for row in estimate.functions)
        assert getattr(estimate.all_functions, side).energy_pj == pytest.approx(functions)
        whole = getattr(estimate.maps_and_products, side).energy_pj + functions
        assert getattr(estimate.whole, side).energy_pj == pytest.approx(whole)
    assert estimate.whole.ratio == pytest.approx(estimate.whole.snn.energy_pj / estimate.whole.ann.energy_pj)
    # as before: maps, products and the module at 3 MACs per element
    assert estimate.ann.num_macs == 3 * 3 + 3 * 2
    assert estimate.ratio == estimate.snn.energy_pj / estimate.ann.energy_pj
    assert any("A function (GELU" in assumption for assumption in estimate.assumptions)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_energy_with_functions_after_each_step_ends_at_the_whole(coding: str, result: SimulationResult) -> None:
    if coding == "lossless":
        result = gated("lossless")
    estimate = mst.estimate_energy(result)
    steps = estimate.whole_energy_pj_per_step
    assert len(steps) == result.num_steps
    assert steps[-1] == pytest.approx(estimate.whole.snn.energy_pj, rel=1e-12)
    if coding == "rate":  # every step costs its functions
        gaps = [whole - own for whole, own in zip(steps, estimate.snn_energy_pj_per_step, strict=True)]
        assert gaps[5] == pytest.approx(6 * gaps[0], rel=1e-9)
        assert gaps[0] > 0
    else:
        assert steps[-1] == steps[-2]  # all has settled
        assert steps[0] < steps[-1]


def test_energy_with_functions_by_a_model_without_their_constants_is_that_of_the_operations(
    result: SimulationResult,
) -> None:
    estimate = mst.estimate_energy(result, CostModel("chip", {MAC: 2.0, AC: 1.0}, "data sheet", "measured"))
    assert estimate.whole_energy_pj_per_step == pytest.approx(estimate.snn_energy_pj_per_step, rel=1e-12)


def test_energy_of_a_network_without_functions_has_no_such_rows() -> None:
    x = torch.rand(2, 3)
    model = nn.Sequential(QCFS(4, 1.0), nn.Linear(3, 2)).eval()
    estimate = mst.estimate_energy(mst.simulate(mst.convert(model, "lossless", x), x, 8))
    assert estimate.functions == ()
    assert math.isnan(estimate.all_functions.ratio)
    assert estimate.whole.ratio == estimate.ratio
    assert not any("A function" in assumption for assumption in estimate.assumptions)


def test_energy_of_functions_by_a_model_without_constants_is_refused_but_for_what_has_a_row(
    result: SimulationResult,
) -> None:
    chip = CostModel("chip", {MAC: 2.0, AC: 1.0}, "data sheet", "measured")
    estimate = mst.estimate_energy(result, chip)  # an MST: softmax and LayerNorm, at 3 MACs per element
    rows = {row.name: row for row in estimate.operations}
    assert len(estimate.functions) == 4
    for row in estimate.functions:
        assert (row.snn, row.ann) == (rows[row.operation].snn, rows[row.operation].ann)
    with pytest.raises(InputError, match="chip has no energy for operations of the kind 'erf', only for mac, ac"):
        mst.estimate_energy(gated("lossless"), chip)
    priced = dataclasses.replace(chip, constants={MAC: 2.0, AC: 1.0, "erf": 5.0, "multiplication": 1.0, "addition": 1})
    assert mst.estimate_energy(gated("lossless"), priced).functions[1].ann.energy_pj == 3 * (5 + 3 + 1)


def test_energy_can_be_checked_before_a_simulation_with_the_model_that_will_price_it() -> None:
    model = nn.Sequential(QCFS(4, 1.0), nn.GELU(), nn.Linear(3, 2)).eval()
    image = torch.rand(1, 3)
    snn = mst.convert(model, "lossless", image)
    check_can_be_priced(snn, image)
    with pytest.raises(InputError, match="chip has no energy for operations of the kind 'erf'"):
        check_can_be_priced(snn, image, CostModel("chip", {MAC: 2.0, AC: 1.0}, "data sheet", "measured"))
