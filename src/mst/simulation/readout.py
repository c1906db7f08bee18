"""Read-out of a network after each step: the mean of the logits so far, or the logits as they are.

Letters: T steps, B images of a batch, N images, K what the network returns for one image (its classes, or a map).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mst.conversion import CODINGS
from mst.errors import InputError
from mst.neurons import sum_dtype

from .result import SimulationResult


class RunningReadout:
    """Read-out of one batch, chunk by chunk.

    Args:
        averages_logits: True for the mean of the logits so far (see `Coding.averages_logits`).
    """

    def __init__(self, averages_logits: bool) -> None:
        self._averages = averages_logits
        self._total: Tensor | None = None

    def after(self, logits_TBK: Tensor) -> Tensor:
        """[T, B, K] -> [T, B, K], what the predictions are read from: the sums of the logits so far, which rank the
        classes as their means do, in float32 or wider; or the logits."""
        if not self._averages:
            return logits_TBK
        sums_TBK = logits_TBK.cumsum(dim=0, dtype=sum_dtype(logits_TBK.dtype))
        if self._total is not None:
            sums_TBK += self._total
        self._total = sums_TBK[-1]
        return sums_TBK

    def in_logits(self, readout: Tensor, steps: int) -> Tensor:
        """The read-out after `steps` steps in units of logits: sums become means."""
        return readout / steps if self._averages else readout

    def keep_images(self, kept: Tensor) -> None:
        """Forget the images that have left; kept: bool [B]."""
        if self._total is not None:
            self._total = self._total[kept]


def readouts_of(result: SimulationResult) -> Tensor:
    """[T, N, K]: the read-out after each step, in units of logits.

    Raises:
        InputError: the step logits were not kept.
    """
    if result.step_logits is None:
        raise InputError("the logits of the steps were not kept", remedy="simulate with keep_step_logits=True")
    if not CODINGS[result.coding].averages_logits:
        return result.step_logits
    logits, wide = result.step_logits, sum_dtype(result.step_logits.dtype)
    steps = torch.arange(1, result.num_steps + 1, dtype=wide)
    return logits.cumsum(dim=0, dtype=wide) / steps.view(-1, *[1] * (logits.dim() - 1))
