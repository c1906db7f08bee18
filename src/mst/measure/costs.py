"""Numbers of operations and their energy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import AC, MAC


@dataclass(frozen=True)
class Operations:
    """Numbers of operations of one image."""

    counts: Mapping[str, float] = field(default_factory=dict)
    """Kind of operation (`MAC`, `AC`, ...) -> how many. A kind that is absent does not occur."""

    def __add__(self, other: Operations) -> Operations:
        kinds = dict.fromkeys([*self.counts, *other.counts])
        return Operations({kind: self.counts.get(kind, 0.0) + other.counts.get(kind, 0.0) for kind in kinds})

    def scaled(self, factor: float) -> Operations:
        """These numbers times `factor`."""
        return Operations({kind: number * factor for kind, number in self.counts.items()})


@dataclass(frozen=True)
class Cost:
    """Operations and energy of one image."""

    operations: Operations
    """Number of operations of each kind."""

    energy_pj: float
    """Energy of all of them, in pJ."""

    @property
    def num_macs(self) -> float:
        """Multiply-accumulates."""
        return self.operations.counts.get(MAC, 0.0)

    @property
    def num_acs(self) -> float:
        """Accumulates."""
        return self.operations.counts.get(AC, 0.0)

    @property
    def energy_mj(self) -> float:
        """Energy in mJ."""
        return self.energy_pj * 1e-9

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.operations + other.operations, self.energy_pj + other.energy_pj)

    def scaled(self, factor: float) -> Cost:
        """This cost times `factor`."""
        return Cost(self.operations.scaled(factor), self.energy_pj * factor)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number:,.0f} {_plural(kind)}" for kind, number in self.operations.counts.items())
        return f"Cost({readable_energy(self.energy_pj)}: {counts or 'no operations'})"


@dataclass(frozen=True)
class Part:
    """A part of the energy."""

    snn: Cost
    """In the SNN."""

    ann: Cost
    """In the ANN."""

    @property
    def ratio(self) -> float:
        """Energy in the SNN as a multiple of the ANN's; NaN if there is nothing of it."""
        return self.snn.energy_pj / self.ann.energy_pj if self.ann.energy_pj else math.nan

    def __add__(self, other: Part) -> Part:
        return Part(self.snn + other.snn, self.ann + other.ann)


def _plural(kind: str) -> str:
    return kind.upper() + "s" if kind in (MAC, AC) else f"x {kind.replace('_', ' ')}"


def energy_unit(energy_pj: float) -> tuple[str, float]:
    """The unit in which this energy has few digits, and the factor from pJ to it."""
    for unit, factor in (("mJ", 1e-9), ("µJ", 1e-6), ("nJ", 1e-3)):
        if energy_pj * factor >= 1:
            return unit, factor
    return "pJ", 1.0


def readable_energy(energy_pj: float) -> str:
    """An energy with its unit, to three digits: "1.23 µJ"."""
    unit, factor = energy_unit(energy_pj)
    return f"{energy_pj * factor:.3g} {unit}"
