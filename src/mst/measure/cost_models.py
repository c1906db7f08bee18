"""Cost models: what one operation of each kind costs, from which source. Every energy in mst comes from `price`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mst.errors import InputError
from mst.operations import ADDITION, ELEMENTARY, MULTIPLICATION
from mst.text import suggestion

from .algorithms import Algorithm
from .costs import Cost, Operations
from .kinds import BESIDE
from .memory import PLACES, Memory, Sizes

EnergyUnit = Literal["fJ", "pJ", "nJ"]
Status = Literal["measured", "simulated", "pre-silicon", "second hand"]

_IN_PJ: dict[str, float] = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}


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
    """Way in which the source obtained them; "second hand" if they were not read there."""

    technology: str = ""
    """Hardware that the constants belong to: process, voltage, number format."""

    unit: EnergyUnit = "pJ"
    """Unit of the constants. Energies are reported in pJ."""

    algorithms: Mapping[str, Algorithm] = field(default_factory=dict)
    """Kind of elementary operation of a function -> how it is computed from multiplications and additions. Its energy
    is theirs, where it has no constant of its own."""

    accesses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Kind of operation -> memory that it reads or writes ("weights", "activations", "potentials") -> how many words.
    Their energy is added to that of the arithmetic."""

    memory: Memory | None = None
    """Energy of an access; needed where there are `accesses`."""

    leaves_out: Mapping[str, str] = field(default_factory=dict)
    """Kinds that the model deliberately does not price, each with the reason. They are listed with every result."""

    bits: int = 32
    """Bits of weights and activations that the constants are for."""

    int8: CostModel | None = None
    """The same technology with weights and activations of 8 bits; None if its constants are not known."""

    given: tuple[str, ...] = ()
    """Kinds whose constants the user gave in place of the source's, or beside them."""

    def __post_init__(self) -> None:
        if self.unit not in _IN_PJ:
            raise InputError(f"unknown unit {self.unit!r}", where=self.name, remedy=f"choose from {', '.join(_IN_PJ)}")
        if self.status not in get_args(Status):
            remedy = f"choose from {', '.join(get_args(Status))}"
            raise InputError(f"unknown status {self.status!r}", where=self.name, remedy=remedy)
        wrong = {kind: energy for kind, energy in self.constants.items() if not (math.isfinite(energy) and energy > 0)}
        if wrong or not self.constants:
            raise InputError(f"energies must be above 0 {self.unit}, got {wrong or 'none'}", where=self.name)
        if self.accesses and self.memory is None:
            raise InputError("accesses to memory need the energy of one", where=self.name, remedy="give memory too")
        for kind, places in self.accesses.items():
            if not places.keys() <= set(PLACES) or not all(words > 0 for words in places.values()):
                what = f"{kind} needs numbers of words above 0 of {', '.join(PLACES)}, got {dict(places)}"
                raise InputError(what, where=self.name)
        both = [kind for kind in self.leaves_out if kind in self.constants or kind in self.accesses]
        if both:
            raise InputError(f"{', '.join(both)} cannot be priced and left out too", where=self.name)
        object.__setattr__(self, "constants", dict(self.constants))

    def energy_of(self, kind: str, sizes: Sizes | None = None) -> float:
        """Energy of one operation of this kind, in pJ: its arithmetic, and the words that it reads and writes.

        Args:
            kind: of operation. One that the model leaves out costs 0.
            sizes: words in the memories that it uses, where their size decides the price.

        Raises:
            InputError: the model has no energy for it, or needs the sizes.
        """
        if kind in self.leaves_out:
            return 0.0
        moved = self._moved(kind, sizes)
        if kind in self.constants:
            return self.constants[kind] * _IN_PJ[self.unit] + moved
        algorithm = self.algorithms.get(kind)
        if algorithm is None and kind in self.accesses:
            return moved
        if algorithm is None:
            raise InputError(
                f"the cost model {self.name} has no energy for operations of the kind {kind!r}, only for "
                f"{', '.join(self.constants)}",
                remedy="add the constant (of mac and ac: --mac-pj, --ac-pj), or choose another model",
            )
        energy = moved
        for number, part in ((algorithm.multiplications, MULTIPLICATION), (algorithm.additions, ADDITION)):
            energy += number * self.energy_of(part) if number else 0.0
        return energy

    def _moved(self, kind: str, sizes: Sizes | None) -> float:
        """Energy in pJ of the words that an operation reads and writes."""
        if kind not in self.accesses:
            return 0.0
        assert self.memory is not None
        return sum(words * self.memory.energy_of(place, sizes) for place, words in self.accesses[kind].items())

    def knows(self, kind: str) -> bool:
        """True if it has an energy for operations of this kind, or leaves it out with a reason."""
        if kind in self.constants or kind in self.accesses or kind in self.leaves_out:
            return True
        algorithm = self.algorithms.get(kind)
        if algorithm is None:
            return False
        parts = {MULTIPLICATION: algorithm.multiplications, ADDITION: algorithm.additions}
        return all(part in self.constants for part, number in parts.items() if number)

    def is_derived(self, kind: str) -> bool:
        """True if its energy follows from an algorithm rather than from a constant of the source."""
        return kind in self.algorithms and kind not in self.constants and kind not in self.leaves_out

    def components(self, operations: Operations, sizes: Sizes | None = None) -> dict[str, float]:
        """Energy of each kind of operation that occurs, in pJ: number x energy of one.

        Args:
            operations: their numbers.
            sizes: see `energy_of`.

        Raises:
            InputError: a kind occurs for which the model has no energy, or the sizes are needed.
        """
        return {kind: number * self.energy_of(kind, sizes) for kind, number in operations.counts.items() if number}

    def price(self, operations: Operations, sizes: Sizes | None = None) -> Cost:
        """The cost of these operations: the sum of `components`, with its arguments and errors."""
        return Cost(operations, float(sum(self.components(operations, sizes).values())))

    @property
    def at_8_bits(self) -> CostModel | None:
        """The model for weights and activations of 8 bits: itself if its constants are for these; None if unknown."""
        return self if self.bits <= 8 else self.int8

    def with_constants(self, constants_pj: Mapping[str, float], source: str = "as given") -> CostModel:
        """This model with other constants, in pJ, for some kinds; itself if they are the ones that it has."""
        own = {kind: energy * _IN_PJ[self.unit] for kind, energy in self.constants.items()}
        if all(own.get(kind) == energy for kind, energy in constants_pj.items()):
            return self
        changed = replace(
            self, name=f"{self.name}, changed", constants={**own, **constants_pj}, unit="pJ", technology="",
            source=source, int8=None, given=tuple(constants_pj),
        )  # fmt: skip
        added = [kind for kind in constants_pj if kind not in own]
        if not added:
            return changed
        return replace(changed, technology=self.technology, source=f"{self.source}; {', '.join(added)} {source}")

    @property
    def origin(self) -> str:
        """Technology and source in words."""
        return f"{self.technology} ({self.source})" if self.technology else self.source

    def to_dict(self) -> dict[str, Any]:
        """The model as plain values, for a record; constants as `<kind>_pj`."""
        return {
            **{f"{kind}_pj": energy * _IN_PJ[self.unit] for kind, energy in self.constants.items()},
            **{f"{kind}_pj": self.energy_of(kind) for kind in self.algorithms if self._is_plain(kind)},
            "source": self.origin,
            "name": self.name,
            "status": self.status,
            **({"algorithms": {kind: str(each) for kind, each in self.algorithms.items()}} if self.algorithms else {}),
            **({"accesses": dict(self.accesses), "memory": str(self.memory)} if self.accesses else {}),
            **({"leaves_out": dict(self.leaves_out)} if self.leaves_out else {}),
            **({} if self.bits == 32 else {"bits": self.bits}),
            **({"given": list(self.given)} if self.given else {}),
        }

    def _is_plain(self, kind: str) -> bool:
        """True if the energy of a kind follows from its algorithm alone."""
        return self.is_derived(kind) and kind not in self.accesses and self.knows(kind)

    def of_function_in_words(self, kind: str) -> str:
        """Energy of an elementary operation of a function, and how it was obtained: "exp 42.3 pJ (derived: ...)"."""
        derived = "" if kind in self.constants else f" (derived: {self.algorithms[kind]})"
        return f"{kind.replace('_', ' ')} {self.energy_of(kind):.3g} pJ{derived}"

    def __str__(self) -> str:
        kinds = [kind for kind in self.constants if kind not in ELEMENTARY and kind not in BESIDE]
        each = ", ".join(f"{kind.upper()} {self.constants[kind] * _IN_PJ[self.unit]} pJ" for kind in kinds)
        memory = f"; {self.memory}" if self.memory else ""
        return f"{each}{memory}; {self.origin}" + (", second hand" if self.status == "second hand" else "")


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
            f"unknown cost model {name!r}",
            remedy=suggestion(name, list(COST_MODELS), f"known: {', '.join(COST_MODELS)}"),
        )
    return COST_MODELS[name]
