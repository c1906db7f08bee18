"""Simulations on a CUDA device without values: no operation mixes devices, and the loop over steps does not wait."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

import mst
from conftest import tiny_config
from fake_cuda import fake_cuda
from mst.conversion import SpikingNetwork
from mst.models import MaskedSpikingTransformer

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


def images() -> torch.Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def activations(rule: str = "random") -> nn.Module:
    layers = (nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2))
    plain = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    return mst.mask_spikes(mst.quantize(plain, 4, images()), 0.5, "all", rule)


def products() -> nn.Module:
    layers = (nn.Conv2d(1, 2, 4, stride=4), nn.GELU(), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 4), nn.Softmax(-1))
    plain = nn.Sequential(*layers, nn.Linear(4, 3)).eval()
    quantized = mst.quantize(plain, 15, images(), placement="products", image_site=True, per_channel=True)
    return mst.mask_spikes(quantized, 0.5, "all", "token")


def transformer() -> nn.Module:
    model = MaskedSpikingTransformer(tiny_config(depths=(1,), num_heads=(2,), img_size=4)).eval()
    return mst.mask_spikes(model, 0.5, "query")


CASES = {
    "rate": lambda: mst.convert(activations(), "rate", images()),
    "lossless": lambda: mst.convert(activations("channel"), "lossless", images(), burst=2, initial_images=images()),
    "products": lambda: mst.convert(products(), "lossless", images(), burst=2),
    "mst": lambda: mst.convert(transformer(), "lossless"),
}


@pytest.mark.parametrize("case", CASES)
def test_simulation_on_cuda_keeps_every_tensor_there_and_does_not_wait_within_a_step(case: str) -> None:
    snn: SpikingNetwork = CASES[case]()
    with fake_cuda() as device:
        device.moved(snn)
        size = 4 if case == "mst" else 8
        data = torch.rand(4, 1, size, size), torch.zeros(4, dtype=torch.int64)  # on the CPU, as from a loader
        result = mst.simulate(snn, data, 3, steps_per_chunk=2, record_operations=case != "mst")
        assert result.logits.device.type == "cpu"
        assert len(result.accuracy) == 3  # type: ignore[arg-type]
        assert {site.sent_per_step.device.type for site in result.sites.values()} == {"cpu"}
    waits = Counter((wait.file, wait.function) for wait in device.waits if wait.in_loop)
    assert waits.pop(("accuracy.py", "check_labels")) <= 2  # with the first step
    if snn.coding.settles:  # whether all have settled decides whether there is a next step
        assert set(waits) == {
            ("simulation/outcome.py", "_note_settled"), ("simulation/outcome.py", "leaving"),
            ("simulation/loop.py", "_run"),
        }  # fmt: skip
        assert all(number <= 3 * 2 for number in waits.values())  # two chunks
    else:
        assert not waits


@pytest.mark.parametrize(("case", "rule"), [("rate", "stability"), ("lossless", "margin")])
def test_early_exit_on_cuda_keeps_every_tensor_there(case: str, rule: str) -> None:
    snn: SpikingNetwork = CASES[case]()
    with fake_cuda() as device:
        device.moved(snn)
        device.yes = ("_run",)  # half of the images leave after each step
        data = torch.rand(4, 1, 8, 8, device="cuda"), torch.zeros(4, dtype=torch.int64)
        result = mst.simulate(snn, data, 3, early_exit=mst.EarlyExit(rule, 1.0), record_operations=False)  # type: ignore[arg-type]
        assert result.logits.shape == (4, 3)
    assert any(wait.function == "keep_images" for wait in device.waits)


def test_settled_images_leave_on_cuda() -> None:
    snn: SpikingNetwork = CASES["lossless"]()
    with fake_cuda() as device:
        device.moved(snn)
        device.yes = ("_run",)
        result = mst.simulate(snn, torch.rand(4, 1, 8, 8), 3, drop_settled=True, input_steps=2, record_operations=False)
        assert result.logits.shape == (4, 3)
    assert any(wait.function == "keep_images" for wait in device.waits)


def test_slices_over_time_stay_on_cuda() -> None:
    snn: SpikingNetwork = CASES["lossless"]()
    with fake_cuda() as device:
        device.moved(snn)
        result = mst.simulate(snn, torch.rand(4, 2, 1, 8, 8), 3, in_slices=True, record_operations=False)
        assert result.logits.shape == (4, 3)


def test_fake_device_refuses_what_a_real_one_would() -> None:
    with fake_cuda() as device:
        there, here = torch.rand(3, device="cuda"), torch.rand(3)
        with pytest.raises(RuntimeError, match="device"):
            there * here
        assert (there > 0).any().device.type == "cuda"
        assert not device.waits
        assert not bool((there > 0).any())
        assert [wait.in_loop for wait in device.waits] == [False]
