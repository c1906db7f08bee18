"""A small network whose answers differ and need several steps, for the tests of early exit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mst
from mst.simulation import SimulationResult


def network(coding: str) -> mst.SpikingNetwork:
    """A network of few neurons with strong weights, so that its answers differ and need several steps."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 30), mst.QCFS(16, 1.0, masking_ratio=0.25), nn.Linear(30, 30), mst.QCFS(16, 1.0),
        nn.Linear(30, 30), mst.QCFS(16, 1.0), nn.Linear(30, 3),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.5 / module.in_features**0.5)
    return mst.convert(model.double().eval(), coding, some_images())  # type: ignore[arg-type]


def some_images() -> Tensor:
    return torch.rand(24, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 4 - 1


def whole_run(coding: str) -> SimulationResult:
    """A run without early exit; for most images the label is the ANN's answer."""
    torch.set_num_threads(1)
    snn = network(coding)
    labels = mst.simulate(snn, some_images(), 40).logits.argmax(1)
    labels[::6] = (labels[::6] + 1) % 3
    return mst.simulate(snn, (some_images(), labels), 40, keep_step_logits=True)
