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

    Behind a max-pool, where it is not known which neuron's spike arrives, it counts values that are not 0. Of slices
    over time, it also counts the MACs of convolutions that read the image, one for each value that is not 0 and output
    that it reaches. Other analog operations are not observed: they spend their dense MACs at every step.
    """

    assumptions = (
        "An operation whose input is spikes costs one AC per recorded spike and output that the spike reaches.",
        "A masked (dropped) spike reaches nothing.",
        "Pooling costs nothing itself: each spike that passes an average pool is counted at the map behind it.",
        "BatchNorm that does not follow a linear map costs one AC per spike that arrives, or 1 MAC per element and "
        "step if its input is analog.",
        "In q·kᵀ each query spike is added against every key of its window; in softmax·v each value spike is added "
        "for every query of its window.",
        "Operations on analog values cost their dense MACs at every step: patch embedding (the image is presented at "
        "each step), head, LayerNorm (3 MACs per element) and softmax (3).",
        "Slices over time (of event recordings) drive the convolution that reads them as spikes would: one MAC per "
        "value that is not 0 and output it reaches.",
        *COMMON_ASSUMPTIONS,
    )

    def counts(self) -> tuple[OperationCount, ...]:
        """Counts so far, one entry per traced operation."""
        return tuple(
            OperationCount(
                op,
                self._total(self._acs, op),
                self._total(self._macs, op) if self._counts_macs(op) else None,
                self._acs_by_source(op),
            )
            for op in self._operations
        )

    def _counts_macs(self, op: Operation) -> bool:
        return op.reads_input and self._in_slices

    def _drives(self, op: Operation, operand: int) -> bool:
        return operand == op.driving_input

    def _number(self, spikes_TB: Tensor) -> Tensor:
        return _flags(spikes_TB)  # each is a threshold, or 0

    def _is_counted(self, op: Operation) -> bool:
        by_values = op.is_spike_driven and not self._fan_out(op, op.driving_input)
        return by_values or self._counts_macs(op)

    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        operand = op.driving_input if isinstance(module, ActivationProduct) else 0
        x = inputs[operand]
        arriving = self._arriving(x.reshape(run.steps_in_chunk, -1, *x.shape[1:]), op)
        totals = self._macs if self._counts_macs(op) else self._acs
        self._add(totals, op.name, self._reached(op, module, operand, inputs, arriving), run)

    def _arriving(self, x_TB: Tensor, op: Operation) -> Tensor:
        """Number of spikes that each value [T, B*k, ...] stands for: 0 or 1, or more where an average has added them
        up."""
        if op.pooled == 1:
            return _flags(x_TB)
        (site,) = op.sources
        threshold = self._neurons[site].threshold
        if threshold.numel() > 1:
            threshold = threshold.reshape(-1, *[1] * (x_TB.dim() - 3))  # of one channel each, on axis 2
        wide = sum_dtype(x_TB.dtype)
        return (x_TB.to(wide) * (op.pooled / threshold.to(wide))).round_()


def _flags(x: Tensor) -> Tensor:
    """1 where a value is not 0, else 0, in floating point."""
    # Straight into floats: on a CPU a bool in between costs several times as much.
    return torch.ne(x, 0, out=torch.empty_like(x, memory_format=torch.contiguous_format))
