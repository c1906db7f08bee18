"""Counts of operations while a simulation runs: what arrives at their modules, times the outputs that it reaches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn

from mst.models import ActivationProduct, LinearFunction
from mst.neurons import RunState, SpikingNeuron, current_run

from .call_observer import unobserved
from .fan_out import CONVOLUTIONS, TRANSPOSED, conv_fan_out
from .trace import Operation, OperationCount

COMMON_ASSUMPTIONS = (
    "BatchNorm after a linear map costs nothing, if nothing else reads that map: it folds into the weights.",
    "The ANN costs its dense MACs once; zeros in its activations save nothing.",
    "Not counted, for either: memory traffic, bias and residual additions, pooling, membrane updates.",
)
"""Assumptions of every counter."""


class OperationCounter(ABC):
    """Sees the input of every counted operation and adds up what it spends, step by step.

    A coding names the class of its counter (see `mst.conversion.Coding`); a simulation makes one for its run.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in the network.
        num_steps: T.
        in_slices: True if the images are slices over time, whose values arrive like spikes.
    """

    assumptions: ClassVar[tuple[str, ...]] = COMMON_ASSUMPTIONS
    """Assumptions of its counts, one sentence each; printed with the figures."""

    counts_changes: ClassVar[bool] = False
    """True if it counts what has changed since the step before. The network is then run once before step 0, at rest."""

    def __init__(
        self, network: nn.Module, operations: tuple[Operation, ...], num_steps: int, in_slices: bool = False
    ) -> None:
        self._operations = operations
        self._in_slices = in_slices
        counted = [op for op in operations if self._is_counted(op)]
        self._counted = {(op.module, op.call_number): op for op in counted}
        self._modules = {op.module: network.get_submodule(op.module) for op in counted}
        self._neurons = {m.site: m for m in network.modules() if isinstance(m, SpikingNeuron)}
        self._num_steps = num_steps
        self._acs: dict[str, Tensor] = {}  # on the device of the spikes, so that counting never waits for it
        self._macs: dict[str, Tensor] = {}
        self._run: RunState | None = None
        self._pass: int | None = None
        self._calls: Counter[str] = Counter()
        self._fan_out: dict[tuple[str, tuple[int, ...]], Tensor | int] = {}

    @contextmanager
    def counting(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run; other runs of the same network are not counted here."""
        self._run, self._pass = run, None
        handles = [m.register_forward_pre_hook(self._hook(path), with_kwargs=True) for path, m in self._modules.items()]
        try:
            yield
        finally:
            self._run = None
            for handle in handles:
                handle.remove()

    @abstractmethod
    def counts(self) -> tuple[OperationCount, ...]:
        """Counts so far, one entry per traced operation."""

    @abstractmethod
    def _is_counted(self, op: Operation) -> bool:
        """True if the calls of this operation are to be observed."""

    @abstractmethod
    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        """Count one call; its inputs are [T*B*k, ...], time outermost."""

    def _hook(self, path: str) -> Callable[..., None]:
        # In another thread that runs the same network, torch may call a hook that is just being registered or removed
        # without the keywords that it asked for.
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor] | None = None) -> None:
            run = self._run
            if run is None or current_run() is not run or kwargs is None:
                return
            if run.step != self._pass:  # another pass through the network begins
                self._pass = run.step
                self._calls.clear()
            self._calls[path] += 1
            operation = self._counted.get((path, self._calls[path]))
            if operation is not None:
                with unobserved():
                    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
                    self._observe(operation, module, tensors, run)

        return hook

    def _add(self, totals: dict[str, Tensor], name: str, spent: Tensor, run: RunState) -> None:
        """Add int64 [T], what an operation has spent in each step of the chunk."""
        if name not in totals:
            totals[name] = torch.zeros(self._num_steps, dtype=torch.int64, device=spent.device)
        totals[name][run.step : run.step + run.steps_in_chunk] += spent

    def _total(self, totals: dict[str, Tensor], op: Operation) -> Tensor:
        return totals[op.name].cpu() if op.name in totals else torch.zeros(self._num_steps, dtype=torch.int64)

    def _reached(
        self, op: Operation, module: nn.Module, operand: int, inputs: list[Tensor], arriving_TB: Tensor
    ) -> Tensor:
        """int64 [T]: what arrives at one operand [T, B*k, ...], each times the outputs that it reaches."""
        if isinstance(module, nn.Linear | LinearFunction):
            weight = module.weight if isinstance(module, nn.Linear) else inputs[1]
            return per_step(arriving_TB) * len(weight)
        if isinstance(module, ActivationProduct):
            left, right = inputs[:2]
            columns = right.shape[-2] if module.transpose_right else right.shape[-1]
            batch = math.prod(max(pair) for pair in zip_longest(*(x.shape[-3::-1] for x in (left, right)), fillvalue=1))
            copies = batch // max(1, inputs[operand].shape[:-2].numel())  # an axis of one entry meets all of the other
            return per_step(arriving_TB) * ((columns if operand == 0 else left.shape[-2]) * copies)
        assert isinstance(module, (*CONVOLUTIONS, *TRANSPOSED))
        if op.mean_fan_out is not None:
            mean: Tensor = per_step(arriving_TB) * op.mean_fan_out
            return mean.round().to(torch.int64)
        places = tuple(arriving_TB.shape[3:])
        if (op.name, places) not in self._fan_out:
            self._fan_out[op.name, places] = conv_fan_out(
                module, *places, output=op.output_places or None, padding=op.padding
            )
        fan_out = self._fan_out[op.name, places]
        if isinstance(fan_out, int):
            return per_step(arriving_TB) * fan_out
        by_place = arriving_TB.sum(dim=(1, 2), dtype=torch.float64).round().to(torch.int64)
        return (by_place * fan_out.to(by_place.device)).flatten(1).sum(dim=1)


def per_step(values: Tensor) -> Tensor:
    """[T, B*k, ...] whole numbers >= 0 -> int64 [T], their sums, exactly."""
    rows = values.flatten(2) if values.dim() > 2 else values[:, :, None]
    wide = torch.float64 if rows.shape[-1] >= 2**18 else torch.promote_types(rows.dtype, torch.float32)
    return rows.sum(dim=-1, dtype=wide).to(torch.int64).sum(dim=1)
