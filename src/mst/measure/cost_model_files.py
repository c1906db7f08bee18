"""Cost models from YAML files: the constants of a user's own chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mst.errors import InputError, MissingFileError, errors_at
from mst.operations import ELEMENTARY
from mst.text import one_line, suggestion

from .algorithms import FP16, FP32, INT8, Algorithm, neuron_algorithms, table_algorithms
from .cost_models import CostModel
from .kinds import AC, BESIDE, CURRENT_ADDITION, MAC, NEURON_UPDATE, SPIKE, THRESHOLD_COMPARISON
from .memory import Memory

SUFFIXES = (".yaml", ".yml")
"""Endings of a file of a cost model."""

FUNCTIONS: Mapping[str, Callable[[], Mapping[str, Algorithm]]] = {
    "fp32": FP32.algorithms,
    "fp16": FP16.algorithms,
    "int8": INT8.algorithms,
    "tables": table_algorithms,
}
"""Ways to compute functions from multiplications and additions."""

KINDS = (MAC, AC, *BESIDE, *ELEMENTARY)
"""Kinds of operations that a file may price."""

PARTS = (CURRENT_ADDITION, THRESHOLD_COMPARISON, SPIKE)
"""Arithmetic of a neuron's update."""

_TEXTS = ("name", "source", "status", "technology", "unit", "functions")
_KEYS = (*_TEXTS, "constants", "accesses", "memory", "leaves_out", "bits", "int8")


def read_cost_model(path: str | Path) -> CostModel:
    """A cost model from a YAML file, see docs/energy.md.

    Args:
        path: a file with the fields of `CostModel` as keys: name (default: the file's), source, status, technology,
            unit, constants, accesses, memory (by_size, word_bits), leaves_out, bits, int8 (a model within the model);
            `functions` (fp32, fp16, int8 or tables) derives what the constants do not price. With an energy of a
            neuron_update the arithmetic of its parts is left out where it has no constant, and the other way round.

    Raises:
        MissingFileError: no such file.
        InputError: not YAML; an unknown key or kind of operation (suggests the nearest); a value of a wrong type; a
            source or status missing; or a model that cannot be, see `CostModel`.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no cost model {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not a YAML file ({one_line(error)})", where=str(path)) from error
    with errors_at(str(path)):
        return _model(values, {"name": path.stem})


def _model(values: Any, defaults: Mapping[str, Any]) -> CostModel:
    values = {**defaults, **_mapping("the file", values)}
    for key in values:
        _known(str(key), _KEYS, "key")
    for key in _TEXTS:
        if not isinstance(values.get(key, ""), str):
            raise InputError(f"must be text, got {values[key]!r}", where=key)
    missing = [key for key in ("constants", "source", "status") if not values.get(key)]
    if missing:
        raise InputError(
            f"{', '.join(missing)} missing",
            remedy="state the energies, where they come from, and whether they are measured, simulated, pre-silicon or "
            "second hand",
        )
    functions = values.get("functions")
    algorithms: Mapping[str, Algorithm] = {}
    if functions is not None:
        _known(functions, tuple(FUNCTIONS), "functions")
        algorithms = {**FUNCTIONS[functions](), **neuron_algorithms()}
    own = {key: values[key] for key in ("name", "source", "status", "technology", "unit") if key in values}
    narrow = values.get("int8")
    inherited = {key: value for key, value in values.items() if key not in ("int8", "constants", "memory", "bits")}
    nested = {**inherited, "name": f"{own['name']}, 8 bits", "bits": 8}
    if narrow is not None:
        with errors_at("int8"):
            narrow = _model(narrow, nested)
    return CostModel(
        **own,
        constants=_numbers("constants", values["constants"]),
        algorithms=algorithms,
        accesses={
            kind: _numbers(f"accesses, {kind}", each, ()) for kind, each in _of_kinds("accesses", values).items()
        },
        memory=_memory(values.get("memory")),
        leaves_out={kind: str(reason) for kind, reason in _of_kinds("leaves_out", values).items()}
        | _whole_or_parts(values, algorithms),
        bits=_bits(values.get("bits", 32)),
        int8=narrow,
    )


def _whole_or_parts(values: Mapping[str, Any], algorithms: Mapping[str, Algorithm]) -> dict[str, str]:
    """Kinds left out because a neuron's update is priced as a whole, or by its parts, so that nothing counts twice."""
    named = {*values["constants"], *values.get("accesses", {}), *values.get("leaves_out", {})}
    if NEURON_UPDATE in values["constants"]:
        return {part: "part of the neuron's update" for part in PARTS if part not in named}
    priced = all(part in named or part in algorithms for part in PARTS)
    return {NEURON_UPDATE: "priced by its parts"} if priced and NEURON_UPDATE not in named else {}


def _known(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise InputError(f"unknown {what} {name!r}", remedy=suggestion(name, known, f"known: {', '.join(known)}"))


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"must hold keys and values, got {type(value).__name__}", where=where)
    return value


def _of_kinds(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping from kinds of operations under a key; empty where there is none."""
    found = _mapping(key, values.get(key, {}))
    with errors_at(key):
        for kind in found:
            _known(str(kind), KINDS, "kind of operation")
    return found


def _numbers(where: str, value: Any, known: tuple[str, ...] = KINDS) -> dict[str, float]:
    """A mapping to numbers; its keys are kinds of operations, or anything where `known` is empty."""
    found = _mapping(where, value)
    with errors_at(where):
        for name, number in found.items():
            if known:
                _known(str(name), known, "kind of operation")
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise InputError(f"must be a number, got {number!r}", where=str(name))
    return {str(name): float(number) for name, number in found.items()}


def _memory(value: Any) -> Memory | None:
    if value is None:
        return None
    found = _mapping("memory", value)
    with errors_at("memory"):
        for key in found:
            _known(str(key), ("by_size", "word_bits"), "key")
        sizes = found.get("by_size")
        if not isinstance(sizes, list) or not all(map(_is_pair, sizes)):
            raise InputError(f"by_size must be a list of [KiB, pJ per word], got {sizes!r}")
        by_size = tuple((float(size), float(energy)) for size, energy in sizes)
        return Memory(by_size, _bits(found.get("word_bits", 32), "word_bits"))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, int | float) for each in value)


def _bits(value: Any, where: str = "bits") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"must be a whole number, at least 1, got {value!r}", where=where)
    return value
