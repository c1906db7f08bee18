"""All that the neurons of one site do in the steps of a chunk (fire, mask, count), by operations of torch.

The functions of the same names in `kernels` do it in one pass, where they can, and are equal to these bit for bit.

Letters: T steps of the chunk, B images, k rows of an image on the batch axis, n neurons of an image, `...` further
axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .functional import count_spikes, drop_spikes, if_run_, quantum, to_levels
from .powers import count_powers
from .signed import count_signed_spikes, free_quanta, outermost_levels, spikes_of_weight

Keep = Callable[[int], Tensor]
"""Step of the chunk -> bool, broadcastable to one step [B*k, ...]; False drops."""


@dataclass(frozen=True)
class Rows:
    """Rows of an image: pieces of `length` consecutive neurons on the axes [k, ...]."""

    length: int
    """Neurons of a row; divides those of an image."""

    active: Tensor | None = None
    """bool [B, rows]; False: in these steps neither the input of the row changes nor has a neuron of it yet to fire, so
    that it can be left out. None: all are active."""

    out: Tensor | None = None
    """[T, B*k, ...], where the output is written; rows that are left out keep what is there."""

    places: Tensor | None = None
    """int64 [B], for `kernels.signed_chunk`: places of the images in a batch of whose images the count is given. None:
    the count is that of these images."""


@dataclass(frozen=True)
class Chunk:
    """Output and spikes of the neurons of a site in the steps of a chunk."""

    output: Tensor
    """[T, B*k, ...]: scaled spikes, or the running sums of the output; after masking."""

    fired: Tensor
    """int64 [T], spikes before masking."""

    sent: Tensor
    """int64 [T], spikes that the mask has kept."""

    by_neuron: Tensor | None = None
    """[T, n], spikes sent by each neuron, summed over images, as whole numbers; None if not asked for."""


@dataclass(frozen=True)
class SignedChunk(Chunk):
    """Output, spikes and state of signed neurons in the steps of a chunk."""

    count: Tensor | None = None
    """[B*k, ...], quanta that each neuron has sent after the last step; may be the tensor of before, updated."""

    unsettled: Tensor | None = None
    """bool [T, B], images in which a neuron has yet to fire."""

    changed_rows: Tensor | None = None
    """bool [T, B, rows], rows whose output differs from that of the step before; None if not asked for. A row is a
    piece of an image's memory."""

    unsettled_rows: Tensor | None = None
    """bool [T, B, rows], rows in which a neuron has yet to fire; likewise."""


@dataclass(frozen=True)
class SignedRule:
    """Levels of the signed neurons of a site, and what they may send in each step of a chunk."""

    threshold: Tensor
    """λ > 0, one element or broadcastable to [B*k, ...]."""

    num_levels: int
    """L."""

    min_level: int
    """n."""

    max_powers: int | None
    """See `qcfs`."""

    burst: int
    """Maximum spikes per neuron per step."""

    weights: tuple[int, ...]
    """Quanta that a spike is worth at each step; 0: no neuron may fire."""

    is_free: bool
    """True if each spike carries its weight; those in `weights` then only say when neurons may fire."""

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest level."""
        return outermost_levels(self.num_levels, self.min_level, self.max_powers)

    def fire(self, x: Tensor, count: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """Step t of the chunk: spikes (signed, or just their number), the count after them, and the level that it
        approaches."""
        weight = self.weights[t]
        # The same expression as in `qcfs`, so that both round alike: a settled neuron equals it bit for bit.
        target = to_levels(x, self.threshold, self.num_levels, self.min_level, self.max_powers)
        if self.is_free:
            sent = free_quanta(target, count, self.burst if weight else 0)
            return (sent.sign() if self.burst == 1 else count_powers(sent)), count + sent, target
        spikes = spikes_of_weight(target, count, self.burst, weight, self.levels)
        return spikes, torch.add(count, spikes, alpha=max(1, weight)), target


def rate_chunk(
    x_TB: Tensor,
    v: Tensor,
    threshold: Tensor,
    batch_size: int,
    keep: Keep | None = None,
    by_neuron: bool = False,
) -> Chunk:
    """Spikes of integrate-and-fire neurons (`if_run_`), masked and counted.

    Args:
        x_TB: input currents, [T, B*k, ...].
        v: membrane potentials [B*k, ...], updated in place.
        threshold: λ > 0, one element or broadcastable to [B*k, ...].
        batch_size: B.
        keep: mask of each step.
        by_neuron: ask for the spikes of each neuron.

    Raises:
        InputError: v does not have the shape of one step of x.
    """
    return masked_chunk(if_run_(x_TB, v, threshold), batch_size, keep, by_neuron)


def masked_chunk(spikes_TB: Tensor, batch_size: int, keep: Keep | None = None, by_neuron: bool = False) -> Chunk:
    """Scaled spikes [T, B*k, ...] of any neurons under rate coding, masked in place and counted; see `rate_chunk`."""
    fired = sent = count_spikes(spikes_TB)
    if keep is not None:
        for t, spikes in enumerate(spikes_TB):
            spikes_TB[t] = drop_spikes(spikes, keep(t))
        sent = count_spikes(spikes_TB)
    flags_TB = torch.ne(spikes_TB, 0, out=torch.empty_like(spikes_TB)) if by_neuron else None
    return Chunk(spikes_TB, fired, sent, None if flags_TB is None else _by_neuron(flags_TB, batch_size))


def signed_chunk(
    x_TB: Tensor,
    count: Tensor,
    rule: SignedRule,
    batch_size: int,
    keep: Tensor | None = None,
    by_neuron: bool = False,
    rows: Rows | None = None,
    fire: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]] | None = None,
) -> SignedChunk:
    """Running sums of the output of signed neurons, masked, with the spikes that make them counted.

    Args:
        x_TB: running sums of the input, [T, B*k, ...].
        count: quanta sent so far, [B*k, ...]; not modified.
        rule: levels and schedule.
        batch_size: B.
        keep: mask of all steps, bool, broadcastable to [B*k, ...].
        by_neuron: ask for the spikes of each neuron.
        rows: ask for the rows that have changed.
        fire: in place of `rule.fire`.
    """
    counts, spikes, missing = [], [], []
    for t, x_t in enumerate(x_TB):
        fired_t, count, target = (fire or rule.fire)(x_t, count, t)
        counts.append(count)
        spikes.append(fired_t)
        missing.append(target.sub_(count))
    spikes_TB = _stack(spikes)
    fired = sent = count_signed_spikes(spikes_TB)
    if keep is not None:
        spikes_TB = drop_spikes(spikes_TB, keep)
        sent = count_signed_spikes(spikes_TB)
    y_TB, missing_TB = signed_output(_stack(counts).to(x_TB.dtype), rule, keep), _stack(missing)
    out_TB = torch.empty_like(x_TB) if rows is None or rows.out is None else rows.out
    return SignedChunk(
        y_TB if out_TB.stride() == y_TB.stride() and rows is None else out_TB.copy_(y_TB),  # in memory as in the ANN
        fired,
        sent,
        _by_neuron(spikes_TB.abs(), batch_size) if by_neuron else None,
        count,
        unsettled_images(missing_TB, batch_size),
        None if rows is None else _any_in_rows(spikes_TB, batch_size, rows.length),
        None if rows is None else _any_in_rows(missing_TB, batch_size, rows.length),
    )


def signed_output(counts_TB: Tensor, rule: SignedRule, keep: Tensor | None) -> Tensor:
    """Counts [T, B*k, ...] -> activations of the same shape and type, dropped spikes removed."""
    y_TB = (counts_TB * quantum(counts_TB, rule.threshold, rule.num_levels)).to(counts_TB.dtype)
    return y_TB if keep is None else drop_spikes(y_TB, keep)


def unsettled_images(missing_TB: Tensor, batch_size: int) -> Tensor:
    """[T, B*k, ...], 0 where a neuron has nothing left to send -> bool [T, B]: images in which one has."""
    return _any_in_rows(missing_TB, batch_size, missing_TB[0].numel() // batch_size)[..., 0]


def _any_in_rows(x_TB: Tensor, batch_size: int, length: int) -> Tensor:
    """bool [T, B, rows]: rows in which a number is not 0, unless one is NaN."""
    largest: Tensor = torch.linalg.vector_norm(x_TB.reshape(len(x_TB), batch_size, -1, length), torch.inf, dim=-1)
    return largest > 0


def _by_neuron(number_TB: Tensor, batch_size: int) -> Tensor:
    return number_TB.reshape(len(number_TB), batch_size, -1).sum(dim=1, dtype=torch.float64)


def _stack(steps: list[Tensor]) -> Tensor:
    return steps[0][None] if len(steps) == 1 else torch.stack(steps)
