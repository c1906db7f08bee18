"""What every spiking neuron has: its site, its threshold, its masking ratio, and a record of what it sent."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from .activation import QCFS
from .functional import MIN_THRESHOLD
from .run_state import RunState, SiteCounts, current_run


class SpikingNeuron(nn.Module):
    """The neurons of one site. They hold no state; it lives in the run (`RunState`) and dies with it.

    Args:
        threshold: λ > 0, [1] or broadcastable to one step of the input.
        num_levels: L of the activation that the neurons stand for.
        masking_ratio: p, fraction of the spikes dropped, in [0, 1).
        site: module path in the network.
        role: what the site is in its network.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the tensors that the neurons keep from step to step, each [B*k, ...]."""

    threshold: Tensor
    call: ClassVar[str] = "call mst.simulate(snn, images, num_steps=...) instead of snn(images)"

    def __init__(self, threshold: Tensor, num_levels: int, masking_ratio: float, site: str, role: str = "") -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.detach().clone())
        self.num_levels = num_levels
        self.masking_ratio = masking_ratio
        self.site = site
        self.role = role

    def _run(self) -> RunState:
        run = current_run()
        if run is None:
            raise RuntimeError(f"site {self.site!r} is a spiking neuron and has state only inside a run; {self.call}")
        return run

    def initial_state(self, x: Tensor, run: RunState) -> dict[str, Tensor]:
        """What each of `slots` holds before the first step, whose input is x [B*k, ...]."""
        return {}

    def _state(self, run: RunState, x: Tensor) -> list[Tensor]:
        """What the slots hold now, in their order; x is the input of one step, [B*k, ...]."""
        return run.tensors_of(self.site, self.slots, lambda: self.initial_state(x, run))

    def _record(self, run: RunState, num_neurons: int, sent: Tensor, dropped: Tensor) -> None:
        """Note the spikes of a chunk, int64 [T] each."""
        counts = run.counts.get(self.site)
        if counts is None:
            scalar = self.threshold.item() if self.threshold.numel() == 1 else None
            counts = run.counts[self.site] = SiteCounts(num_neurons, scalar)
        counts.sent.append(sent)
        counts.dropped.append(dropped)

    def extra_repr(self) -> str:
        return f"site={self.site!r}, masking_ratio={self.masking_ratio}"


def acting_threshold(qcfs: QCFS, site: str) -> Tensor:
    """The threshold that `qcfs` acts with.

    Raises:
        ValueError: it is not a finite number.
    """
    threshold = qcfs.threshold.detach()
    if not bool(torch.isfinite(threshold).all()):
        raise ValueError(f"site {site!r}: a neuron needs a finite threshold, got {threshold.tolist()}")
    return threshold.clamp_min(MIN_THRESHOLD)
