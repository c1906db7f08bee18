"""The signed integrate-and-fire neuron as a module: what a QCFS site becomes under lossless coding."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from mst.errors import InputError

from . import kernels
from .activation import QCFS
from .chunks import Rows, SignedRule, signed_chunk, signed_output
from .functional import sum_dtype
from .image_rows import empty_rows
from .masks import Layout, SpikeMask
from .run_state import BEFORE_FIRST_STEP, RunState
from .schedule import FiringSchedule
from .signed import outermost_levels
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
        is_own = getattr(self._fire, "__func__", None) is SignedIFNeuron._fire
        places = run.places if is_own else None
        count = self._state(run, x_TB[0])[0] if places is None else run.of_all(self.site, SENT_QUANTA)
        rule = self._rule(run)
        keep = None if self.mask is None else run.held_mask(x_TB[0], self.mask, self.site, self.layout)
        if run.step == BEFORE_FIRST_STEP:
            return signed_output(count[None].to(x.dtype), rule, keep).flatten(0, 1)
        by_neuron, neurons = self.site in run.uneven_sites, x_TB[0].numel() // run.batch_size
        out = None if places is None else empty_rows(count, x_TB.shape[1], x.dtype)[None]  # places: one step
        rows = Rows(neurons, out=out, places=places) if run.notes_changed else None
        if is_own:
            chunk = kernels.signed_chunk(x_TB, count, rule, run.batch_size, keep, by_neuron, rows)
        else:

            def fire(x: Tensor, count: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
                return self._fire(x, count, run.step + t)

            chunk = signed_chunk(x_TB, count, rule, run.batch_size, keep, by_neuron, rows, fire)
        assert chunk.count is not None
        assert chunk.unsettled is not None
        if places is None:
            run.state[self.site, SENT_QUANTA] = chunk.count
        run.note_unsettled_images(chunk.unsettled)
        run.changed = None if chunk.changed_rows is None else chunk.changed_rows[..., 0]
        self._record(run, neurons, chunk.sent, chunk.fired - chunk.sent, by_neuron=chunk.by_neuron)
        return chunk.output.flatten(0, 1)

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest level."""
        return outermost_levels(self.num_levels, self.min_level, self.max_powers)

    def _fire(self, x: Tensor, count: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """One step: spikes (signed, or just their number), the count after them, and the level that it approaches."""
        return self._rule_of((self.weight(step),)).fire(x, count, 0)

    def _rule(self, run: RunState) -> SignedRule:
        """Levels and schedule in the steps of the run's chunk."""
        steps = range(run.step, run.step + run.steps_in_chunk)
        return self._rule_of(tuple(0 if run.is_review else self.weight(step) for step in steps))

    def _rule_of(self, weights: tuple[int, ...]) -> SignedRule:
        burst, is_free = self.schedule.burst, self.schedule.is_free
        return SignedRule(self.threshold, self.num_levels, self.min_level, self.max_powers, burst, weights, is_free)

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
        levels = initial.to(wide).repeat(run.batch_size, *[1] * (x.dim() - 1))
        return {SENT_QUANTA: torch.empty_like(x, dtype=wide).copy_(levels)}  # in memory as the output will be

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.schedule}, depth={self.depth}"
