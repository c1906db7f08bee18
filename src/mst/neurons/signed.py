"""The mathematics of one signed neuron, as pure functions: what it sends to reach a level, and how much that is.

Letters and equations as in `functional`; docs/maths.md, section 9, has the proofs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .functional import to_levels
from .powers import largest_powers


def outermost_levels(num_levels: int, min_level: int = 0, max_powers: int | None = None) -> tuple[int, int]:
    """The lowest and the highest level of QCFS: n and L, or what they are rounded to."""
    if max_powers is None:
        return min_level, num_levels
    lowest, highest = largest_powers(torch.tensor([min_level, num_levels], dtype=torch.float64), max_powers).tolist()
    return int(lowest), int(highest)


def signed_if_step(
    x: Tensor,
    count: Tensor,
    threshold: Tensor,
    num_levels: int,
    burst: int = 1,
    weight: int = 1,
    min_level: int = 0,
) -> tuple[Tensor, Tensor]:
    """One step of a signed integrate-and-fire neuron that counts the quanta it has sent.

    With the quantum q = λ/L, the value w of a spike at this step in quanta, and the membrane potential v in quanta:

    v = x/q + 1/2 - count                     (starts at 1/2, gains each change of x, loses what is sent)
    e = clip(floor(v), n - count, L - count)  quanta missing (e > 0) or in excess (e < 0)
    k = min(floor(|e|/w + 1/3), burst, whole spikes that fit into n...L)
    send k spikes of the sign of e;  count <- count + sign(e)·k·w

    With w = 1 the neuron fires +1 when v >= 1 and count < L, and -1 when v < 0 and count > n, up to `burst` spikes at
    once. With w > 1 it fires when at least two thirds of a spike are missing. It stays silent exactly where
    count·q = qcfs(x).

    Args:
        x: running sum of the input up to this step, [B, ...]; the neuron receives its changes.
        count: quanta sent so far, whole numbers from n to L in floating point, same shape; not modified.
        threshold: λ > 0, one element or broadcastable to x.
        num_levels: L >= 1.
        burst: maximum spikes per neuron per step, >= 1.
        weight: w, quanta that a spike is worth; 0 forbids firing.
        min_level: n <= 0.

    Returns:
        (spikes, target): the spikes sent, signed whole numbers, and the level of QCFS, which the count has reached
        where target = count + w·spikes.

    Source: ours, see docs/maths.md, section 9. Negative spikes that correct earlier ones: Wang et al., "Signed Neuron
    with Memory", IJCAI 2022.
    """
    # The same expression as in `qcfs`, so that both round alike: a settled neuron equals it bit for bit.
    target = to_levels(x, threshold, num_levels, min_level)
    return spikes_of_weight(target, count, burst, weight, (min_level, num_levels)), target


def spikes_of_weight(target: Tensor, count: Tensor, burst: int, weight: int, levels: tuple[int, int]) -> Tensor:
    """The spikes of `signed_if_step`, given the level that its neurons are to reach.

    Args:
        target, count, burst, weight: as there.
        levels: n and L, which the count does not leave.

    Returns:
        Signed whole numbers, a new tensor like target.
    """
    if weight == 0:
        return torch.zeros_like(target)
    missing = target - count
    if weight == 1:
        return missing.clamp_(-burst, burst)
    lowest, highest = levels
    number = missing.abs().mul_(3).add_(weight).div_(3 * weight).floor_().clamp_max_(burst)  # exact in whole numbers
    room = torch.where(missing > 0, highest - count, count - lowest).div_(weight).floor_()
    return torch.minimum(number, room, out=number).mul_(missing.sign_())


def free_quanta(target: Tensor, count: Tensor, burst: int = 1) -> Tensor:
    """Quanta that signed neurons send in one step of a free schedule, whose spikes carry their exponent.

    A spike is worth the power of two that is nearest to what is missing, target - count. A burst sends the first powers
    of this number (see `largest_powers`). The count may pass the outermost level, by less than half of the span.

    Args:
        target, count: as for `spikes_of_weight`.
        burst: maximum spikes per neuron per step; 0 forbids firing.

    Returns:
        Signed whole numbers, a new tensor like target. They are sent as `count_powers` spikes each.

    Source: ours, see docs/maths.md, section 9.
    """
    return largest_powers(target - count, burst) if burst else torch.zeros_like(target)


def count_signed_spikes(spikes: Tensor) -> Tensor:
    """[T, B, ...] signed whole numbers -> int64 [T]: spikes of either sign in each step, exactly."""
    steps, images = spikes.shape[:2]
    rows = spikes.reshape(steps, images, -1)
    wide = torch.float64 if rows.shape[-1] >= 2**20 else torch.promote_types(rows.dtype, torch.float32)
    return rows.abs().sum(dim=-1, dtype=wide).to(torch.int64).sum(dim=1)
