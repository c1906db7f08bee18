"""A program run step by step under lossless coding: each call is made again for the images of which its arguments have
changed, and for no others.

What has not changed since the step before is kept. A call on some of the images is the network's own function on those
images' rows, as a smaller batch would have it; nothing is added up over steps. So every value is, but for the rounding
of sums, the one that the whole network would compute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mst.neurons import RunState, SignedIFNeuron
from mst.neurons.image_rows import put_rows

from .program import Call, PerImage, Program, outputs_of
from .recording import Key, NotRecordableError, Ref, leaves, replaced
from .rows import ALMOST_ALL, Images, take, union

Observe = Callable[[list[Tensor]], None]


@dataclass(frozen=True)
class Observer:
    """Counts the operations of a call."""

    observe: Observe
    """Given the tensors of the call, of the images of which any has changed; the run then consists of these images."""

    first_step: int = 0
    """Step at which it is given all images, whatever has changed; before, it is not called."""


class Execution:
    """One run of a program.

    Args:
        program: the network.
        run: the run, of which no step has been made.
        observers: by the calls that they count.
    """

    def __init__(self, program: Program, run: RunState, observers: dict[Key, list[Observer]]) -> None:
        self._calls, self._output, self._run = program.calls, program.output, run
        self._observed = _observed(program, observers)
        self._kept = _kept(program, self._observed)
        self._last_reader = _last_readers(program)
        self._values: list[tuple[Tensor, ...] | None] = [None] * len(self._calls)  # of this step's images
        self._whole: list[list[Tensor] | None] = [None] * len(self._calls)  # of all images
        self._owned: list[bool] = [False] * len(self._calls)
        self._changed: dict[frozenset[int], Images | None] = {}
        self._of_source: dict[int, Images | None] = {}
        self._unsettled: dict[int, Tensor] = {}
        self._all: Images | None = None
        self._is_fresh = True
        run.notes_changed = True

    def step(self, images: Tensor, all_changed: bool) -> Tensor:
        """The output of the network [B, ...] at the run's present step.

        Args:
            images: [B, ...], the input at this step.
            all_changed: False if it is that of the step before.

        Raises:
            NotRecordableError: a call does not return as many rows as the program says.
        """
        if self._all is None:
            self._all = Images(torch.ones(len(images), dtype=torch.bool, device=images.device))
        every = self._all
        changed = every if all_changed or self._is_fresh else None
        self._changed, self._of_source = {frozenset(): None}, {0: changed}
        self._whole[0] = [images]
        self._values[0] = (images,)
        for number, call in enumerate(self._calls):
            for observer, tensors in self._observed.get(number, ()):
                self._show(observer, tensors, every)
            if number:
                self._make(number, call, every)
            for done in self._last_reader.get(number, ()):
                self._values[done] = None
        self._is_fresh = False
        self._run.unsettled = torch.stack(list(self._unsettled.values())).any(dim=0)[None]
        return self._argument(self._output, every)

    def _changes(self, sources: frozenset[int]) -> Images | None:
        """The images of which anything has changed in calls with these sources; None if there are none."""
        if sources not in self._changed:
            parts = [each for each in (self._of_source[source] for source in sources) if each is not None]
            self._changed[sources] = self._union(parts)
        return self._changed[sources]

    def _union(self, parts: list[Images]) -> Images | None:
        if not parts:
            return None
        images = union(parts)
        return self._all if images.are_all else images

    def _make(self, number: int, call: Call, every: Images) -> None:
        """Make one call for the images for which it has to be made."""
        if call.is_neuron:
            self._fire(number, call, every)
            return
        if not call.sources:
            if self._is_fresh:
                self._store(number, outputs_of(call, *self._given(call, every)), every)
            return
        images = self._changes(call.reads)
        if not call.is_by_image:
            images = self._of_source[number] = None if images is None else every
        if images is not None:
            self._store(number, outputs_of(call, *self._given(call, images)), images)

    def _fire(self, number: int, call: Call, every: Images) -> None:
        """One step of the neurons of a site."""
        neuron, run, (ref,) = call.func, self._run, call.refs
        assert isinstance(neuron, SignedIFNeuron)
        changed = self._changes(call.reads)
        parts = [] if changed is None else [changed]
        if number in self._unsettled and neuron.weight(run.step) and bool(self._unsettled[number].any()):
            parts.append(Images(self._unsettled[number].clone()))
        images = self._union(parts)
        self._of_source[number] = None
        if images is None:
            neuron.rest(run)
            return
        with run.only(images.index):
            output = neuron(self._argument(ref, images))
            unsettled, fired = run.take_flags()
        known = self._unsettled.setdefault(number, torch.zeros_like(every.mask))
        known[images.index] = unsettled
        if not self._is_fresh:
            if not bool(fired.any()):
                return
            if int(fired.sum()) <= ALMOST_ALL * len(images):
                output = take(output, Images(fired))
                mask = torch.zeros_like(every.mask)
                mask[images.index] = fired
                images = Images(mask)
        self._of_source[number] = images
        self._store(number, (output,), images)

    def _store(self, number: int, values: tuple[Tensor, ...], images: Images) -> None:
        call = self._calls[number]
        if call.is_by_image and call.rows and [len(each) for each in values] != [k * len(images) for k in call.rows]:
            raise NotRecordableError("the calls depend on the number of images")
        self._values[number] = values
        if number not in self._kept and call.sources:
            return
        if images.are_all:
            self._whole[number], self._owned[number] = list(values), False
            return
        whole = self._whole[number]
        assert whole is not None
        if not self._owned[number]:
            whole[:] = [each.clone(memory_format=torch.contiguous_format) for each in whole]
            self._owned[number] = True
        for each, rows in zip(whole, values, strict=True):
            put_rows(each, len(images.mask), images.index, rows)

    def _given(self, call: Call, images: Images) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call for some images."""

        def leaf(each: Any) -> Any:
            if isinstance(each, Ref):
                value = self._argument(each, images)
                return value.clone() if each == call.written else value
            return each.number * len(images) if isinstance(each, PerImage) else each

        return replaced(call.args, leaf), replaced(call.kwargs, leaf)

    def _argument(self, ref: Ref, images: Images) -> Tensor:
        """The rows of these images in a tensor of an earlier call."""
        sources = self._calls[ref.call].sources
        values = self._values[ref.call]
        if sources and values is not None and self._changes(sources) is images:
            return values[ref.item]
        whole = self._whole[ref.call]
        assert whole is not None
        return take(whole[ref.item], images) if self._has_rows(ref.call) else whole[ref.item]

    def _has_rows(self, number: int) -> bool:
        return bool(self._calls[number].sources or self._calls[number].rows)

    def _show(self, observer: Observer, tensors: tuple[Any, ...], every: Images) -> None:
        """Let an observer see what is about to be computed."""
        run = self._run
        if run.step < observer.first_step:
            return
        sources = [self._calls[each.call].sources for each in tensors if isinstance(each, Ref)]
        images = self._changes(frozenset().union(*sources))
        if self._is_fresh or (observer.first_step and run.step == observer.first_step):
            images = every
        if images is None:
            return
        with run.only(images.index):
            observer.observe([self._argument(each, images) if isinstance(each, Ref) else each for each in tensors])


def _observed(
    program: Program, observers: dict[Key, list[Observer]]
) -> dict[int, list[tuple[Observer, tuple[Any, ...]]]]:
    """Number of a call -> the observers to call before it, and the tensors that they are given."""
    found: dict[int, list[tuple[Observer, tuple[Any, ...]]]] = {}
    for key, (number, tensors) in program.entered.items():
        for observer in observers.get(key, ()):
            found.setdefault(number, []).append((observer, tensors))
    for number, call in enumerate(program.calls):
        if call.key is not None:
            tensors = tuple(each for each in leaves((call.args, call.kwargs)) if isinstance(each, (Ref, Tensor)))
            for observer in observers.get(call.key, ()):
                found.setdefault(number, []).append((observer, tensors))
    return found


def _kept(program: Program, observed: dict[int, list[tuple[Observer, tuple[Any, ...]]]]) -> set[int]:
    """Numbers of the calls whose results are kept for all images: those that meet results that change at other times,
    and those that are needed whole."""
    kept = {0, program.output.call}
    readers = [call.refs for call in program.calls]
    for seen in observed.values():
        for observer, tensors in seen:
            refs = tuple(each for each in tensors if isinstance(each, Ref))
            readers.append(refs)
            if observer.first_step:
                kept.update(ref.call for ref in refs)
    for refs in readers:
        sources = {program.calls[ref.call].sources for ref in refs} - {frozenset()}
        if len(sources) > 1:
            kept.update(ref.call for ref in refs)
    for call in program.calls:
        if call.is_neuron or not call.is_by_image:
            kept.update(ref.call for ref in call.refs)
    return kept


def _last_readers(program: Program) -> dict[int, list[int]]:
    """Number of a call -> the calls whose results are not read after it."""
    last = {number: number for number in range(len(program.calls))}
    for number, call in enumerate(program.calls):
        for ref in call.refs:
            last[ref.call] = number
    for number, tensors in program.entered.values():
        for each in tensors:
            if isinstance(each, Ref):
                last[each.call] = max(last[each.call], number)
    last.pop(program.output.call)
    done: dict[int, list[int]] = {}
    for number, reader in last.items():
        done.setdefault(reader, []).append(number)
    return done
