"""Places that a coding cannot carry, each with its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mst.errors import InputError

from .tables import ATTENTION, GATES, RECURRENT

THE_NETWORK = "(the network itself)"
"""Stands for the empty module path."""

DIVISION = ("division by an activation", "leave it out, or divide by a constant")
"""The problem and its remedy."""


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


def explain(name: str, module: nn.Module) -> tuple[str, str]:
    """The problem with function `name` in the forward of `module`, and its remedy."""
    kind = type(module).__name__
    if name in ATTENTION:
        return (
            f"{name} hides products of activations and a softmax in one function",
            "build it from nn.Softmax and mst.ActivationProduct, with mst.QCFS on the queries, keys and values",
        )
    if name in RECURRENT:
        return f"{name} hides its activations in one function", "choose another network"
    if name in GATES:
        return f"{name} has no spiking counterpart", "leave out the gate that it belongs to, and train"
    if kind.lower() == name or not list(module.children()):
        inside = "" if kind.lower() == name else f" in {kind}"
        remedy = f"replace it by QCFS, for example with mst.quantize(..., also=({kind},)), and train"
        return f"{name}{inside} has no spiking counterpart", remedy
    return (
        f"{name} in the forward of {kind} has no spiking counterpart",
        "make it a module of its own, so that mst.quantize can put a QCFS in its place, or leave it out",
    )
