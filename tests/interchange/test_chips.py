"""Networks held against chips, counted by hand."""

from __future__ import annotations

import torch
from torch import nn

import mst
from exported_networks import IMAGES, branched, simple
from mst.interchange import ChipCheck, check_chip, quantize_weights, trace_graph


def needs(check: ChipCheck, where: str) -> dict[str, tuple[float, float]]:
    return {need.what: (need.needed, need.limit) for need in check.needs if need.where == where}


def test_speck_counts_what_a_core_must_hold() -> None:
    check = check_chip(quantize_weights(trace_graph(simple())), "speck")
    # 3x3 kernels take 16 places each, 3 outputs 4: 2 · 16 · 4 words; 3 outputs of 2x2 neurons: 3 · 4 words.
    first = needs(check, "1")
    assert first["kernel memory"] == (128 / 1024, 64)
    assert first["neuron memory"] == (12 / 1024, 64)
    assert first["kernel"] == (3, 16)
    assert first["features"] == (3, 1024)
    # The pool 2x2 is the chip's; the linear map behind it reads 3 inputs of one pixel: 3 · 1 · 4 words.
    assert needs(check, "5")["kernel memory"] == (12 / 1024, 64)
    assert needs(check, "")["layers"] == (3, 9)
    assert needs(check, "")["layers, each in a core that is large enough"] == (3, 3)
    assert check.fits
    assert all("SynSense" in source for source in check.sources)


def test_state_holds_the_threshold_and_the_largest_sum() -> None:
    with torch.no_grad():
        layer, head = nn.Linear(2, 1), nn.Linear(1, 2)
        layer.weight.copy_(torch.tensor([[1.0, -0.5]]))
        layer.bias.fill_(0.25)
    model = nn.Sequential(layer, mst.QCFS(4, 1.0), head)
    check = check_chip(trace_graph(model, torch.rand(1, 2)), "loihi2")
    # Scale 1/127: 127 + 63.5 (a tie, to 64) + 31.75 + 127 = 349.75, and a sign.
    assert needs(check, "1")["state"] == (10, 24)


def test_speck_refuses_sums_of_maps_pools_and_sizes_by_how_much() -> None:
    check = check_chip(trace_graph(branched()), "speck")
    said = [what for _, what in check.refusals]
    assert any(what.startswith("adds up the results of 2 maps") for what in said)
    network = nn.Sequential(
        nn.Conv2d(2, 1025, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(1025 * 4, 2)
    )
    check = check_chip(trace_graph(mst.quantize(network, 4, calibration=IMAGES)), "speck")
    assert needs(check, "1")["features"] == (1025, 1024)
    assert needs(check, "1")["kernel memory"] == (2 * 16 * 2048 / 1024, 64)
    assert {need.what for need in check.too_large} == {
        "features", "neuron memory", "state", "layers, each in a core that is large enough",
    }  # fmt: skip
    assert check.refusals == (("2", "pools (3, 3) with stride (3, 3); the chip has 1:1, 1:2 and 1:4"),)
    assert not check.fits


def test_loihi2_counts_cores_by_neurons_and_by_memory() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 9000), nn.ReLU(), nn.Linear(9000, 3))
    check = check_chip(trace_graph(mst.quantize(network, 4, calibration=IMAGES)), "loihi2")
    # 72 bytes of weights and 3 of state for each neuron: 2,621 fit into 192 KiB. The last: 9,003 bytes each, 3 in one.
    assert needs(check, "2")["cores"] == (4, 128)
    assert needs(check, "3")["cores"] == (1, 128)
    assert needs(check, "")["cores"] == (5, 128)
    assert needs(check, "")["synapses"] == (72 * 9000 + 3 * 9000, 120_000_000)
    assert check.fits
