"""What changes while a network runs, held in one object that is born and dies with the run.

Layers hold no state. A neuron finds the run it belongs to through a context variable, so two runs of one
network, in one thread or in several, cannot touch each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .functional import keep_mask
from .precision import full_precision


@dataclass
class SiteCounts:
    """Spikes of one site in one batch. Tensors of integers, one entry a step.

    sent: spikes that left the site, after masking.  dropped: spikes that the mask took.
    """

    num_neurons: int
    threshold: float | None
    sent: list[Tensor] = field(default_factory=list)
    dropped: list[Tensor] = field(default_factory=list)


@dataclass
class RunState:
    """The state of one batch under simulation, or of one ANN batch whose masks must be repeatable.

    seed: of the masks.  first_image: index of the batch's first image in the data.  batch_size: images now in it.
    step: first step of the chunk now computed; -1 at rest, before any.  steps_in_chunk: folded into the batch axis.
    membrane_potential: of IF neurons, by site.  counters: quanta that signed neurons have sent.
    held_masks: masks that are drawn once.  sums: what a module over time has received so far, by its path.
    previous: what an operation read at the last step, by its name.  fired: sites that have had their turn in this pass.
    unsettled: bool [steps_in_chunk, B], images in which a signed neuron has still to fire after that step.
    """

    seed: int
    batch_size: int
    first_image: int = 0
    step: int = 0
    steps_in_chunk: int = 1
    membrane_potential: dict[str, Tensor] = field(default_factory=dict)
    counters: dict[str, Tensor] = field(default_factory=dict)
    held_masks: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    previous: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, SiteCounts] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)
    unsettled: Tensor | None = None
    _images: Tensor | None = None

    def begin_chunk(self, step: int, steps_in_chunk: int) -> None:
        """Say which steps the next pass through the network computes."""
        self.step, self.steps_in_chunk = step, steps_in_chunk
        self.fired.clear()
        self.unsettled = None

    def keep_images(self, kept: Tensor) -> None:
        """Let the other images leave: their neurons' state goes, that of the kept ones stays as it is.

        Args:
            kept: bool [B].
        """
        images = self.images(kept.device)[kept]
        for states in (self.membrane_potential, self.counters, self.held_masks, self.sums, self.previous):
            for name, state in states.items():
                states[name] = state.view(self.batch_size, -1, *state.shape[1:])[kept].flatten(0, 1)
        self._images, self.batch_size = images, len(images)
        self.unsettled = None

    def images(self, device: torch.device) -> Tensor:
        """int64 [B]: index in the data set of each image now in the batch."""
        if self._images is None:
            self._images = torch.arange(self.first_image, self.first_image + self.batch_size, device=device)
        return self._images.to(device)

    def note_unsettled(self, missing: Tensor) -> None:
        """Add the neurons of one site to `unsettled`.

        Args:
            missing: [T, B*k, ...], 0 where a neuron has nothing left to send.
        """
        rows = missing.reshape(self.steps_in_chunk, self.batch_size, -1)
        images = torch.linalg.vector_norm(rows, torch.inf, dim=-1) > 0
        self.unsettled = images if self.unsettled is None else self.unsettled | images

    def turn(self, site: str) -> str:
        """A name for this use of `site` in this pass: its own for the first, then "site (2)", "site (3)", ..."""
        name, number = site, 1
        while name in self.fired:
            number += 1
            name = f"{site} ({number})"
        return name

    def unfold(self, x: Tensor, site: str) -> Tensor:
        """[T*B*k, ...] -> [T, B*k, ...], where k is what the model folded into the batch (its windows).

        Raises:
            ValueError: the first axis is no multiple of T*B, a step differs in shape from the last chunk's, or the
                site has had its turn in this pass (a module used twice would mix two populations of neurons).
        """
        if site in self.fired:
            raise ValueError(
                f"site {site!r} is used twice in one pass through the network; give each use a QCFS of its own"
            )
        rows = self.steps_in_chunk * self.batch_size
        if x.shape[0] % rows:
            raise ValueError(
                f"site {site!r}: the first axis of {tuple(x.shape)} must be a multiple of "
                f"{self.steps_in_chunk} steps x {self.batch_size} images = {rows}"
            )
        x_TB = x.reshape(self.steps_in_chunk, -1, *x.shape[1:])
        known = next((s[site] for s in (self.membrane_potential, self.counters, self.sums) if site in s), None)
        if known is not None and known.shape != x_TB.shape[1:]:
            raise ValueError(
                f"site {site!r}: a step has shape {tuple(x_TB.shape[1:])}, "
                f"but this run began with {tuple(known.shape)}; a run keeps its batch"
            )
        self.fired.add(site)
        return x_TB

    def keep_mask(self, like: Tensor, masking_ratio: float, site: str, step: int) -> Tensor:
        """The mask of one step, in the shape of that step's spikes `like` [B*k, ...]."""
        images = self.images(like.device)
        keep = keep_mask(images, like.numel() // len(images), masking_ratio, seed=self.seed, site=site, step=step)
        return keep.view(like.shape)

    def held_mask(self, like: Tensor, masking_ratio: float, site: str) -> Tensor:
        """The mask that `site` keeps for the whole of the run: that of step 0, which the ANN has too."""
        keep = self.held_masks.get(site)
        if keep is None:
            keep = self.held_masks[site] = self.keep_mask(like, masking_ratio, site, step=0)
        return keep


_CURRENT: ContextVar[RunState | None] = ContextVar("mst_run_state", default=None)


def current_run() -> RunState | None:
    """The run that the calling code is part of, if any."""
    return _CURRENT.get()


@contextmanager
def running(state: RunState) -> Iterator[RunState]:
    """Make `state` the current run for the duration of the block, and compute convolutions in full precision."""
    token = _CURRENT.set(state)
    try:
        with full_precision():
            yield state
    finally:
        _CURRENT.reset(token)
