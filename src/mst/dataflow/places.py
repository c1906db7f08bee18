"""Places that may stand in the way, and what becomes of them: only what reaches a neuron or the output counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .obstacles import Obstacle
from .values import Dataflow

PlaceKind = Literal["refused", "analog", "max_pool", "uncounted", "function", "approximate", "approximate_output"]
"""Refused under every coding; refused unless the coding carries any function, which keeps it analog; a max-pool that is
a function; an operation whose cost is not known; a function between the sites, which has a cost; approximate under a
coding that carries means, anywhere or as the output."""


@dataclass
class Place:
    """A call on the image's way that is worth reporting if its result is used."""

    kind: PlaceKind
    """Kind of call."""

    obstacle: Obstacle
    """The place in words; the remedy is empty where there is nothing to mend."""

    at_output: str | None = None
    """The remedy if its result is the network's output."""

    as_factor: str | None = None
    """The remedy if its result is multiplied by another activation."""

    is_used: bool = False
    """True if its result reaches a neuron or the output."""

    is_output: bool = False
    """True if its result is the network's output, in another layout perhaps."""

    is_factor: bool = False
    """True if its result is multiplied by another activation."""

    @property
    def reported(self) -> Obstacle:
        """The place with the remedy for its role."""
        remedy = self.obstacle.remedy
        if self.is_output and self.at_output is not None:
            remedy = self.at_output
        elif self.is_factor and self.as_factor is not None:
            remedy = self.as_factor
        return Obstacle(self.obstacle.where, self.obstacle.what, remedy)


class Places:
    """All places of one pass; a flow knows the numbers of those that it has passed since the last neuron."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def __getitem__(self, number: int) -> Place:
        return self._places[number]

    def add(self, place: Place) -> int:
        """Returns its number."""
        self._places.append(place)
        return len(self._places) - 1

    def use(self, numbers: Iterable[int]) -> None:
        """Note that what came from these places is used."""
        for number in numbers:
            self._places[number].is_used = True

    def report(self, into: Dataflow, any_function: bool) -> None:
        """Sort the places that are used into the lists of `into`, each once."""
        for place in self._places:
            if not place.is_used or place.kind == "function":
                continue
            where, text = place.obstacle.where, place.reported
            if place.kind == "max_pool":
                into.max_pools.append(where)
            elif place.kind == "uncounted":
                into.uncounted.append(text.what)
            elif place.kind.startswith("approximate"):
                is_approximate = not any_function and (place.is_output or place.kind == "approximate")
                if is_approximate and text not in into.approximate:
                    into.approximate.append(text)
            elif place.kind == "analog" and any_function:
                if all((where, text.what) != (known.where, known.what) for known in into.analog):
                    into.analog.append(text)
            elif text not in into.obstacles:
                into.obstacles.append(text)
