"""What a network of signed neurons spends: every operation works on what has changed in its input since the last step.

A change that one site's spikes make costs one accumulation (AC) per spike and output it reaches. Any other change is an
analog value, and costs one multiply-accumulation (MAC) per output it reaches. What has not changed costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mst.models.layers import ActivationProduct
from mst.neurons import RunState, SignedIFNeuron, current_run

from .operations import (
    BATCH_NORM_MACS_PER_ELEMENT,
    CONVOLUTIONS,
    LAYER_NORM_MACS_PER_ELEMENT,
    SOFTMAX_MACS_PER_ELEMENT,
    Operation,
    OperationCount,
    conv_fan_out,
)

ROUNDING = 32
"""A change of an analog value below so many units of its last place is rounding, which is no change."""


class ChangeRecorder:
    """Counts what the operations of one lossless simulation spend, step by step.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in it.
        num_steps: T.
    """

    def __init__(self, network: nn.Module, operations: tuple[Operation, ...], num_steps: int) -> None:
        self._operations = {op.name: op for op in operations}
        self._names = {(op.module, op.call_number): op.name for op in operations}
        self._modules = {op.module: network.get_submodule(op.module) for op in operations}
        self._neurons = {m.site: m for m in network.modules() if isinstance(m, SignedIFNeuron)}
        self._num_steps = num_steps
        self._acs: dict[str, Tensor] = {}  # on the device of the spikes, so that counting never waits for it
        self._macs: dict[str, Tensor] = {}
        self._run: RunState | None = None
        self._calls: Counter[str] = Counter()
        self._pass: int | None = None
        self._fan_out: dict[tuple[str, tuple[int, ...]], Tensor | int] = {}

    @contextmanager
    def recording(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run; other runs of the same network are not counted here."""
        self._run, self._pass = run, None
        handles = [m.register_forward_pre_hook(self._hook(path), with_kwargs=True) for path, m in self._modules.items()]
        try:
            yield
        finally:
            self._run = None
            for handle in handles:
                handle.remove()

    def counts(self) -> tuple[OperationCount, ...]:
        """What has been recorded, one entry per traced operation."""
        none = torch.zeros(self._num_steps, dtype=torch.int64)
        return tuple(
            OperationCount(op, self._acs.get(name, none).cpu(), self._macs.get(name, none).cpu())
            for name, op in self._operations.items()
        )

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
            name = self._names.get((path, self._calls[path]))
            if name is None:
                return
            inputs = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            operation = self._operations[name]
            for operand, x in enumerate(inputs[: 2 if isinstance(module, ActivationProduct) else 1]):
                steps_TB = _steps(run, f"{name} ({operand})", x)
                if steps_TB is not None:
                    self._count(operation, module, operand, inputs, *steps_TB, run)

        return hook

    def _count(
        self,
        op: Operation,
        module: nn.Module,
        operand: int,
        inputs: list[Tensor],
        now_TB: Tensor,
        before_TB: Tensor,
        run: RunState,
    ) -> None:
        """Add what the changes of one operand cost, from its values [T, B*k, ...] to those of the step before each."""
        sites = op.operands[operand] if operand < len(op.operands) else ()
        burst = max((self._neurons[site].schedule.burst for site in sites), default=1)
        is_spikes = bool(sites) and (len(sites) == 1 or (burst == 1 and op.pooled == 1))
        if not is_spikes:
            arriving = _differ(now_TB, before_TB)
        elif burst == 1 and op.pooled == 1:  # one spike a step at most: each change is one
            arriving = torch.ne(now_TB, before_TB, out=torch.empty_like(now_TB))
        else:
            arriving = self._spikes(self._neurons[sites[0]], op.pooled, now_TB - before_TB, run)
        spent = self._spend(op.name, module, operand, inputs, arriving)
        totals = self._acs if is_spikes else self._macs
        if op.name not in totals:
            totals[op.name] = torch.zeros(self._num_steps, dtype=torch.int64, device=spent.device)
        totals[op.name][run.step : run.step + run.steps_in_chunk] += spent

    @staticmethod
    def _spikes(neuron: SignedIFNeuron, pooled: int, change_TB: Tensor, run: RunState) -> Tensor:
        """How many spikes of one site each change stands for."""
        threshold = neuron.threshold
        if threshold.numel() > 1 and pooled > 1:
            threshold = threshold.reshape(-1, *[1] * (change_TB.dim() - 3))  # of one channel each
        weights = torch.tensor([max(1, neuron.weight(run.step + t)) for t in range(run.steps_in_chunk)])
        weights = weights.to(change_TB).view(-1, *[1] * (change_TB.dim() - 1))
        return (change_TB.abs() * (pooled * neuron.num_levels / threshold) / weights).round()

    def _spend(self, name: str, module: nn.Module, operand: int, inputs: list[Tensor], arriving: Tensor) -> Tensor:
        """int64 [T]: operations of each step, given how much arrives [T, B*k, ...]."""
        if isinstance(module, nn.Linear):
            return _per_step(arriving) * module.out_features
        if isinstance(module, CONVOLUTIONS):
            places = arriving.shape[3:]
            key = (name, tuple(places))
            if key not in self._fan_out:
                self._fan_out[key] = conv_fan_out(module, *places)
            fan_out = self._fan_out[key]
            if isinstance(fan_out, int):
                return _per_step(arriving) * fan_out
            by_place = arriving.sum(dim=(1, 2), dtype=torch.float64).round().to(torch.int64)
            return (by_place * fan_out.to(arriving.device)).flatten(1).sum(dim=1)
        if isinstance(module, ActivationProduct):
            left, right = inputs[:2]
            rows_of_right = right.shape[-2] if module.transpose_right else right.shape[-1]
            return _per_step(arriving) * (rows_of_right if operand == 0 else left.shape[-2])
        if isinstance(module, nn.Softmax):
            dim = -1 if module.dim is None else module.dim
            return _per_step(arriving.amax(dim=dim if dim < 0 else dim + 1)) * (
                inputs[0].shape[dim] * SOFTMAX_MACS_PER_ELEMENT
            )
        if isinstance(module, nn.LayerNorm):
            normalised = tuple(range(-len(module.normalized_shape), 0))
            elements = inputs[0].shape[normalised[0] :].numel()
            return _per_step(arriving.amax(dim=normalised)) * (elements * LAYER_NORM_MACS_PER_ELEMENT)
        return _per_step(arriving) * BATCH_NORM_MACS_PER_ELEMENT


def _per_step(values: Tensor) -> Tensor:
    """[T, B*k, ...] whole numbers -> int64 [T], their sums, exactly."""
    rows = values.flatten(2) if values.dim() > 2 else values[:, :, None]
    wide = torch.float64 if rows.shape[-1] >= 2**18 else torch.promote_types(rows.dtype, torch.float32)
    return rows.sum(dim=-1, dtype=wide).to(torch.int64).sum(dim=1)


def _steps(run: RunState, key: str, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """x [T*B*k, ...] step by step, [T, B*k, ...], and likewise what was there one step before; None at rest, where
    nothing is before."""
    now_TB = x.reshape(run.steps_in_chunk, -1, *x.shape[1:])
    before = run.previous.get(key)
    run.previous[key] = now_TB[-1].clone()  # a network may go on to work in place on what it has read
    if run.step < 0 or before is None:
        return None
    return now_TB, torch.cat([before[None], now_TB[:-1]]) if len(now_TB) > 1 else before[None]


def _differ(now: Tensor, before: Tensor) -> Tensor:
    """1 where an analog value has changed by more than rounding, else 0."""
    change = (now - before).abs_()
    # Straight into floats: on a CPU a bool in between, and counting it in integers, costs several times as much.
    return torch.gt(change, now.abs().mul_(ROUNDING * torch.finfo(now.dtype).eps), out=change)
