from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import mst
from counted_by_hand import ALL_ONES, Hand, by_hand
from mst.errors import InputError
from mst.measure import (
    COST_MODELS,
    HOROWITZ_45NM_FP32,
    HOROWITZ_45NM_INT8,
    MAC,
    MOVEMENT_22NM_SPARSE,
    break_even_mac,
    check_can_be_priced,
    verdict_on,
)
from mst.neurons import QCFS

SPARSE = {"first": 4.0, "last": 5.0}


def test_verdict_by_hand() -> None:
    result = by_hand("rate")
    verdict = verdict_on(mst.estimate_energy(result), result, SPARSE)
    snn = 16 * 4.6 + 18 * 0.9 + 22 * 0.9
    narrow = 16 * 0.23 + (18 + 22) * 0.03
    energies = {each.name: (each.snn_energy_pj, each.ann_energy_pj) for each in verdict.baselines}
    assert energies == {
        "fp32 ANN": pytest.approx((snn, 10 * 4.6 + 2 * 0.9)),
        "fp32 ANN with zeros skipped": pytest.approx((snn, 9 * 4.6 + 2 * 0.9)),
        "quantised ANN (int8)": pytest.approx((snn, 10 * 0.23 + 2 * 0.03)),
        "quantised ANN with 8-bit weights in both": pytest.approx((narrow, 10 * 0.23 + 2 * 0.03)),
    }
    assert verdict.spikes_per_neuron == 3.0
    assert verdict.spikes_per_synapse == 18 / 6
    assert str(verdict) == (
        "Spends 2.29x its fp32 ANN, 2.54x its fp32 ANN with zeros skipped, 46.44x its quantised ANN (int8) and 2.07x "
        "its quantised ANN with 8-bit weights in both; 3.00 spikes per neuron: above 1.72, 1.38 and 0.29"
    )
    assert verdict.below == ()


def test_verdict_names_the_thresholds_on_both_sides() -> None:
    result = by_hand("rate", 1)
    verdict = verdict_on(mst.estimate_energy(result), result)
    assert str(verdict).endswith("1.00 spikes per neuron: below 1.72 and 1.38, above 0.29")
    assert [each.spikes_per_neuron for each in verdict.below] == [1.72, 1.38]


def test_verdict_without_counts_of_zeros_has_no_sparse_ratio() -> None:
    result = by_hand("rate")
    sparse = verdict_on(mst.estimate_energy(result), result).baselines[1]
    assert (sparse.ratio, sparse.note) == (None, "the zeros of its activations were not counted")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (HOROWITZ_45NM_INT8, ["int8 ANN", "int8 ANN with zeros skipped"]),
        (COST_MODELS["45nm-fp16"], ["fp16 ANN", "fp16 ANN with zeros skipped", "quantised ANN (int8)",
                                    "quantised ANN with 8-bit weights in both"]),
    ],
)  # fmt: skip
def test_verdict_names_the_format_of_the_ann(model: mst.CostModel, names: list[str]) -> None:
    result = by_hand("rate")
    assert [each.name for each in verdict_on(mst.estimate_energy(result, model), result).baselines] == names


def test_verdict_has_no_quantised_ann_where_8_bits_have_no_price() -> None:
    result = by_hand("rate")
    last = verdict_on(mst.estimate_energy(result, ALL_ONES), result).baselines[-1]
    assert (last.ratio, last.note) == (None, "the cost model all-ones has no constants for 8 bits (int8)")
    changed = HOROWITZ_45NM_FP32.with_constants({MAC: 1.0})
    assert verdict_on(mst.estimate_energy(result, changed), result).baselines[-1].ratio is None


def test_verdict_has_no_quantised_ann_for_activations_of_more_bits() -> None:
    images = torch.rand(1, 2)
    wide = mst.simulate(mst.convert(nn.Sequential(QCFS(256, 1.0), nn.Linear(2, 1)).eval(), "rate", images), images, 2)
    last = verdict_on(mst.estimate_energy(wide), wide).baselines[-1]
    assert last.note == "the activations of 0 take 9 bits, more than the 8 of an int8 MAC"
    assert last.ratio is None


def test_verdict_says_how_much_of_the_quantised_ann_has_the_same_answers() -> None:
    result = by_hand("rate")
    note = verdict_on(mst.estimate_energy(result), result).baselines[-1].note
    assert note.startswith("activations of 2 bits, 60% of its MACs multiply them")  # 6 of 10; the image is analog


def test_verdict_names_the_prices_that_it_depends_on() -> None:
    result = by_hand("rate")
    (derived,) = verdict_on(mst.estimate_energy(result), result).depends_on
    assert derived == (
        "prices derived by algorithms, not from the source: current addition, threshold comparison, spike, comparison "
        "(18% of the SNN's energy, 4% of its ANN's)"
    )
    moved = MOVEMENT_22NM_SPARSE.with_constants({MAC: 0.5})
    hand, given = verdict_on(mst.estimate_energy(result, moved), result).depends_on
    assert hand == "the constants of 22nm-sparse, changed, which are second hand"
    assert re.fullmatch(r"prices as given: mac \(\d+% of the SNN's energy, \d+% of its ANN's\)", given)


def test_verdict_prices_functions_alike_in_the_quantised_ann() -> None:
    images = torch.rand(2, 3)
    snn = mst.convert(nn.Sequential(QCFS(4, 1.0), nn.GELU(), nn.Linear(3, 2)).eval(), "lossless", images)
    result = mst.simulate(snn, images, 8)
    estimate = mst.estimate_energy(result)
    quantised, both = verdict_on(estimate, result).baselines[2:]
    functions = estimate.all_functions
    assert functions.ann.energy_pj > 300
    assert quantised.ann_energy_pj == pytest.approx(6 * 0.23 + 3 * 0.03 + functions.ann.energy_pj)
    macs, acs = (estimate.maps_and_products.snn.operations.counts[kind] for kind in ("mac", "ac"))
    neurons = estimate.everything.snn.energy_pj - estimate.whole.snn.energy_pj
    narrow = macs * 0.23 + acs * 0.03 + neurons * 0.03 / 0.9
    assert both.snn_energy_pj == pytest.approx(narrow + functions.snn.energy_pj)


def test_verdict_of_a_model_without_a_mac_is_refused() -> None:
    images = torch.rand(1, 2)
    with pytest.raises(InputError, match="no energy for operations of the kind 'mac'"):  # before a simulation too
        check_can_be_priced(mst.convert(Hand().eval(), "rate", images), images, MOVEMENT_22NM_SPARSE)
    with pytest.raises(InputError, match="22nm-sparse has no energy for operations of the kind 'mac'.*--mac-pj"):
        mst.estimate_energy(by_hand("rate"), MOVEMENT_22NM_SPARSE)


def test_break_even_of_a_mac_is_where_both_spend_the_same() -> None:
    result = by_hand("lossless", 8)
    estimate = mst.estimate_energy(result)
    pj = break_even_mac(estimate)
    assert pj is not None
    same = mst.estimate_energy(result, HOROWITZ_45NM_FP32.with_constants({MAC: pj})).everything
    assert same.ratio == pytest.approx(1)
    rate = mst.estimate_energy(by_hand("rate"))  # more MACs than the ANN
    assert break_even_mac(rate) is None
