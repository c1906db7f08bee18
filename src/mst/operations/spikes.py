"""Operations of a network whose neurons send values: accumulations for spikes; analog operations are dense."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.models import ActivationProduct
from mst.neurons import RunState, sum_dtype

from .counter import COMMON_ASSUMPTIONS, OperationCounter
from .trace import Operation, OperationCount


class SpikeCounter(OperationCounter):
    """Counts the accumulations of spike-driven operations.

    Of slices over time, it also counts the MACs of convolutions that read the image, one for each value that is not 0
    and output that it reaches. Other analog operations are not observed: they spend their dense MACs at every step.
    """

    assumptions = (
        "An operation whose input is spikes costs one AC per recorded spike and output that the spike reaches.",
        "A masked (dropped) spike reaches nothing.",
        "Pooling costs nothing itself: each spike that passes an average pool is counted at the map behind it.",
        "In q·kᵀ each query spike is added against every key of its window; in softmax·v each value spike is added "
        "for every query of its window.",
        "Operations on analog values cost their dense MACs at every step: patch embedding (the image is presented at "
        "each step), patch merging, head, BatchNorm that does not follow a linear map (1 MAC per element), LayerNorm "
        "(3) and softmax (3).",
        "Slices over time (of event recordings) drive the convolution that reads them as spikes would: one MAC per "
        "value that is not 0 and output it reaches.",
        *COMMON_ASSUMPTIONS,
    )

    def counts(self) -> tuple[OperationCount, ...]:
        """Counts so far, one entry per traced operation."""
        return tuple(
            OperationCount(
                op, self._total(self._acs, op), self._total(self._macs, op) if self._counts_macs(op) else None
            )
            for op in self._operations
        )

    def _counts_macs(self, op: Operation) -> bool:
        return op.reads_input and self._in_slices

    def _is_counted(self, op: Operation) -> bool:
        return op.is_spike_driven or self._counts_macs(op)

    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        operand = op.driving_input if isinstance(module, ActivationProduct) else 0
        x = inputs[operand]
        arriving = self._arriving(x.reshape(run.steps_in_chunk, -1, *x.shape[1:]), op)
        totals = self._macs if self._counts_macs(op) else self._acs
        self._add(totals, op.name, self._reached(op, module, operand, inputs, arriving), run)

    def _arriving(self, x_TB: Tensor, op: Operation) -> Tensor:
        """Number of spikes that each value [T, B*k, ...] stands for: 0 or 1, or more where an average has added them
        up."""
        if op.pooled == 1:  # straight into floats: on a CPU a bool in between costs several times as much
            return torch.ne(x_TB, 0, out=torch.empty_like(x_TB, memory_format=torch.contiguous_format))
        (site,) = op.sources
        threshold = self._neurons[site].threshold
        if threshold.numel() > 1:
            threshold = threshold.reshape(-1, *[1] * (x_TB.dim() - 3))  # of one channel each, on axis 2
        wide = sum_dtype(x_TB.dtype)
        return (x_TB.to(wide) * (op.pooled / threshold.to(wide))).round_()
