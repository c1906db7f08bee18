"""The integrate-and-fire neuron as a module: what a QCFS site becomes under rate coding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .activation import QCFS
from .functional import MIN_THRESHOLD, count_spikes, drop_spikes, if_run_, initial_membrane_potential
from .run_state import SiteCounts, current_run


class IFNeuron(nn.Module):
    """IF neurons of one site, with the threshold and the masking ratio of the QCFS they replace.

    v(0) = λ/2 ;  v <- v + x(t) ;  s(t) = [v >= λ] ;  v <- v - λ·s(t) ;  output = m(t)·λ·s(t)

    A dropped spike has been fired: the membrane is reset all the same. The module holds no state; the
    membrane potential lives in the run (`RunState`) and dies with it.

    Args:
        threshold: λ > 0, [1] or broadcastable to one step of the input.
        masking_ratio: p, fraction of the spikes dropped, in [0, 1).
        site: module path in the network.
        role: what the site is in its network.
    """

    threshold: Tensor

    def __init__(self, threshold: Tensor, masking_ratio: float, site: str, role: str = "") -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.detach().clone())
        self.masking_ratio = masking_ratio
        self.site = site
        self.role = role

    @classmethod
    def from_qcfs(cls, qcfs: QCFS, site: str) -> IFNeuron:
        """The neuron that stands for `qcfs`, with the threshold that `qcfs` acts with.

        Raises:
            ValueError: the threshold is not a finite number.
        """
        threshold = qcfs.threshold.detach()
        if not bool(torch.isfinite(threshold).all()):
            raise ValueError(f"site {site!r}: a neuron needs a finite threshold, got {threshold.tolist()}")
        return cls(threshold.clamp_min(MIN_THRESHOLD), qcfs.masking_ratio, site, qcfs.role)

    def forward(self, x: Tensor) -> Tensor:
        """x: input currents [T*B*k, ...], time outermost -> scaled spikes, same shape.

        Raises:
            RuntimeError: called outside a run.
            ValueError: the shape does not fit the run (see `RunState.unfold`).
        """
        run = current_run()
        if run is None:
            raise RuntimeError(
                f"site {self.site!r} is a spiking neuron and has state only inside a run; "
                "call mst.simulate(snn, images, num_steps=...) instead of snn(images)"
            )
        x_TB = run.unfold(x, self.site)
        v = run.membrane_potential.get(self.site)
        if v is None:
            v = run.membrane_potential[self.site] = initial_membrane_potential(x_TB[0], self.threshold)
        spikes_TB = if_run_(x_TB, v, self.threshold)
        counts = run.counts.get(self.site)
        if counts is None:
            scalar = self.threshold.item() if self.threshold.numel() == 1 else None
            counts = run.counts[self.site] = SiteCounts(v.numel() // run.batch_size, scalar)
        fired = count_spikes(spikes_TB)
        if self.masking_ratio > 0.0:
            for t, spikes in enumerate(spikes_TB):
                keep = run.keep_mask(spikes, self.masking_ratio, self.site, run.step + t)
                spikes_TB[t] = drop_spikes(spikes, keep)
        sent = count_spikes(spikes_TB) if self.masking_ratio > 0.0 else fired
        counts.sent.append(sent)
        counts.dropped.append(fired - sent)
        return spikes_TB.flatten(0, 1)

    def extra_repr(self) -> str:
        return f"site={self.site!r}, masking_ratio={self.masking_ratio}"
