"""Common part of all spiking neurons: site, threshold, mask, state in the run, and the record of what was sent."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from mst.errors import InputError

from .activation import QCFS
from .functional import MIN_THRESHOLD
from .masks import Layout, SpikeMask, check_layout
from .run_state import RunState, SiteCounts, require_run
from .site import Site


class SpikingNeuron(Site):
    """The neurons of one site. They hold no state; it lives in the run (`RunState`) and dies with it.

    A subclass declares its `slots`, fills them in `initial_state`, and in `forward` unfolds the steps of a chunk, fires
    and records; `IFNeuron` is the shortest example.

    Args:
        threshold: λ > 0, [1] or broadcastable to one step of the input.
        num_levels: L of the activation that the neurons stand for.
        site: module path in the network.
        role: what the site is in its network.
        mask: drops spikes that the neurons have fired; None keeps all.
        layout: order of the input's axes, see `channel_axes`.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the tensors that the neurons keep from step to step, each [B*k, ...]."""

    threshold: Tensor
    min_level: int = 0
    max_powers: int | None = None

    def __init__(
        self,
        threshold: Tensor,
        num_levels: int,
        site: str,
        role: str = "",
        *,
        mask: SpikeMask | None = None,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.detach().clone())
        self.num_levels = num_levels
        self.site = site
        self.role = role
        self.mask = mask
        self.layout = check_layout(layout)

    @classmethod
    def from_qcfs(cls, qcfs: QCFS, site: str) -> Self:
        """The neuron that stands for `qcfs`, with its levels, its mask and the threshold that it acts with.

        Raises:
            InputError: the threshold is not a finite number.
        """
        threshold = acting_threshold(qcfs, site)
        neuron = cls(threshold, qcfs.num_levels, site, qcfs.role, mask=qcfs.mask, layout=qcfs.layout)
        neuron.min_level, neuron.max_powers = qcfs.min_level, qcfs.max_powers
        return neuron

    @property
    def masking_ratio(self) -> float:
        """p, fraction of the spikes dropped; 0 without a mask."""
        return 0.0 if self.mask is None else self.mask.masking_ratio

    def initial_state(self, x: Tensor, run: RunState) -> dict[str, Tensor]:
        """Content of each of the `slots` before the first step, whose input is x [B*k, ...]."""
        return {}

    def _run(self) -> RunState:
        return require_run(self.site, "spiking neurons have state")

    def _state(self, run: RunState, x: Tensor) -> list[Tensor]:
        """Content of the slots now, in their order; x is the input of one step, [B*k, ...]."""
        return run.tensors_of(self.site, self.slots, lambda: self.initial_state(x, run))

    def _record(
        self,
        run: RunState,
        num_neurons: int,
        sent: Tensor,
        dropped: Tensor,
        spikes_TB: Tensor | None = None,
        by_neuron: Tensor | None = None,
    ) -> None:
        """Add the spikes of a chunk to the record of the run.

        Args:
            run: the run.
            num_neurons: of one image.
            sent, dropped: int64 [T], spikes that the mask has kept and dropped.
            spikes_TB: those sent by each neuron, see `RunState.spike_observers`.
            by_neuron: in place of `spikes_TB`: their numbers [T, n], summed over images. Without either operations
                cannot be counted in which the neurons of the site reach different numbers of outputs.
        """
        counts = run.counts.get(self.site)
        if counts is None:
            counts = run.counts[self.site] = SiteCounts(num_neurons, self.threshold)
        counts.add(sent, dropped)
        if self.site in run.spike_observers:
            run.spike_observers[self.site](sent, spikes_TB, by_neuron)

    def rest(self, run: RunState) -> None:
        """One step in which nothing changes, of a site that the run has reached before: no spikes are recorded."""
        run.visited_sites.add(self.site)
        counts = run.counts[self.site]
        none = torch.zeros_like(counts.sent[:1])
        counts.add(none, none)

    def extra_repr(self) -> str:
        return f"site={self.site!r}" + (f", mask={self.mask}" if self.mask else "")


def acting_threshold(qcfs: QCFS, site: str) -> Tensor:
    """The threshold that `qcfs` acts with: its own, at least `MIN_THRESHOLD`.

    Raises:
        InputError: it is not a finite number.
    """
    threshold = qcfs.threshold.detach()
    if not bool(torch.isfinite(threshold).all()):
        raise InputError(
            f"a neuron needs a finite threshold, got {threshold.tolist()}",
            where=f"site {site!r}",
            remedy="train again from an earlier checkpoint, with a lower learning rate",
        )
    return threshold.clamp_min(MIN_THRESHOLD)
