"""The integrate-and-fire neuron as a module: what a QCFS site becomes under rate coding."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .functional import count_spikes, drop_spikes, if_run_, initial_membrane_potential
from .run_state import RunState
from .spiking import SpikingNeuron


class IFNeuron(SpikingNeuron):
    """IF neurons of one site, with the threshold and the mask of the QCFS they replace.

    v(0) = λ/2 ;  v <- v + x(t) ;  s(t) = [v >= λ] ;  v <- v - λ·s(t) ;  output = m(t)·λ·s(t)

    A dropped spike has been fired: the membrane is reset all the same. A neuron of other dynamics is a subclass with
    its own `slots`, `initial_state` and `fire`.
    """

    slots: ClassVar[tuple[str, ...]] = ("membrane_potential",)

    def initial_state(self, x: Tensor, run: RunState) -> dict[str, Tensor]:
        return {"membrane_potential": initial_membrane_potential(x, self.threshold)}

    def fire(self, x_TB: Tensor, *state: Tensor) -> Tensor:
        """The steps of one chunk, before masking.

        Args:
            x_TB: input currents, [T, B*k, ...].
            state: what the `slots` hold, in their order; updated in place.

        Returns:
            Scaled spikes, same shape as x_TB.
        """
        (v,) = state
        return if_run_(x_TB, v, self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """x: input currents [T*B*k, ...], time outermost -> scaled spikes, same shape.

        Raises:
            NotRunningError: called outside a run.
            InputError: the shape does not fit the run (see `RunState.unfold`).
        """
        run = self._run()
        x_TB = run.unfold(x, self.site)
        spikes_TB = self.fire(x_TB, *self._state(run, x_TB[0]))
        fired = sent = count_spikes(spikes_TB)
        if self.mask is not None:
            for t, spikes in enumerate(spikes_TB):
                keep = run.keep_mask(spikes, self.mask, self.site, run.step + t, self.layout)
                spikes_TB[t] = drop_spikes(spikes, keep)
            sent = count_spikes(spikes_TB)
        self._record(run, x_TB[0].numel() // run.batch_size, sent, fired - sent, spikes_TB)
        return spikes_TB.flatten(0, 1)
