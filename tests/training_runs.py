"""Short trainings of a small network, for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from conftest import tiny_config
from mst.checkpoints import CheckpointInfo
from mst.models import MaskedSpikingTransformer
from mst.training import (
    TrainConfig,
    TrainingObserver,
    TrainingResult,
    train,
)

QUICK = TrainConfig(epochs=4, batch_size=8, learning_rate=5e-3, warmup_epochs=1, eval_batch_size=16, trackers=())


def data(count: int = 32) -> TensorDataset:
    """Three classes told apart by which third of the image is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.rand(count, 1, 8, 8, generator=generator) - 0.5
    for i, label in enumerate(labels):
        images[i, :, 2 * int(label) : 2 * int(label) + 3] += 1.0
    return TensorDataset(images, labels)


def fresh(**options: Any) -> MaskedSpikingTransformer:
    torch.manual_seed(0)
    return MaskedSpikingTransformer(tiny_config(**{"threshold": 0.5, "depths": (1, 1), **options}))


def run(
    output: Path, config: TrainConfig = QUICK, model: MaskedSpikingTransformer | None = None, **kw: Any
) -> TrainingResult:
    return train(model or fresh(), data(), data(), output, config, CheckpointInfo("three"), **kw)  # type: ignore[arg-type]


def after_step(call: Callable[[int], object]) -> TrainingObserver:
    """An observer that calls `call` with the number of steps done, after each step and when a run is resumed."""
    return TrainingObserver(lambda progress: call(progress.done) if progress.done else None)


def losses(result: TrainingResult) -> list[float]:
    return [record.loss for record in result.history]
