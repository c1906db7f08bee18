"""Throughput of a network, in images per second."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from mst.errors import InputError

WARM_UP = 2
"""Batches before the clock starts."""


def measure_throughput(model: nn.Module, images: Tensor, seconds: float = 5.0) -> float:
    """Images per second of an ANN in evaluation mode, in repeated passes over one batch.

    Args:
        model: [B, ...] -> logits.
        images: one batch, on the model's device.
        seconds: duration; at least two passes are made.

    Raises:
        InputError: no images.
    """
    if len(images) == 0:
        raise InputError("throughput needs at least one image")

    def wait() -> None:
        if images.device.type != "cpu":
            torch.accelerator.synchronize(images.device)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for _ in range(WARM_UP):
                model(images)
            wait()
            began, passes = time.perf_counter(), 0
            while passes < 2 or time.perf_counter() - began < seconds:
                model(images)
                wait()
                passes += 1
            return passes * len(images) / (time.perf_counter() - began)
    finally:
        model.train(was_training)
