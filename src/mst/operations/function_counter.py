"""Counts of functions while a simulation runs: the elements and rows of which an input has changed.

A function waits for its readers: where a firing schedule lets the sites that read it start later, it is not computed
before, and then once for all that has changed until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from mst.neurons import RunState, SignedIFNeuron, SpikingNeuron

from .call_observer import CallObserver, showing_module_inputs
from .changes import differ, steps_of
from .counter import per_step
from .functions import Function, FunctionCount, Key, Operand
from .trace import LAYER_NORM_MACS_PER_ELEMENT, SOFTMAX_MACS_PER_ELEMENT


class FunctionCounter:
    """Counts the elements and rows of functions that have to be computed again.

    Args:
        network: the converted network.
        functions: from the trace.
        num_steps: T.
        counts_changes: True if what has changed is counted; otherwise every function is dense at every step.
    """

    def __init__(
        self, network: nn.Module, functions: tuple[Function, ...], num_steps: int, counts_changes: bool
    ) -> None:
        self._network, self._functions, self._num_steps = network, functions, num_steps
        self._counts_changes = counts_changes
        neurons = {m.site: m for m in network.modules() if isinstance(m, SpikingNeuron)}
        self._first_step = {each.name: _first_step(each, neurons) for each in functions if counts_changes}
        self._observed = tuple(each for each in functions if counts_changes and not each.operation)
        self._waiting = tuple(each for each in functions if each.operation and self._first_step.get(each.name))
        self._totals: dict[str, tuple[Tensor, Tensor]] = {}
        self._missed: dict[str, None] = {}

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of functions that were not called as the trace has seen them, so that their counts are not known."""
        return tuple(self._missed)

    @contextmanager
    def counting(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run."""

        observe = partial(self._observe, run)
        observer = CallObserver(self._network, self._observed, run, observe)
        with ExitStack() as observing:
            if self._waiting:
                observing.enter_context(showing_module_inputs(self._network, self._waiting, run, observe))
            if self._observed:
                observing.enter_context(observer.watching())
            yield
        self._missed.update(dict.fromkeys(sorted(observer.missed)))

    def snapshot(self) -> Callable[[], None]:
        """A function that takes back all that is counted after this call. It may be called once."""
        before = {name: (elements.clone(), shared.clone()) for name, (elements, shared) in self._totals.items()}
        missed = dict(self._missed)

        def take_back() -> None:
            self._totals, self._missed = before, missed

        return take_back

    def observers(self, run: RunState) -> dict[Key, tuple[Callable[[list[Tensor]], None], int]]:
        """What counts the calls, for a run that does not make them as the network does: by the key of the call ("" in
        place of a function's name for that of a module itself), a function of its tensors, and its first step, at
        which it has to see all images."""
        keys = {(each.key[0], "", each.key[2]): each for each in self._waiting}
        keys |= {each.key: each for each in self._observed}
        return {key: (partial(self._observe, run, each), self._first_step[each.name]) for key, each in keys.items()}

    def _observe(self, run: RunState, function: Function, tensors: list[Tensor]) -> None:
        if not _fits(function, tensors, run):
            self._missed[function.name] = None
            return
        first = max(self._first_step[function.name], run.step) if run.step >= 0 else run.step
        if first < run.step + run.steps_in_chunk:
            counted = _changed(function, tensors, run, first - run.step)
            if counted is not None:
                self._add(function.name, counted, first)

    def counts(self, macs_per_step: Mapping[str, Tensor | None]) -> tuple[FunctionCount, ...]:
        """Counts so far.

        Args:
            macs_per_step: operation -> int64 [T], its MACs, which hold the rows of a softmax or norm that is a module.
        """
        if not self._counts_changes:
            return tuple(FunctionCount(function) for function in self._functions)
        none = torch.zeros(self._num_steps, dtype=torch.int64)
        found = []
        for function in self._functions:
            elements, shared = self._totals.get(function.name, (none, none))
            if function.operation and function not in self._waiting:
                macs = macs_per_step[function.operation]
                assert macs is not None
                elements = macs // _MACS_PER_ELEMENT[function.key[1]]
                shared = elements // (function.elements // function.shared)
            found.append(FunctionCount(function, elements.cpu(), shared.cpu()))
        return tuple(found)

    def _add(self, name: str, spent: tuple[Tensor, Tensor], first: int) -> None:
        if name not in self._totals:
            zero = torch.zeros(self._num_steps, dtype=torch.int64, device=spent[0].device)
            self._totals[name] = zero, zero.clone()
        for total, each in zip(self._totals[name], spent, strict=True):
            total[first : first + len(each)] += each


_MACS_PER_ELEMENT = {"softmax": SOFTMAX_MACS_PER_ELEMENT, "layer_norm": LAYER_NORM_MACS_PER_ELEMENT}


def _first_step(function: Function, neurons: Mapping[str, SpikingNeuron]) -> int:
    """First step at which the function has to be computed: no site that reads it may fire before."""
    if not function.readers or "" in function.readers:
        return 0
    readers = [neurons[site] for site in function.readers]
    starts = [each.schedule.start(each.depth) if isinstance(each, SignedIFNeuron) else 0 for each in readers]
    return min(starts)


def _fits(function: Function, tensors: list[Tensor], run: RunState) -> bool:
    """True if the tensors are those of the trace, for the images and steps of this pass."""
    for operand in function.operands:
        shape = list(operand.shape)
        shape[operand.batch_axis] *= run.steps_in_chunk * run.batch_size
        if operand.index >= len(tensors) or list(tensors[operand.index].shape) != shape:
            return False
    return True


def _changed(function: Function, tensors: list[Tensor], run: RunState, waits: int) -> tuple[Tensor, Tensor] | None:
    """int64 [T], int64 [T]: elements, and rows or divisors, that have to be computed again in each of the steps of the
    chunk but the first `waits`; None at rest, which has nothing before it."""
    changes = [_changes_of(each, tensors[each.index], function, run, waits) for each in function.operands]
    masks = [mask for mask in changes if mask is not None]
    if len(masks) < len(changes):
        return None
    rule = function.rule
    if rule.scope == "rows":
        rows = per_step(_rows(masks[0], function))
        return rows * (function.elements // function.shared), rows
    if rule.scope == "halves":
        one, other = masks[0].chunk(2, dim=_axis_in_steps(rule.axes[0], function.operands[0]))
        masks = [torch.maximum(one, other)]
    elements = _aligned(masks[0], function.operands[0], function)
    for mask, operand in zip(masks[1:], function.operands[1:], strict=True):
        elements = torch.maximum(elements, _aligned(mask, operand, function))
    per_image = 2 * function.elements if rule.scope == "halves" else function.elements
    lengths = (max(shape) for shape in zip(*(_padded(each, function) for each in function.operands), strict=True))
    number = per_step(elements) * (per_image // math.prod(lengths))  # a constant operand may repeat each
    if rule.scope == "quotient":
        return number, per_step(masks[-1])
    return number, torch.zeros_like(number)


def _changes_of(operand: Operand, x: Tensor, function: Function, run: RunState, waits: int) -> Tensor | None:
    """[T, B*k, ...] of 1 where a tensor has changed since it was read last, else 0; None at rest."""
    x = x if x.is_floating_point() else x.to(torch.float32)
    steps_TB = steps_of(run, function.name, f"operand {operand.index}", x.movedim(operand.batch_axis, 0), waits)
    return None if steps_TB is None else differ(*steps_TB)


def _axis_in_steps(axis: int, operand: Operand) -> int:
    """The place of an axis of a tensor in [T, B*k, ...]."""
    return axis + 1 + (axis < operand.batch_axis)


def _rows(mask: Tensor, function: Function) -> Tensor:
    """[T, B*k, ...] of 1 for each row in which anything has changed."""
    rule, operand = function.rule, function.operands[0]
    if rule.groups:
        return mask.reshape(*mask.shape[:2], rule.groups, -1).amax(dim=3)
    return mask.amax(dim=tuple(_axis_in_steps(axis, operand) for axis in rule.axes))


def _aligned(mask: Tensor, operand: Operand, function: Function) -> Tensor:
    """A mask with as many axes as the result has, so that it broadcasts as the tensor does."""
    missing = len(_padded(operand, function)) - len(operand.shape)
    return mask.reshape(*mask.shape[:2], *[1] * missing, *mask.shape[2:])


def _padded(operand: Operand, function: Function) -> tuple[int, ...]:
    """The shape of an operand, with as many axes as the longest."""
    return (1,) * (max(len(each.shape) for each in function.operands) - len(operand.shape)) + operand.shape
