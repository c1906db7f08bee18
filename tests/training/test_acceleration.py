"""Compiled steps, and images with the channels last: the same training, faster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons.functional import qcfs
from mst.training import TrainConfig, acceleration
from training_runs import QUICK, data, losses

pytestmark = pytest.mark.slow

SHORT = dataclasses.replace(QUICK, epochs=2)


def small() -> nn.Module:
    """Two convolutions, two sites and a linear map."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()]
    return mst.quantize(nn.Sequential(*layers, nn.Linear(64, 3)), 8)


def names(result: mst.TrainingResult) -> list[str]:
    with safe_open(str(result.last_checkpoint), "pt") as file:
        return sorted(file.keys())


def train(output: Path, config: TrainConfig, model: nn.Module) -> mst.TrainingResult:
    return mst.train(model, data(), data(), output, config, mst.CheckpointInfo("three"))  # type: ignore[arg-type]


def counting(calls: list[int]) -> Callable[..., Any]:
    """A compiler that keeps what it is given."""

    def compiler(graph: nn.Module, inputs: list[Tensor]) -> nn.Module:
        calls.append(len(inputs))
        return graph

    return compiler


def test_train_compiled_is_the_training_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(acceleration, "COMPILER", counting(calls))
    plain = train(tmp_path / "plain", SHORT, small())
    assert calls == []
    compiled = train(tmp_path / "compiled", dataclasses.replace(SHORT, compile=True), small())
    assert len(calls) == 2  # the probe, and the network in one graph
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert names(compiled) == names(plain)
    with pytest.raises(InputError, match=r"trained with other settings \(train.compile: True -> False\)"):
        mst.train(small(), data(), data(), tmp_path / "compiled", SHORT, mst.CheckpointInfo("three"), resume=True)  # type: ignore[arg-type]


def test_train_compiled_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: nn.Module, inputs: list[Tensor]) -> nn.Module:
        raise OSError("no C++ compiler was found")

    monkeypatch.setattr(acceleration, "COMPILER", broken)
    with pytest.raises(InputError, match="does not work on cpu here.*no C.. compiler was found.*install a C") as caught:
        train(tmp_path, dataclasses.replace(SHORT, compile=True), small())
    assert caught.value.where == "train.compile"
    assert not list(tmp_path.iterdir())


def test_config_refuses_to_compile_with_a_spike_penalty() -> None:
    with pytest.raises(InputError, match="leave one of train.spike_penalty and train.compile out"):
        TrainConfig(compile=True, spike_penalty=0.1)


def test_train_channels_last_reaches_the_convolutions_and_changes_nothing(tmp_path: Path) -> None:
    seen: set[bool] = set()
    model = small()
    model.get_submodule("4").register_forward_hook(
        lambda module, inputs, output: seen.add(inputs[0].is_contiguous()) if module.training else None
    )
    last = train(tmp_path / "last", dataclasses.replace(SHORT, channels_last=True), model)
    assert seen == {False}
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert losses(last) == pytest.approx(losses(train(tmp_path / "plain", SHORT, small())), rel=1e-4)


class _Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.relu = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)), nn.ReLU()
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.convolutions(x))
        z: Tensor = self.head(y.view(len(y), -1))
        return z


def test_train_channels_last_is_refused_for_a_network_that_does_not_take_it(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, channels_last=True)
    with pytest.raises(InputError, match="does not take images with the channels last.*use reshape") as caught:
        train(tmp_path, config, mst.quantize(_Viewing(), 8))
    assert caught.value.where == "train.channels_last"
    flat = torch.utils.data.TensorDataset(torch.rand(32, 5), torch.arange(32) % 3)
    network = mst.quantize(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), 8)
    with pytest.raises(InputError, match=r"channels_last is for images \[C, height, width\], got \[5\]"):
        mst.train(network, flat, flat, tmp_path, config, mst.CheckpointInfo())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("of_gradient", [torch.channels_last, torch.contiguous_format])
def test_qcfs_gradients_do_not_depend_on_the_memory_format(of_gradient: torch.memory_format) -> None:
    x, grad = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    found = []
    for x_format, grad_format in (
        (torch.contiguous_format, torch.contiguous_format),
        (torch.channels_last, of_gradient),
    ):
        leaf = x.contiguous(memory_format=x_format).requires_grad_()
        threshold = torch.tensor([1.5], requires_grad=True)
        y = qcfs(leaf, threshold, 8)
        found.append((y, *torch.autograd.grad(y, (leaf, threshold), grad.contiguous(memory_format=grad_format))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
