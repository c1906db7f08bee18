"""Operations of a network whose neurons send changes: each works on what has changed in its input since the last step.

A spike costs one accumulation (AC) per output it reaches. A change that no spikes of known sites make is an analog
value, and costs one multiply-accumulation (MAC) per output it reaches. What has not changed costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.models import ActivationProduct, LinearFunction
from mst.neurons import RunState, SignedIFNeuron, kernels, sum_dtype
from mst.neurons.powers import count_powers

from .counter import COMMON_ASSUMPTIONS, OperationCounter, per_step
from .fan_out import CONVOLUTIONS, TRANSPOSED
from .trace import (
    BATCH_NORM_MACS_PER_ELEMENT,
    LAYER_NORM_MACS_PER_ELEMENT,
    SOFTMAX_MACS_PER_ELEMENT,
    Operation,
    OperationCount,
)

ROUNDING = 32
"""A change of an analog value by fewer units of its last place is rounding and not counted; in half precision, where
this would be a few per cent, the limit is 2 units."""


class ChangeCounter(OperationCounter):
    """Counts what every operation spends on what has changed in its input."""

    assumptions = (
        "Each operation works on what has changed in its input since the step before; what has not changed costs "
        "nothing.",
        "A spike, of either sign, costs one AC per output that it reaches; of a burst each spike does. A weighted "
        "spike is a spike: its weight is known from the step, or sent with it under the free schedule (a power of two: "
        "a shift of what is accumulated).",
        "A masked (dropped) spike reaches nothing.",
        "Any other change (of the image, of a softmax, of the output of a linear map without a site) is an analog "
        "value and costs one MAC per output that it reaches.",
        "Both operands of a product drive it: q·kᵀ changes with the query's spikes (times the keys) and the key's "
        "(times the queries).",
        "A softmax or LayerNorm is computed again, 3 MACs per element, for each row in which anything has changed; "
        "BatchNorm that does not follow a linear map costs one AC per spike that arrives, or 1 MAC per changed element "
        "if its input is analog.",
        "Behind an average pool every spike is counted, also those of opposite signs in one window.",
        "Behind a max-pool a change of the largest value stands for as many spikes as its size takes; bursts and free "
        "spikes of several sites, or of thresholds by channel, that meet there are paid as analog values, and behind a "
        "further average pool spikes of opposite signs cancel.",
        *COMMON_ASSUMPTIONS,
    )
    counts_changes = True

    def counts(self) -> tuple[OperationCount, ...]:
        """Counts so far, one entry per traced operation."""
        return tuple(
            OperationCount(op, self._total(self._acs, op), self._total(self._macs, op), self._acs_by_source(op))
            for op in self._operations
        )

    def _is_counted(self, op: Operation) -> bool:
        operands = 2 if op.kind == "product" else 1
        return not all(self._fan_out(op, n) or n in op.constant_operands for n in range(operands))

    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        for operand, x in enumerate(inputs[: 2 if isinstance(module, ActivationProduct) else 1]):
            if operand in op.constant_operands or self._fan_out(op, operand):
                continue
            steps_TB = steps_of(run, op.name, f"operand {operand}", x)
            if steps_TB is None:
                continue
            now_TB, before_TB = steps_TB
            spikes_TB = self._spikes(op, module, operand, now_TB, before_TB, run)
            if spikes_TB is not None:
                self._add(self._acs, op.name, self._reached(op, module, operand, inputs, spikes_TB), run)
            else:
                self._add(self._macs, op.name, self._analog(op, module, operand, inputs, now_TB, before_TB), run)

    def _spikes(
        self, op: Operation, module: nn.Module, operand: int, now_TB: Tensor, before_TB: Tensor, run: RunState
    ) -> Tensor | None:
        """Number of spikes that each change [T, B*k, ...] behind a max-pool stands for; None where it is analog, or
        where spikes of several sizes cannot be told apart."""
        neurons = [self._neurons[site] for site in (op.operands[operand] if operand < len(op.operands) else ())]
        signed = [neuron for neuron in neurons if isinstance(neuron, SignedIFNeuron)]
        if not signed:
            return None
        is_free = any(neuron.schedule.is_free for neuron in signed)
        if is_free and op.pooled > 1:
            return None
        may_be_several = is_free or any(neuron.schedule.burst > 1 for neuron in signed)
        if op.pooled == 1 and not may_be_several:  # each change is one spike
            return torch.ne(now_TB, before_TB, out=torch.empty_like(now_TB))
        (neuron, *others), threshold = signed, signed[0].threshold
        if others:
            return None
        if threshold.numel() > 1:  # of one channel each
            if not isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) or threshold.numel() != now_TB.shape[2]:
                return None
            threshold = threshold.reshape(-1, *[1] * (now_TB.dim() - 3))
        weights = torch.tensor([max(1, neuron.weight(run.step + t)) for t in range(run.steps_in_chunk)])
        wide = sum_dtype(now_TB.dtype)
        now_TB, before_TB, threshold = now_TB.to(wide), before_TB.to(wide), threshold.to(wide)
        weights = weights.to(now_TB).view(-1, *[1] * (now_TB.dim() - 1))
        change_TB = (now_TB - before_TB).abs_()
        if is_free:
            return count_powers((change_TB * (neuron.num_levels / threshold)).round_())
        number_TB = (change_TB * (op.pooled * neuron.num_levels / threshold) / weights).round_()
        if op.pooled > 1:
            return number_TB
        return torch.maximum(number_TB, change_TB.sign_())  # the largest of a window may change by less than a spike

    def _analog(
        self, op: Operation, module: nn.Module, operand: int, inputs: list[Tensor], now_TB: Tensor, before_TB: Tensor
    ) -> Tensor:
        """int64 [T]: MACs of what has changed in an analog operand."""
        changed_TB = differ(now_TB, before_TB)
        if isinstance(module, nn.Softmax):
            dim = -1 if module.dim is None else module.dim
            rows = changed_TB.amax(dim=dim if dim < 0 else dim + 1)
            return per_step(rows) * (inputs[0].shape[dim] * SOFTMAX_MACS_PER_ELEMENT)
        if isinstance(module, nn.LayerNorm):
            normalised, shape = tuple(range(-len(module.normalized_shape), 0)), torch.Size(module.normalized_shape)
            if inputs[0].shape[normalised[0] :] != shape:  # a subclass for maps, whose channels are on axis 1
                normalised = (2,)
            return per_step(changed_TB.amax(dim=normalised)) * (shape.numel() * LAYER_NORM_MACS_PER_ELEMENT)
        if isinstance(module, (nn.Linear, LinearFunction, ActivationProduct, *CONVOLUTIONS, *TRANSPOSED)):
            return self._reached(op, module, operand, inputs, changed_TB)
        return per_step(changed_TB) * BATCH_NORM_MACS_PER_ELEMENT


def steps_of(run: RunState, name: str, slot: str, x: Tensor, skipped: int = 0) -> tuple[Tensor, Tensor] | None:
    """x [T*B*k, ...] step by step without the `skipped` first ones, [T, B*k, ...], and likewise what was there one step
    before, or when it was read last; None at rest, which has nothing before it."""
    now_TB = x.reshape(run.steps_in_chunk, -1, *x.shape[1:])[skipped:]
    before = run.state.get((name, slot))
    run.state[name, slot] = now_TB[-1].clone()  # a network may later work in place on what it has read
    if run.step < 0 or before is None:
        return None
    return now_TB, torch.cat([before[None], now_TB[:-1]]) if len(now_TB) > 1 else before[None]


def differ(now: Tensor, before: Tensor) -> Tensor:
    """1 where an analog value has changed by more than rounding, else 0."""
    rounding = (ROUNDING if now.element_size() >= 4 else 2) * torch.finfo(now.dtype).eps
    return kernels.changed_flags(now, before, rounding)
