"""The Pareto front of several runs: those that no other run beats in both accuracy and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mst.errors import InputError


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """True for each point on the front of low cost and high value.

    A point is off the front if another one costs no more, is worth no less, and differs in one of the two. Of points
    that are equal in both, the first is on the front.

    Args:
        costs: cost of each point, to be low.
        values: value of each point, to be high.

    Raises:
        InputError: the two differ in length.
    """
    if len(costs) != len(values):
        raise InputError(f"each point has a cost and a value, got {len(costs)} costs and {len(values)} values")
    on_front, best = [False] * len(costs), float("-inf")
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):  # stable: of equals, the first
        if values[index] > best:
            on_front[index], best = True, values[index]
    return on_front


def energy_column(rows: Sequence[dict[str, Any]]) -> str:
    """Column of a sweep's table that holds its energy: with all functions if every row has it, else without."""
    known = all(row["energy_with_functions_uj"] is not None for row in rows)
    return "energy_with_functions_uj" if known else "energy_uj"


def mark_fronts(rows: Sequence[dict[str, Any]]) -> None:
    """Fill `on_energy_front` and `on_spikes_front` of a sweep's rows: the fronts of accuracy of the SNN against energy
    per image and against spikes per neuron."""
    accuracy = [row["snn_accuracy_percent"] for row in rows]
    for name, cost in (("on_energy_front", energy_column(rows)), ("on_spikes_front", "spikes_per_neuron")):
        for row, is_on in zip(rows, pareto_front([row[cost] for row in rows], accuracy), strict=True):
            row[name] = is_on
