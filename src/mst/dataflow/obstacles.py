"""Places that a coding cannot carry, each with its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mst.errors import InputError

THE_NETWORK = "(the network itself)"
"""Stands for the empty module path."""


@dataclass(frozen=True)
class Obstacle:
    """A place that a coding cannot carry."""

    where: str
    """Module path; empty for the network itself."""

    what: str
    """The function that stands in the way."""

    remedy: str
    """A way around it."""

    def __str__(self) -> str:
        return f"{self.where or THE_NETWORK}: {self.what}; {self.remedy}"


class ConversionError(InputError):
    """A network that a coding cannot carry as it is.

    Attributes:
        obstacles: every place that stands in the way, with what to do about it.
    """

    def __init__(self, obstacles: tuple[Obstacle, ...]) -> None:
        self.obstacles = obstacles
        count = "1 place" if len(obstacles) == 1 else f"{len(obstacles)} places"
        super().__init__(
            f"{count} cannot be carried by spikes. " + "\n".join(f"- {obstacle}" for obstacle in obstacles)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.obstacles,)
