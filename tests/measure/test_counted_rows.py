from __future__ import annotations

import pytest
import torch
from torch import nn

import mst
from counted_by_hand import Hand, HandProduct, by_hand
from mst.measure import ANALOG, CountRow, count_rows, stage_of
from mst.neurons import QCFS


def rows_of(rows: tuple[CountRow, ...]) -> dict[tuple[str, str], CountRow]:
    return {(row.name, row.kind): row for row in rows}


def test_rows_under_rate_coding_are_those_counted_by_hand() -> None:
    rows = rows_of(count_rows(by_hand("rate")))
    assert list(rows) == [("first", "linear"), ("last", "linear"), ("site", "neurons"), ("input", "input")]
    assert rows["first", "linear"].snn == {"mac": 4 * 4}  # analog, at each of 4 steps
    assert rows["last", "linear"].snn == {"ac": 6 * 3}  # 4 + 2 spikes reach 3 outputs each
    assert rows["last", "linear"].ann == {"mac": 6.0}
    assert rows["last", "linear"].sources == {"site": 1.0}
    assert rows["site", "neurons"].snn == {
        "neuron_update": 2 * 4, "current_addition": 2 * 4, "threshold_comparison": 2 * 4, "spike": 6,
        "membrane_read": 2 * 4, "membrane_write": 2 * 4,
    }  # fmt: skip
    assert rows["site", "neurons"].ann == {"activation_write": 2.0, "comparison": 2.0}
    assert rows["input", "input"].snn == {"input_read": 2 * 4}
    assert rows["input", "input"].ann == {"input_read": 2.0}
    assert rows["site", "neurons"].snn_per_step["spike"].tolist() == [2, 1, 2, 1]


def test_rows_under_lossless_coding_are_those_counted_by_hand() -> None:
    result = by_hand("lossless", 8)
    steps = int(result.steps_taken)
    rows = rows_of(count_rows(result))
    spikes = result.spike_counts["site"]
    assert rows["first", "linear"].snn == {"mac": 4}  # both inputs change once
    assert rows["last", "linear"].snn == {"ac": spikes * 3, "mac": 0}
    assert rows["site", "neurons"].snn == {
        "neuron_update": 2 * steps, "threshold_comparison": 2 * 2 * steps, "spike": spikes,
        "membrane_read": 2 * steps, "membrane_write": 2 * steps,
    }  # fmt: skip
    assert rows["input", "input"].snn == {"input_read": 2}
    assert 0 < steps < 8


def test_rows_of_a_product_are_those_counted_by_hand() -> None:
    x = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    rate = count_rows(mst.simulate(mst.convert(HandProduct().eval(), "rate", x), x, 4))
    assert rows_of(rate)["product", "product"].snn == {"ac": 3 * 4 * 2}  # 3 queries fire at each of 4 steps, 2 keys
    assert rows_of(rate)["product", "product"].ann == {"mac": 8.0}
    assert rows_of(rate)["last", "linear"].snn == {"mac": 4 * 4}  # reads what is no spike
    result = mst.simulate(mst.convert(HandProduct().eval(), "lossless", x), x, 20)
    lossless = rows_of(count_rows(result))["product", "product"]
    spikes = sum(result.spike_counts.values())
    assert lossless.snn["ac"] == spikes * 2  # either operand's spikes meet two rows of the other
    assert sum(lossless.sources.values()) == pytest.approx(1)
    assert lossless.sources["q"] == pytest.approx(result.spike_counts["q"] / spikes)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_rows_of_masks_count_their_draws(coding: str) -> None:
    result = by_hand(coding, 8, masking_ratio=0.5)
    rows = rows_of(count_rows(result))
    fired = result.spike_counts["site"] + result.dropped_counts["site"]
    assert rows["site", "mask"].snn["mask_draw"] == (fired if coding == "rate" else 2)  # held: one for each neuron
    assert rows["site", "mask"].ann == {"mask_draw": 2.0}
    assert rows["site", "neurons"].snn["spike"] == fired


def test_rows_of_held_masks_count_a_draw_for_each_image() -> None:
    images = torch.tensor([[1.0, 0.5], [0.5, 1.0], [0.0, 0.0]])
    result = mst.simulate(mst.convert(Hand(masking_ratio=0.5).eval(), "lossless", images), images, 8)
    assert rows_of(count_rows(result))["site", "mask"].snn == {"mask_draw": 2}


def test_rows_of_the_input_hold_every_slice() -> None:
    snn = mst.convert(nn.Sequential(nn.Linear(2, 2, bias=False), QCFS(2, 1.0)).eval(), "lossless", torch.rand(1, 2))
    result = mst.simulate(snn, torch.rand(3, 6, 2), 6, in_slices=True)
    assert rows_of(count_rows(result))["input", "input"].snn == {"input_read": 2 * 6}


def test_rows_do_not_change_when_the_threshold_is_scaled_with_the_weights() -> None:
    images = torch.tensor([[1.0, 0.5]])
    for coding in ("rate", "lossless"):
        plain, scaled = by_hand(coding, 8), by_hand(coding, 8, threshold=4.0)
        assert scaled.spike_counts != plain.spike_counts  # alone it does
        wide = mst.simulate(mst.convert(_scaled(4.0), coding, images), images, 8)
        assert [row.snn for row in count_rows(wide)] == [row.snn for row in count_rows(plain)]


def _scaled(factor: float) -> nn.Module:
    network = Hand(threshold=factor).eval()
    with torch.no_grad():
        network.first.weight.mul_(factor)
    return network


def test_rows_of_neurons_that_fire_at_every_step_cost_the_dense_count_at_each() -> None:
    model = nn.Sequential(QCFS(4, 1.0), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten()).eval()
    images = torch.full((2, 2, 4, 4), 5.0)
    result = mst.simulate(mst.convert(model, "rate", images), images, 5)
    conv = rows_of(count_rows(result))["1", "convolution"]
    assert result.spikes_per_neuron == 5
    # along each axis 3 taps at 4 places without the two that meet the border, whose zeros only the dense ANN multiplies
    assert conv.snn["ac"] == 5 * 2 * 3 * (3 * 4 - 2) ** 2
    assert conv.ann["mac"] == 2 * 3 * (3 * 4) ** 2
    valid = nn.Sequential(QCFS(4, 1.0), nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 3)).eval()
    row = rows_of(count_rows(mst.simulate(mst.convert(valid, "rate", images), images, 5)))["1", "convolution"]
    assert row.snn["ac"] == 5 * row.ann["mac"] == 5 * 9 * 3 * 2 * 4


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("layers.0.blocks.1.attn.qkv", "layers.0"),
        ("layer1.0.conv1", "layer1"),
        ("blocks.3.mlp.act (gelu)", "blocks.3"),
        ("head", "head"),
        ("(the network itself) (gelu)", "(the network itself)"),
        ("patch_embed.proj (2)", "patch_embed"),
    ],
)
def test_stage_of_a_module_is_its_part_of_the_network(name: str, stage: str) -> None:
    assert stage_of(name) == stage


def test_rows_know_the_words_of_their_memories() -> None:
    rows = rows_of(count_rows(by_hand("rate")))
    assert rows["last", "linear"].sizes == {"weights": 6.0, "activations": 2.0, "potentials": 3.0}
    assert rows["last", "linear"].stage == "last"
    assert rows["first", "linear"].sources == {ANALOG: 1.0}
