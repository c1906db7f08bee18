"""The signed integrate-and-fire neuron as a module: what a QCFS site becomes under lossless coding."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from mst.errors import InputError

from .activation import QCFS
from .functional import drop_spikes, quantum, sum_dtype, to_levels
from .masks import Layout, SpikeMask
from .powers import count_powers
from .run_state import BEFORE_FIRST_STEP, RunState
from .schedule import FiringSchedule
from .signed import count_signed_spikes, free_quanta, outermost_levels, spikes_of_weight
from .spiking import SpikingNeuron

SENT_QUANTA = "sent_quanta"
"""Slot of the quanta that each neuron has sent so far."""


class SignedIFNeuron(SpikingNeuron):
    """Signed IF neurons of one site: they send the changes of their activation, negative spikes included.

    See `signed_if_step`. Between neurons a simulation passes running sums instead of changes: the sum of all changes
    of f(A) up to a step is f(A) at that step, whatever f is, so every function of the network stays as it is. The
    output is count·λ/L, and the spikes of a step are its change.

    A spike that the mask drops has been counted by its neuron all the same. The mask is drawn once per run and held,
    so that what is dropped is dropped for the whole image, as it is in the ANN.

    Args:
        threshold, num_levels, site, role, mask, layout: see `SpikingNeuron`.
        schedule: when the site may fire, and how many quanta its spikes are worth.

    Attributes:
        depth: sites before this one in the longest chain; set by the conversion.
        initial_levels: quanta that each neuron of an image [k, ...] counts before its first spike; None: 0.
    """

    slots: ClassVar[tuple[str, ...]] = (SENT_QUANTA,)
    initial_levels: Tensor | None

    def __init__(
        self,
        threshold: Tensor,
        num_levels: int,
        site: str,
        role: str = "",
        *,
        mask: SpikeMask | None = None,
        layout: Layout | None = None,
        schedule: FiringSchedule = FiringSchedule(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(threshold, num_levels, site, role, mask=mask, layout=layout)
        self.schedule = schedule
        self.depth = 0
        self.register_buffer("initial_levels", None)

    @classmethod
    def from_qcfs(
        cls,
        qcfs: QCFS,
        site: str,
        schedule: FiringSchedule = FiringSchedule(),  # noqa: B008  frozen
    ) -> Self:
        """The neuron that stands for `qcfs`, see `SpikingNeuron.from_qcfs`."""
        neuron = super().from_qcfs(qcfs, site)
        neuron.schedule = schedule
        return neuron

    def weight(self, step: int) -> int:
        """Quanta that a spike of this site is worth at `step`; 0 while it may not fire."""
        return self.schedule.weight(step, self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """x: running sums of the input [T*B*k, ...], time outermost -> running sums of the output, same shape.

        Raises:
            NotRunningError: called outside a run.
            InputError: the shape does not fit the run (see `RunState.unfold`), or the initial levels.
        """
        run = self._run()
        x_TB = run.unfold(x, self.site)
        (count,) = self._state(run, x_TB[0])
        if run.step == BEFORE_FIRST_STEP:
            return self._output(count[None].to(x.dtype), run).flatten(0, 1)
        counts_TB, spikes_TB, missing_TB = [], [], []
        for t, x_t in enumerate(x_TB):
            spikes, count, target = self._fire(x_t, count, run.step + t)
            counts_TB.append(count)
            spikes_TB.append(spikes)
            missing_TB.append(target.sub_(count))
        run.state[self.site, SENT_QUANTA] = count
        run.note_unsettled(_stack(missing_TB))
        self._record_signed(run, _stack(spikes_TB))
        return self._output(_stack(counts_TB).to(x.dtype), run).flatten(0, 1)

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest level."""
        return outermost_levels(self.num_levels, self.min_level, self.max_powers)

    def _fire(self, x: Tensor, count: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """One step: spikes (signed, or just their number), the count after them, and the level that it approaches."""
        burst, weight = self.schedule.burst, self.weight(step)
        # The same expression as in `qcfs`, so that both round alike: a settled neuron equals it bit for bit.
        target = to_levels(x, self.threshold, self.num_levels, self.min_level, self.max_powers)
        if self.schedule.is_free:
            sent = free_quanta(target, count, burst if weight else 0)
            return (sent.sign() if burst == 1 else count_powers(sent)), count + sent, target
        spikes = spikes_of_weight(target, count, burst, weight, self.levels)
        return spikes, torch.add(count, spikes, alpha=max(1, weight)), target

    def initial_state(self, x: Tensor, run: RunState) -> dict[str, Tensor]:
        """The initial levels of every image; zeros where there are none.

        Raises:
            InputError: the initial levels are for images of another size.
        """
        initial, wide = self.initial_levels, sum_dtype(x.dtype)
        if initial is None:
            return {SENT_QUANTA: torch.zeros_like(x, dtype=wide)}
        if x.shape[0] != initial.shape[0] * run.batch_size or x.shape[1:] != initial.shape[1:]:
            raise InputError(
                f"its initial levels are for one image of {tuple(initial.shape)}, a step of {run.batch_size} images "
                f"has shape {tuple(x.shape)}",
                where=f"site {self.site!r}",
                remedy="compute the initial levels from images of the same size",
            )
        return {SENT_QUANTA: initial.to(wide).repeat(run.batch_size, *[1] * (x.dim() - 1))}

    def _output(self, counts_TB: Tensor, run: RunState) -> Tensor:
        """Counts [T, B*k, ...] -> activations of the same shape, dropped spikes removed."""
        y_TB = (counts_TB * quantum(counts_TB, self.threshold, self.num_levels)).to(counts_TB.dtype)
        if self.mask is None:
            return y_TB
        return drop_spikes(y_TB, run.held_mask(counts_TB[0], self.mask, self.site, self.layout))

    def _record_signed(self, run: RunState, spikes_TB: Tensor) -> None:
        fired = sent = count_signed_spikes(spikes_TB)
        if self.mask is not None:
            keep = run.held_mask(spikes_TB[0], self.mask, self.site, self.layout)
            spikes_TB = drop_spikes(spikes_TB, keep)
            sent = count_signed_spikes(spikes_TB)
        self._record(run, spikes_TB[0].numel() // run.batch_size, sent, fired - sent, spikes_TB)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.schedule}, depth={self.depth}"


def _stack(steps: list[Tensor]) -> Tensor:
    return steps[0][None] if len(steps) == 1 else torch.stack(steps)
