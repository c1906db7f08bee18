"""When a signed neuron may fire, and what its spikes are worth: the clock that all neurons of a site share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["plain", "staggered", "weighted"]
SCHEDULES: tuple[ScheduleName, ...] = ("plain", "staggered", "weighted")
DEFAULT_SCHEDULE: ScheduleName = "weighted"


@dataclass(frozen=True)
class FiringSchedule:
    """How signed neurons take turns. Whatever the schedule, a settled network equals its ANN; it decides how many steps
    and spikes that takes.

    Args:
        burst: most spikes of a neuron in one step.
        weights: quanta (of λ/L) that a spike stands for, step by step of the site's own clock, repeated. Known to
            sender and receiver from the clock, so a spike carries its sign and nothing else. Empty: 1 at each step.
            "weighted" networks have the powers of two below L and another 1, see `halving_weights`.
        stagger: steps by which a site starts later than the sites before it; site number d in its chain of sites starts
            at step floor(stagger · d).

    Raises:
        ValueError: burst below 1, weights without a 1 or below it, or a stagger that is negative or no number.

    Source: weights that depend on the step are the phase code of Kim et al., "Deep neural networks with weighted
    spikes", Neurocomputing 2018; signs, correction and stagger are ours.
    """

    burst: int = 1
    weights: tuple[int, ...] = ()
    stagger: float = 0.0

    def __post_init__(self) -> None:
        check_burst(self.burst)
        object.__setattr__(self, "weights", tuple(self.weights))
        if not all(isinstance(weight, int) and weight >= 1 for weight in self.weights):
            raise ValueError(f"weights of spikes are whole quanta, at least 1, got {self.weights}")
        if self.weights and 1 not in self.weights:
            raise ValueError(
                f"without a spike of one quantum a neuron cannot reach every level; weights {self.weights}"
            )
        if not (math.isfinite(self.stagger) and self.stagger >= 0):
            raise ValueError(f"stagger must be a number of steps from 0 on, got {self.stagger}")

    def start(self, depth: int) -> int:
        """First step at which a site may fire that has `depth` sites before it."""
        return int(self.stagger * depth)

    def weight(self, step: int, depth: int) -> int:
        """Quanta that a spike is worth at this step; 0 before the site's first."""
        own = step - self.start(depth)
        if step < 0 or own < 0:
            return 0
        return self.weights[own % len(self.weights)] if self.weights else 1

    def longest(self, depth: int, num_levels: int, input_steps: int = 1) -> int:
        """Steps after which any network of this schedule has settled, see docs/maths.md.

        Args:
            depth: sites in the longest chain.
            num_levels: largest L.
            input_steps: steps over which the image is spread.
        """
        ones = self.weights.count(1) if self.weights else 1
        cycles = -(-num_levels // (self.burst * ones))
        return max(input_steps - 1, self.start(depth)) + depth * cycles * max(1, len(self.weights))


def check_burst(burst: int) -> int:
    """The burst, if it is a whole number from 1 on.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(burst, int) or isinstance(burst, bool) or burst < 1:
        raise ValueError(f"burst is the most spikes of a neuron in one step, a whole number from 1 on, got {burst!r}")
    return burst


def halving_weights(num_levels: int) -> tuple[int, ...]:
    """The powers of two below L from the largest down, and another 1: (8, 4, 2, 1, 1) for 16 levels."""
    powers = [2**k for k in range(num_levels.bit_length()) if 2**k < num_levels]
    return (*reversed(powers), 1)


def named_schedule(name: ScheduleName, num_levels: int, burst: int = 1) -> FiringSchedule:
    """One of the schedules that have a name.

    plain: every neuron may fire from the first step on, spikes of one quantum.
    staggered: likewise, each site a quarter of a step later than the one before it, divided by the burst.
    weighted: spikes of `halving_weights`, each site half a step later, divided by the burst.

    Raises:
        ValueError: another name, or a burst below 1.
    """
    check_burst(burst)
    if name == "plain":
        return FiringSchedule(burst)
    if name == "staggered":
        return FiringSchedule(burst, stagger=0.25 / burst)
    if name == "weighted":
        return FiringSchedule(burst, halving_weights(num_levels), stagger=0.5 / burst)
    raise ValueError(f"unknown schedule {name!r}; choose from {list(SCHEDULES)}, or give a FiringSchedule")
