"""The integrate-and-fire neuron as a module: what a QCFS site becomes under rate coding."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from . import kernels
from .chunks import masked_chunk
from .functional import if_run_, initial_membrane_potential
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
        state, by_neuron = self._state(run, x_TB[0]), self.site in run.uneven_sites
        mask = self.mask

        def keep(t: int) -> Tensor:
            assert mask is not None
            return run.keep_mask(x_TB[t], mask, self.site, run.step + t, self.layout)

        options = run.batch_size, keep if mask is not None else None, by_neuron
        if getattr(self.fire, "__func__", None) is IFNeuron.fire:
            (v,) = state
            chunk = kernels.rate_chunk(x_TB, v, self.threshold, *options)
        else:
            chunk = masked_chunk(self.fire(x_TB, *state), *options)
        self._record(
            run, x_TB[0].numel() // run.batch_size, chunk.sent, chunk.fired - chunk.sent, by_neuron=chunk.by_neuron
        )
        return chunk.output.flatten(0, 1)
