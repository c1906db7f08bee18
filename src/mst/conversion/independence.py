"""The answer to an image must be its own: not that of its neighbours, of chance, of its place or of earlier calls.

Steps are folded into the batch, so a network that mixes images mixes steps too. Which function mixes what cannot be
seen by name (a maximum, a mean, an index), so the network is run: on an image alone, several times, and beside another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mst.dataflow import ConversionError, Obstacle, other_image, smooth_output
from mst.models import copy_network
from mst.neurons import RunState, SpikingNeuron, begin_run, running

REPEATS = 3
"""Further passes over the same image."""

REPEATS_BY_CHANCE = 100
"""Likewise, if the network draws random numbers outside torch."""

MIXED = (
    "the answer to an image depends on the others beside it",
    "let every function act on each image alone; a norm or a maximum over the batch does not",
)
UNSTEADY = (
    "the answer to an image changes from call to call",
    "let nothing in the forward depend on chance in evaluation, nor on earlier calls (a counter, a cache, a running "
    "mean)",
)
SINGLE = (
    "it takes one image, but not several",
    "let the forward take batches of any size [B, ...]; the steps of a simulation are folded into the batch",
)
OTHER_AXIS = (
    "the images are not on the first axis of its input",
    "let it see [B, ...] or [B*k, ...] (batch_first=True, or permute before and after it)",
)
NO_BATCH = (
    "the first axis of the output is not that of the images",
    "return [B, ...], and squeeze or flatten only the axes behind the first",
)


def refuse_dependent_answers(network: nn.Module, image: Tensor) -> None:
    """Refuse a network whose answer to an image depends on anything but the image.

    It runs in float64, where no difference is rounding; a network that takes none, in float32 or as it is. Neurons
    return a smooth function of their input.

    Args:
        network: a network of spiking neurons; it does not change.
        image: [1, ...].

    Raises:
        ConversionError: it does.
    """
    with torch.inference_mode(False), torch.no_grad(), _chance_kept():
        for dtype in (torch.float64, torch.float32, None):
            probe = _Probe(network, image, dtype)
            before = _chance_state()
            try:
                alone = probe.answer([0])
            except Exception:  # a foreign forward may fail in any way in another precision
                if dtype is None:
                    raise
                continue
            break
        problem = probe.problem(alone, REPEATS if _chance_state() == before else REPEATS_BY_CHANCE)
    if problem is not None:
        where, (what, remedy) = problem
        raise ConversionError((Obstacle(where, what, remedy),))


@contextmanager
def _chance_kept() -> Iterator[None]:
    """Random numbers within the block are the same each time, and those behind it as if it had not been."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the global state is what forwards draw from
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.default_generator.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _chance_state() -> tuple[object, ...]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return random.getstate(), str(keys), position


Answer = list[tuple[str, Tensor]]
"""(site, its input) in the order of the calls; the output comes last, under no name."""


def _smooth(run: RunState, neuron: SpikingNeuron, see: Callable[[str, Tensor], None], x: Tensor) -> Tensor:
    """In place of a neuron's forward: its output without spikes; the input is shown to `see`."""
    run.unfold(x, neuron.site)  # its axes are checked
    see(neuron.site, x)
    return smooth_output(neuron, x)


class _Probe:
    """A network in one precision, and two images for it."""

    def __init__(self, network: nn.Module, image: Tensor, dtype: torch.dtype | None) -> None:
        self._original, self._dtype = network, dtype
        first = image.detach().clone().to(dtype or image.dtype)
        self.images = torch.cat([first, other_image(first)])
        self.renew()

    def renew(self) -> None:
        """Take a copy of the network that has not run yet."""
        self.network = copy_network(self._original)
        self.network = self.network if self._dtype is None else self.network.to(self._dtype)
        self._neurons = [module for module in self.network.modules() if isinstance(module, SpikingNeuron)]

    def _show(self, images: list[int], see: Callable[[str, Tensor], None]) -> None:
        """One pass over these images; `see` is given the site and the input of each neuron, and the output."""
        run = begin_run(self.network, batch_size=len(images), first_image=images[0])
        for neuron in self._neurons:
            neuron.forward = partial(_smooth, run, neuron, see)
        try:
            with running(run):
                output = self.network(self.images[images].clone())
        finally:
            for neuron in self._neurons:  # a copy may share them; and a neuron that holds itself is not freed at once
                del neuron.forward
        see("", output)

    def answer(self, images: list[int]) -> Answer:
        """Inputs of the neurons, and the output, for these images."""
        seen: Answer = []
        self._show(images, lambda site, x: seen.append((site, x.clone())))  # the network may go on in place
        return seen

    def problem(self, alone: Answer, repeats: int) -> tuple[str, tuple[str, str]] | None:
        """Place and kind of the first dependence; None if there is none.

        Args:
            alone: the first answer to the first image.
            repeats: further passes over it.
        """
        for _ in range(repeats):
            again = _Comparison(alone)
            self._show([0], again.see)
            if (where := again.first_differences()[0]) is not None:
                return where, UNSTEADY
        other = self.answer([1])  # after the first image
        self.renew()
        fresh = _Comparison(other)  # before any
        self._show([1], fresh.see)
        if (where := fresh.first_differences()[0]) is not None:
            return where, UNSTEADY
        both = _Comparison(alone, other)
        try:
            self._show([0, 1], both.see)
        except Exception:  # a foreign forward may fail in any way
            return "", SINGLE
        if alone[-1][1].dim() == 0 or len(alone[-1][1]) != 1 or len(both.last) != 2:
            return "", NO_BATCH
        if both.misplaced is not None:
            return both.misplaced
        differences = [where for where in both.first_differences() if where is not None]
        return (differences[0], MIXED) if differences else None


class _Comparison:
    """Compares a pass over one or several images with the answers to each alone.

    It compares call by call and keeps no tensor of the pass: the inputs of all neurons in float64 are most of the
    memory of a conversion.

    Args:
        expected: the answers, in the order of the images.
    """

    def __init__(self, *expected: Answer) -> None:
        self._expected = expected
        self._first: list[str | None] = [None] * len(expected)
        self._calls = 0
        self.last = torch.empty(0)
        self.misplaced: tuple[str, tuple[str, str]] | None = None

    def see(self, site: str, x: Tensor) -> None:
        """Compare one call."""
        number, images = self._calls, len(self._expected)
        self._calls, self.last = number + 1, x
        if number >= len(self._expected[0]):
            return
        known, one = self._expected[0][number]
        if images > 1 and (one.dim() != x.dim() or len(x) != images * len(one)):
            kind = OTHER_AXIS if one.shape[:1] == x.shape[:1] else MIXED
            self.misplaced = self.misplaced or (known, kind)
        if self.misplaced is not None:
            return
        parts = x.reshape(images, -1, *x.shape[1:]) if images > 1 else [x]
        for image, (answer, part) in enumerate(zip(self._expected, parts, strict=True)):
            if self._first[image] is None and number < len(answer):
                known, one = answer[number]
                if site != known or one.shape != part.shape or not _close(one, part):
                    self._first[image] = known

    def first_differences(self) -> list[str | None]:
        """For each image the first site that has seen something else; None if all have seen the same."""
        return [
            "" if first is None and self._calls != len(answer) else first
            for first, answer in zip(self._first, self._expected, strict=True)
        ]


def _close(x: Tensor, y: Tensor) -> bool:
    """True if the difference may be rounding."""
    if not x.is_floating_point():
        return torch.equal(x, y)
    rtol, atol = {8: (1e-6, 1e-9), 4: (1e-3, 1e-4)}.get(x.element_size(), (2e-2, 5e-3))
    scale = float(x.abs().nan_to_num(0.0, 0.0, 0.0).max()) if x.numel() else 1.0
    return torch.allclose(x, y, rtol=rtol, atol=atol * scale, equal_nan=True)
