"""What changes while a network runs, held in one object that is born and dies with the run.

Layers hold no state. A neuron finds the run it belongs to through a context variable, so two runs of one
network, in one thread or in several, cannot touch each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

from .functional import keep_mask


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

    seed: of the masks.  first_image: index of the batch's first image in the data.  batch_size: images.
    step: first step of the chunk now computed.  steps_in_chunk: steps folded into the batch axis.
    sums: what a module over time has received so far, by its path.  fired: sites that have had their turn in this pass.
    """

    seed: int
    batch_size: int
    first_image: int = 0
    step: int = 0
    steps_in_chunk: int = 1
    membrane_potential: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, SiteCounts] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)

    def begin_chunk(self, step: int, steps_in_chunk: int) -> None:
        """Say which steps the next pass through the network computes."""
        self.step, self.steps_in_chunk = step, steps_in_chunk
        self.fired.clear()

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
        known = self.membrane_potential.get(site, self.sums.get(site))
        if known is not None and known.shape != x_TB.shape[1:]:
            raise ValueError(
                f"site {site!r}: a step has shape {tuple(x_TB.shape[1:])}, "
                f"but this run began with {tuple(known.shape)}; a run keeps its batch"
            )
        self.fired.add(site)
        return x_TB

    def keep_mask(self, like: Tensor, masking_ratio: float, site: str, step: int) -> Tensor:
        """The mask of one step, in the shape of that step's spikes `like` [B*k, ...]."""
        keep = keep_mask(
            self.batch_size,
            like.numel() // self.batch_size,
            masking_ratio,
            seed=self.seed,
            site=site,
            step=step,
            first_image=self.first_image,
            device=like.device,
        )
        return keep.view(like.shape)


_CURRENT: ContextVar[RunState | None] = ContextVar("mst_run_state", default=None)


def current_run() -> RunState | None:
    """The run that the calling code is part of, if any."""
    return _CURRENT.get()


@contextmanager
def running(state: RunState) -> Iterator[RunState]:
    """Make `state` the current run for the duration of the block."""
    token = _CURRENT.set(state)
    try:
        yield state
    finally:
        _CURRENT.reset(token)
