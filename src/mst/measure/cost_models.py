"""Cost models: what one operation of each kind costs, from which source. Every energy in mst comes from `price`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mst.errors import InputError
from mst.operations import ADDITION, ELEMENTARY, MULTIPLICATION
from mst.text import nearest_name

from .algorithms import FP16, FP32, INT8, Algorithm, Precision, table_algorithms

MAC = "mac"
"""Kind of operation: multiply-accumulate."""

AC = "ac"
"""Kind of operation: accumulate, which is what a spike causes at each output that it reaches."""

EnergyUnit = Literal["fJ", "pJ", "nJ"]
Status = Literal["measured", "simulated", "pre-silicon"]

_IN_PJ: dict[str, float] = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}


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
class CostModel:
    """Energy of one operation of each kind.

    Raises:
        InputError: no constant, one that is not above 0, or an unknown unit or status.
    """

    name: str
    """Name in `COST_MODELS`."""

    constants: Mapping[str, float]
    """Kind of operation -> energy of one, in `unit`."""

    source: str
    """Publication or data sheet that the constants come from."""

    status: Status
    """Way in which the source obtained them."""

    technology: str = ""
    """Hardware that the constants belong to: process, voltage, number format."""

    unit: EnergyUnit = "pJ"
    """Unit of the constants. Energies are reported in pJ."""

    algorithms: Mapping[str, Algorithm] = field(default_factory=dict)
    """Kind of elementary operation of a function -> how it is computed from multiplications and additions. Its energy
    is theirs, where it has no constant of its own."""

    def __post_init__(self) -> None:
        if self.unit not in _IN_PJ:
            raise InputError(f"unknown unit {self.unit!r}", where=self.name, remedy=f"choose from {', '.join(_IN_PJ)}")
        if self.status not in get_args(Status):
            remedy = f"choose from {', '.join(get_args(Status))}"
            raise InputError(f"unknown status {self.status!r}", where=self.name, remedy=remedy)
        wrong = {kind: energy for kind, energy in self.constants.items() if not (math.isfinite(energy) and energy > 0)}
        if wrong or not self.constants:
            raise InputError(f"energies must be above 0 {self.unit}, got {wrong or 'none'}", where=self.name)
        object.__setattr__(self, "constants", dict(self.constants))

    def energy_of(self, kind: str) -> float:
        """Energy of one operation of this kind, in pJ.

        Raises:
            InputError: the model has no constant for it.
        """
        if kind in self.constants:
            return self.constants[kind] * _IN_PJ[self.unit]
        algorithm = self.algorithms.get(kind)
        if algorithm is None:
            raise InputError(
                f"the cost model {self.name} has no energy for operations of the kind {kind!r}, only for "
                f"{', '.join(self.constants)}",
                remedy="add the constant, or choose another model",
            )
        energy = 0.0
        for number, part in ((algorithm.multiplications, MULTIPLICATION), (algorithm.additions, ADDITION)):
            energy += number * self.energy_of(part) if number else 0.0
        return energy

    def knows(self, kind: str) -> bool:
        """True if it has an energy for operations of this kind."""
        parts = (MULTIPLICATION, ADDITION)
        return kind in self.constants or (kind in self.algorithms and all(part in self.constants for part in parts))

    def components(self, operations: Operations) -> dict[str, float]:
        """Energy of each kind of operation that occurs, in pJ: number x energy of one.

        Raises:
            InputError: a kind occurs for which the model has no constant.
        """
        return {kind: number * self.energy_of(kind) for kind, number in operations.counts.items() if number}

    def price(self, operations: Operations) -> Cost:
        """The cost of these operations: the sum of `components`.

        Raises:
            InputError: a kind occurs for which the model has no constant.
        """
        return Cost(operations, float(sum(self.components(operations).values())))

    def with_constants(self, constants_pj: Mapping[str, float], source: str = "as given") -> CostModel:
        """This model with other constants, in pJ, for some kinds; itself if they are the ones that it has."""
        own = {kind: self.energy_of(kind) for kind in self.constants}
        if all(own.get(kind) == energy for kind, energy in constants_pj.items()):
            return self
        name, constants = f"{self.name}, changed", {**own, **constants_pj}
        return replace(self, name=name, constants=constants, unit="pJ", technology="", source=source)

    @property
    def origin(self) -> str:
        """Technology and source in words."""
        return f"{self.technology} ({self.source})" if self.technology else self.source

    def to_dict(self) -> dict[str, Any]:
        """The model as plain values, for a record; constants as `<kind>_pj`."""
        return {
            **{f"{kind}_pj": self.energy_of(kind) for kind in [*self.constants, *self.algorithms]},
            "source": self.origin,
            "name": self.name,
            "status": self.status,
            **({"algorithms": {kind: str(each) for kind, each in self.algorithms.items()}} if self.algorithms else {}),
        }

    def of_function_in_words(self, kind: str) -> str:
        """Energy of an elementary operation of a function, and how it was obtained: "exp 42.3 pJ (derived: ...)"."""
        derived = "" if kind in self.constants else f" (derived: {self.algorithms[kind]})"
        return f"{kind.replace('_', ' ')} {self.energy_of(kind):.3g} pJ{derived}"

    def __str__(self) -> str:
        kinds = [kind for kind in self.constants if kind not in ELEMENTARY]
        each = ", ".join(f"{kind.upper()} {self.energy_of(kind)} pJ" for kind in kinds)
        return f"{each}; {self.origin}"


COST_MODELS: dict[str, CostModel] = {}
"""Name -> cost model. `register_cost_model` adds to it."""


def register_cost_model(model: CostModel) -> CostModel:
    """Make a cost model known by its name, to `mst measure --cost-model` too.

    Returns:
        The model.

    Raises:
        InputError: another model has that name.
    """
    if COST_MODELS.get(model.name, model) != model:
        raise InputError(f"there is another cost model {model.name!r} already", remedy="choose another name")
    COST_MODELS[model.name] = model
    return model


def cost_model_named(name: str) -> CostModel:
    """The registered cost model of this name.

    Raises:
        InputError: there is none (suggests the nearest).
    """
    if name not in COST_MODELS:
        raise InputError(
            f"unknown cost model {name!r}{nearest_name(name, list(COST_MODELS))} Known: {', '.join(COST_MODELS)}"
        )
    return COST_MODELS[name]


def _horowitz(name: str, multiplication: float, addition: float, format_: str, precision: Precision) -> CostModel:
    """Registers the model, and the same with functions from tables as `<name>-tables`."""
    mac = round(multiplication + addition, 2)
    constants = {MAC: mac, AC: addition, MULTIPLICATION: multiplication, ADDITION: addition}
    source, technology = "Horowitz, ISSCC 2014", f"45 nm CMOS, {format_}"
    register_cost_model(
        CostModel(f"{name}-tables", constants, source, "simulated", technology, algorithms=table_algorithms())
    )
    return register_cost_model(
        CostModel(name, constants, source, "simulated", technology, algorithms=precision.algorithms())
    )


HOROWITZ_45NM_FP32 = _horowitz("45nm-fp32", 3.7, 0.9, "32-bit floating point", FP32)
"""A MAC is a multiplication (3.7 pJ) and an addition (0.9 pJ)."""

HOROWITZ_45NM_FP16 = _horowitz("45nm-fp16", 1.1, 0.4, "16-bit floating point", FP16)
"""A MAC is a multiplication (1.1 pJ) and an addition (0.4 pJ)."""

HOROWITZ_45NM_INT8 = _horowitz("45nm-int8", 0.2, 0.03, "8-bit integers", INT8)
"""A MAC is a multiplication (0.2 pJ) and an addition (0.03 pJ). Accumulators of more bits cost more."""


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
