"""Numbers -> pictures: accuracy against time, firing rate by site, energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mst.measure import AC, MAC, Cost, EnergyEstimate, energy_unit

from .drawing import (
    AC_COLOUR,
    ANN_COLOUR,
    CURVE_COLOURS,
    SNN_COLOUR,
    drawing,
    label_time_axis,
    save_figure,
)


def accuracy_vs_time(
    curves: Mapping[str, Sequence[float]], ann_accuracies: Mapping[str, float], path: Path, title: str = ""
) -> Path:
    """Accuracy of the SNN against the number of time steps, with the ANN's accuracy as a line.

    Args:
        curves: label -> accuracy after each step, as fractions.
        ann_accuracies: label -> accuracy of that curve's ANN, a fraction.
        path: of the .png.
        title: above the figure.
    """
    with drawing(6.4, 4.2) as figure:
        axes = figure.subplots()
        lowest = 1.0
        for i, (label, accuracy) in enumerate(curves.items()):
            colour = CURVE_COLOURS[i % len(CURVE_COLOURS)]
            steps = range(1, len(accuracy) + 1)
            axes.plot(steps, [100 * a for a in accuracy], color=colour, label=label, linewidth=1.8)
            lowest = min(lowest, *accuracy)
            if label in ann_accuracies:
                ann = 100 * ann_accuracies[label]
                axes.axhline(ann, color=colour, linestyle="--", linewidth=1, label=f"ANN of {label}, {ann:.2f} %")
        longest = max(len(accuracy) for accuracy in curves.values())
        label_time_axis(axes, longest)
        axes.set_ylabel("test accuracy (%)")
        axes.set_ylim(max(0.0, 100 * lowest - 3), 101)
        if title:
            axes.set_title(title)
        axes.legend(loc="lower right")
        return save_figure(figure, path)


def firing_rates(rates: Mapping[str, float], mean: float, path: Path, title: str = "") -> Path:
    """Firing rate of every site in spikes per neuron per step, in the order of the network."""
    with drawing(7.2, 1.4 + 0.2 * len(rates)) as figure:
        axes = figure.subplots()
        names = list(rates)
        axes.barh(range(len(names)), [rates[name] for name in names], color=SNN_COLOUR, height=0.72)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.axvline(mean, color=ANN_COLOUR, linestyle="--", linewidth=1, label=f"whole network, {mean:.3f}")
        axes.set_xlabel("firing rate (spikes per neuron per step)")
        axes.grid(visible=False, axis="y")
        axes.set_title(title or "Firing rate by site")
        axes.legend(loc="lower right")
        return save_figure(figure, path)


FUNCTIONS = "functions"
"""Part of a bar: all functions between the sites, by their elementary operations."""


def energy_bars(estimates: Mapping[str, EnergyEstimate], path: Path, title: str = "") -> Path:
    """Energy per image of SNN and ANN, split by kind of operation; where there are functions, a second bar of each
    holds maps, products and all functions."""
    rows = energy_parts(estimates)
    with drawing(6.4, 1.8 + 0.75 * len(rows) / 2) as figure:
        axes = figure.subplots()
        unit, factor = energy_unit(max(sum(parts.values()) for _, parts in rows))
        kinds = list(dict.fromkeys([MAC, AC, *(kind for _, parts in rows for kind in parts)]))
        left = [0.0] * len(rows)
        for number, kind in enumerate(kinds):
            widths = [parts.get(kind, 0.0) * factor for _, parts in rows]
            colour = (ANN_COLOUR, AC_COLOUR, *CURVE_COLOURS)[number % (2 + len(CURVE_COLOURS))]
            label = "AC (spikes)" if kind == AC else kind if kind == FUNCTIONS else kind.upper()
            axes.barh(range(len(rows)), widths, left=left, color=colour, height=0.6, label=label)
            left = [end + width for end, width in zip(left, widths, strict=True)]
        for y, end in enumerate(left):
            axes.text(end, y, f"  {end:.3g} {unit}", va="center")
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.16)
        origin = next(iter(estimates.values())).cost_model.origin
        axes.set_xlabel(f"energy per image ({unit}), operations only\n{origin}")
        axes.grid(visible=False, axis="y")
        axes.set_title(title or "Energy per image")
        figure.legend(loc="outside lower center", ncols=3)
        return save_figure(figure, path)


def energy_parts(estimates: Mapping[str, EnergyEstimate]) -> list[tuple[str, dict[str, float]]]:
    """Label -> energy in pJ by kind of operation, a bar each; ANNs that are equal stand once."""
    rows: list[tuple[str, dict[str, float]]] = []
    shown: Cost | None = None
    for name, estimate in estimates.items():
        bars = {"SNN": "snn"} | ({} if estimate.ann == shown else {"ANN": "ann"})
        shown = estimate.ann
        model, maps, functions = estimate.cost_model, estimate.maps_and_products, estimate.all_functions
        for network, side in bars.items():
            label = f"{network}, {name}" if name else network
            rows.append((label, model.components(getattr(estimate, side).operations)))
            if estimate.functions:
                whole = model.components(getattr(maps, side).operations)
                whole[FUNCTIONS] = getattr(functions, side).energy_pj
                rows.append((f"{label},\nwith functions", whole))
    return rows
