"""Energies of a measurement: of everything where the record has a budget, else of what an earlier version recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate

from mst.experiments.run_files import Fields

FUNCTIONS = "function"
"""Kind of the functions between the sites, by their elementary operations."""

_IN_FUNCTIONS = ("softmax", "layer_norm")
"""Kinds of operations that are among the functions too."""

Energies = dict[str, tuple[float, float]]
"""Name -> energy in pJ per image, of the SNN and of its ANN."""


def scope(measurement: Fields) -> str:
    """Kinds of rows that the energies hold, in words."""
    if measurement.has("budget"):
        return "maps, products, functions, neurons, masks and input, as far as the cost model prices them"
    return "maps, products and functions" if _whole(measurement) is not None else "maps, products and norms"


def totals(measurement: Fields) -> tuple[float, float] | None:
    """Energy in pJ per image, of the SNN and of its ANN; None where they are not priced."""
    budget = measurement.part("budget")
    total = _whole(measurement) if budget is None else budget.part("total")
    if total is not None:
        return _pair(total)
    energy = measurement.part("energy_pj")
    values = (None, None) if energy is None else (energy.number("snn"), energy.number("ann"))
    return None if values[0] is None or values[1] is None else (values[0], values[1])


def energy_ratio(measurement: Fields) -> float | None:
    """Energy of the SNN as a multiple of its ANN's."""
    both = totals(measurement)
    return both[0] / both[1] if both is not None and both[1] else None


def by_kind(measurement: Fields) -> Energies:
    """Energy by kind of row."""
    budget = measurement.part("budget")
    if budget is not None:
        return _pairs(budget.parts("by_kind"))
    functions = (measurement.part("parts") or measurement).part("functions")
    found: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for row in measurement.parts("operations").values():
        kind = row.text("kind") or "other"
        if functions is None or kind not in (FUNCTIONS, *_IN_FUNCTIONS):
            before, own = found[kind], _sides(row)
            found[kind] = before[0] + own[0], before[1] + own[1]
    return {**found, **({} if functions is None else {FUNCTIONS: _pair(functions)})}


def by_site(measurement: Fields) -> Energies:
    """Energy by the site that drives an operation."""
    budget = measurement.part("budget")
    if budget is not None:
        return _pairs(budget.parts("by_site"))
    return {name: _sides(site) for name, site in measurement.parts("sites").items()}


def after_step(measurement: Fields) -> list[float]:
    """Energy of the SNN in pJ per image, of a run stopped after each step; empty where it is not known."""
    steps = (measurement.part("budget") or measurement).part("snn_energy_pj_by_step")
    if steps is not None:
        rows = [steps.numbers(kind) or () for kind in steps.content]
        return list(accumulate(map(sum, zip(*rows, strict=False))))
    of_whole = measurement.numbers("whole_energy_pj_after_step") if _whole(measurement) is not None else None
    return list(of_whole or measurement.numbers("snn_energy_pj_after_step") or ())


def _whole(measurement: Fields) -> Fields | None:
    parts = measurement.part("parts")
    return None if parts is None else parts.part("whole")


def _pair(part: Fields) -> tuple[float, float]:
    return part.number("snn_energy_pj") or 0.0, part.number("ann_energy_pj") or 0.0


def _pairs(parts: Mapping[str, Fields]) -> Energies:
    return {name: _pair(part) for name, part in parts.items()}


def _sides(row: Fields) -> tuple[float, float]:
    snn, ann = (cost.number("energy_pj") if (cost := row.part(side)) else None for side in ("snn", "ann"))
    return snn or 0.0, ann or 0.0
