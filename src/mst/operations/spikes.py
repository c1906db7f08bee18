"""What a network under rate coding spends: accumulations for the spikes that arrive; analog operations are dense."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.models import ActivationProduct
from mst.neurons import RunState

from .counter import Recorder
from .trace import Operation, OperationCount


class SpikeRecorder(Recorder):
    """Counts the accumulations of the spike-driven operations of one simulation.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in it.
        num_steps: T.
        count_input: count the MACs of convolutions that read the image, one for each value that is not 0 and output it
            reaches, instead of taking all.
    """

    def __init__(
        self, network: nn.Module, operations: tuple[Operation, ...], num_steps: int, count_input: bool = False
    ) -> None:
        self._of_input = {op.name for op in operations if op.reads_input and count_input}
        counted = tuple(op for op in operations if op.is_spike_driven or op.name in self._of_input)
        super().__init__(network, operations, counted, num_steps)

    def counts(self) -> tuple[OperationCount, ...]:
        """What has been recorded, one entry per traced operation."""
        return tuple(
            OperationCount(
                op,
                self._recorded(self._acs, op),
                self._recorded(self._macs, op) if op.name in self._of_input else None,
            )
            for op in self._operations
        )

    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        operand = op.driving_input if isinstance(module, ActivationProduct) else 0
        x = inputs[operand]
        arriving = self._arriving(x.reshape(run.steps_in_chunk, -1, *x.shape[1:]), op)
        totals = self._macs if op.name in self._of_input else self._acs
        self._add(totals, op.name, self._reached(op, module, operand, inputs, arriving), run)

    def _arriving(self, x_TB: Tensor, op: Operation) -> Tensor:
        """How many spikes each value [T, B*k, ...] stands for: 0 or 1, or more where an average has added them up."""
        if op.pooled == 1:  # straight into floats: on a CPU a bool in between costs several times as much
            return torch.ne(x_TB, 0, out=torch.empty_like(x_TB, memory_format=torch.contiguous_format))
        (site,) = op.sources
        threshold = self._neurons[site].threshold
        if threshold.numel() > 1:
            threshold = threshold.reshape(-1, *[1] * (x_TB.dim() - 3))  # of one channel each, on axis 2
        return (x_TB * (op.pooled / threshold)).round_()
