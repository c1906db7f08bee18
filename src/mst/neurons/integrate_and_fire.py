"""The integrate-and-fire neuron as a module: what a QCFS site becomes under rate coding."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .activation import QCFS
from .functional import count_spikes, drop_spikes, if_run_, initial_membrane_potential
from .run_state import RunState
from .spiking import SpikingNeuron, acting_threshold


class IFNeuron(SpikingNeuron):
    """IF neurons of one site, with the threshold and the masking ratio of the QCFS they replace.

    v(0) = λ/2 ;  v <- v + x(t) ;  s(t) = [v >= λ] ;  v <- v - λ·s(t) ;  output = m(t)·λ·s(t)

    A dropped spike has been fired: the membrane is reset all the same.
    """

    slots: ClassVar[tuple[str, ...]] = ("membrane_potential",)

    @classmethod
    def from_qcfs(cls, qcfs: QCFS, site: str) -> IFNeuron:
        """The neuron that stands for `qcfs`, with the threshold that `qcfs` acts with.

        Raises:
            ValueError: the threshold is not a finite number.
        """
        return cls(acting_threshold(qcfs, site), qcfs.num_levels, qcfs.masking_ratio, site, qcfs.role)

    def initial_state(self, x: Tensor, run: RunState) -> dict[str, Tensor]:
        return {"membrane_potential": initial_membrane_potential(x, self.threshold)}

    def forward(self, x: Tensor) -> Tensor:
        """x: input currents [T*B*k, ...], time outermost -> scaled spikes, same shape.

        Raises:
            RuntimeError: called outside a run.
            ValueError: the shape does not fit the run (see `RunState.unfold`).
        """
        run = self._run()
        x_TB = run.unfold(x, self.site)
        (v,) = self._state(run, x_TB[0])
        spikes_TB = if_run_(x_TB, v, self.threshold)
        fired = count_spikes(spikes_TB)
        if self.masking_ratio > 0.0:
            for t, spikes in enumerate(spikes_TB):
                keep = run.keep_mask(spikes, self.masking_ratio, self.site, run.step + t)
                spikes_TB[t] = drop_spikes(spikes, keep)
        sent = count_spikes(spikes_TB) if self.masking_ratio > 0.0 else fired
        self._record(run, v.numel() // run.batch_size, sent, fired - sent)
        return spikes_TB.flatten(0, 1)
