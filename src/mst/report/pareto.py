"""The Pareto fronts of a sweep, drawn from its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mst.experiments.pareto import energy_column

from .drawing import ANN_COLOUR, CURVE_COLOURS, drawing, save_figure, shade
from .sweeps import row_label

FAINT = "#bbbbbb"


def sweep_fronts(rows: Sequence[dict[str, Any]], path: Path, title: str = "") -> Path:
    """Accuracy of the SNN against energy and against spikes per neuron: every row of the table as a dot, the front as a
    line of steps whose points carry their T, and the ANNs of the networks on the front of energy as stars.

    Args:
        rows: of `mst.experiments.sweep_rows`.
        path: of the .png.
        title: above the figure.
    """
    energy = energy_column(rows)
    fronts = [row for row in rows if row["on_energy_front"] or row["on_spikes_front"]]
    best = max(row["snn_accuracy_percent"] for row in rows)
    floor = max(min(row["snn_accuracy_percent"] for row in fronts), best - _SHOWN)
    shown = [row for row in fronts if row["snn_accuracy_percent"] >= floor]
    names = list(dict.fromkeys(row_label(row, rows) for row in shown))
    colours = {name: _colour(number, len(names)) for number, name in enumerate(names)}
    with drawing(11.0, 4.8 + 0.2 * (len(names) // 2)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _front(left, rows, energy, "on_energy_front", colours)
        _front(right, rows, "spikes_per_neuron", "on_spikes_front", colours)
        _anns(left, rows, energy, colours)
        functions = "with all functions" if energy == "energy_with_functions_uj" else "without functions"
        left.set_xlabel(f"energy (µJ per image), {functions}")
        left.set_ylabel("test accuracy of the SNN (%)")
        right.set_xlabel("spikes per neuron per image")
        left.set_ylim(floor - 0.08 * (best - floor) - 0.5, best + 0.08 * (best - floor) + 0.5)
        for name, colour in colours.items():
            left.plot([], [], "o", color=colour, label=name or "all settings")
        left.plot([], [], "*", color=ANN_COLOUR, label="ANN of such a network")
        left.plot([], [], ".", color=FAINT, label="other settings or time steps")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        if title:
            figure.suptitle(title)
        return save_figure(figure, path)


_SHOWN = 25.0
"""Points of accuracy below the best that the figure shows."""


def _colour(number: int, total: int) -> Any:
    return CURVE_COLOURS[number] if total <= len(CURVE_COLOURS) else shade(0.95 * number / (total - 1))


def _front(axes: Any, rows: Sequence[dict[str, Any]], cost: str, mark: str, colours: dict[str, Any]) -> None:
    """All rows as dots, and the front as steps."""
    axes.plot([row[cost] for row in rows], [row["snn_accuracy_percent"] for row in rows], ".", color=FAINT)
    front = sorted((row for row in rows if row[mark]), key=lambda row: float(row[cost]))
    costs, accuracy = [row[cost] for row in front], [row["snn_accuracy_percent"] for row in front]
    axes.plot(costs, accuracy, drawstyle="steps-post", color=ANN_COLOUR, linewidth=1.2)
    for row, x, y in zip(front, costs, accuracy, strict=True):
        if (name := row_label(row, rows)) not in colours:
            continue  # too inaccurate to be shown
        axes.plot(x, y, "o", color=colours[name], markersize=6)
        axes.annotate(f"T = {row['time_steps']}", (x, y), (4, -10), textcoords="offset points", fontsize=7)
    if min(row[cost] for row in rows) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "2357" else "")


def _anns(axes: Any, rows: Sequence[dict[str, Any]], energy: str, colours: dict[str, Any]) -> None:
    """The ANN of each network on the front of energy, at its own energy and accuracy."""
    relative = energy.replace("_uj", "_relative_to_ann")
    for row in rows:
        if row["on_energy_front"] and row[relative] and row_label(row, rows) in colours:
            of_ann = row[energy] / row[relative]
            axes.plot(
                of_ann, row["ann_accuracy_percent"], "*", color=colours[row_label(row, rows)], markersize=9,
                markeredgecolor=ANN_COLOUR, markeredgewidth=0.5,
            )  # fmt: skip
