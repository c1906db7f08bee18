"""Firing schedules: when the signed neurons of a site may fire, and how many quanta their spikes are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mst.errors import InputError

from .powers import MAX_QUANTA, most_powers

ScheduleName = Literal["plain", "staggered", "weighted", "free"]
"""A schedule that `named_schedule` makes."""

SCHEDULES: tuple[ScheduleName, ...] = ("plain", "staggered", "weighted", "free")
"""All names of schedules."""

DEFAULT_SCHEDULE: ScheduleName = "weighted"
"""Of the schedules whose spikes carry a sign and nothing else, the one with the fewest spikes. See
`mst.conversion.default_schedule`."""


@dataclass(frozen=True)
class FiringSchedule:
    """The turns that signed neurons take. A settled network equals its ANN under any schedule; the schedule decides how
    many steps and spikes it takes to settle.

    Raises:
        InputError: burst below 1, weights below 1, without a 1 or in a free schedule, or a stagger that is negative or
            not finite.

    Source: weights that depend on the step are the phase code of Kim et al., "Deep neural networks with weighted
    spikes", Neurocomputing 2018; signs, correction, stagger and spikes with an exponent are ours.
    """

    burst: int = 1
    """Maximum spikes per neuron per step."""

    weights: tuple[int, ...] = ()
    """Quanta (of λ/L) that a spike is worth at each step of the site's own clock, repeated; empty: 1 at each step.
    Sender and receiver know them from the clock, so a spike carries its sign and nothing else."""

    stagger: float = 0.0
    """Steps by which each site starts later than the one before it: a site with d sites before it starts at step
    floor(stagger · d)."""

    is_free: bool = False
    """True: a spike carries an exponent beside its sign. Each is worth the power of two that is nearest to what its
    neuron misses, at any step, so that no neuron waits for its turn; there are no `weights`."""

    def __post_init__(self) -> None:
        check_burst(self.burst)
        object.__setattr__(self, "weights", tuple(self.weights))
        if not all(isinstance(weight, int) and weight >= 1 for weight in self.weights):
            raise InputError(f"weights of spikes are whole quanta, at least 1, got {self.weights}")
        if self.weights and 1 not in self.weights:
            raise InputError(
                f"without a spike of one quantum a neuron cannot reach every level, got weights {self.weights}",
                remedy="include a weight of 1",
            )
        if self.weights and self.is_free:
            raise InputError(
                f"the spikes of a free schedule choose their weights themselves, got weights {self.weights}",
                remedy="leave one of the two out",
            )
        if not (math.isfinite(self.stagger) and self.stagger >= 0):
            raise InputError(f"stagger must be a number of steps, at least 0, got {self.stagger}")

    def start(self, depth: int) -> int:
        """First step at which a site with `depth` sites before it may fire."""
        return int(self.stagger * depth)

    def weight(self, step: int, depth: int) -> int:
        """Quanta that a spike is worth at this step; 0 before the first step of the site."""
        own = step - self.start(depth)
        if step < 0 or own < 0:
            return 0
        return self.weights[own % len(self.weights)] if self.weights else 1

    def longest(self, depth: int, num_levels: int, input_steps: int = 1) -> int:
        """Steps after which every network with this schedule has settled, see docs/maths.md.

        Args:
            depth: sites in the longest chain.
            num_levels: most levels between the highest and the lowest of a site; L where the lowest is 0.
            input_steps: steps over which the image is spread.
        """
        start = max(input_steps - 1, self.start(depth))
        if self.is_free:
            return start + depth * -(-most_powers(2 * num_levels) // self.burst)
        ones = self.weights.count(1) if self.weights else 1
        cycles = -(-num_levels // (self.burst * ones))
        return start + depth * cycles * max(1, len(self.weights))


def check_burst(burst: int) -> int:
    """`burst` itself.

    Raises:
        InputError: it is not a whole number, at least 1.
    """
    if not isinstance(burst, int) or isinstance(burst, bool) or burst < 1:
        raise InputError(
            f"burst, the maximum spikes per neuron per step, must be a whole number, at least 1, got {burst!r}"
        )
    return burst


def halving_weights(num_levels: int) -> tuple[int, ...]:
    """The powers of two below L in falling order, and a second 1: (8, 4, 2, 1, 1) for 16 levels."""
    powers = [2**k for k in range(num_levels.bit_length()) if 2**k < num_levels]
    return (*reversed(powers), 1)


def named_schedule(name: ScheduleName, num_levels: int, burst: int = 1) -> FiringSchedule:
    """One of the schedules that have a name.

    Args:
        name: "plain": every neuron may fire from the first step, spikes of one quantum; "staggered": the same, each
            site 1/(4·burst) steps later than the one before it; "weighted": spikes of `halving_weights`, each site
            1/(2·burst) steps later; "free": every spike is worth the power of two that its neuron needs, each site
            1/(2·burst) steps later.
        num_levels: largest L of the network.
        burst: maximum spikes per neuron per step.

    Raises:
        InputError: another name, a burst below 1, or more levels than the spikes of a free schedule can carry.
    """
    check_burst(burst)
    if name == "plain":
        return FiringSchedule(burst)
    if name == "staggered":
        return FiringSchedule(burst, stagger=0.25 / burst)
    if name == "weighted":
        return FiringSchedule(burst, halving_weights(num_levels), stagger=0.5 / burst)
    if name == "free":
        if 2 * num_levels > MAX_QUANTA:
            raise InputError(f"a free schedule takes up to {MAX_QUANTA // 2} levels, got {num_levels}")
        return FiringSchedule(burst, is_free=True, stagger=0.5 / burst)
    raise InputError(
        f"unknown schedule {name!r}", remedy=f"choose from {', '.join(SCHEDULES)}, or give a FiringSchedule"
    )
