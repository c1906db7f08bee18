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


def energy_bars(estimates: Mapping[str, EnergyEstimate], path: Path, title: str = "") -> Path:
    """Energy per image of SNN and ANN, split by kind of operation."""
    with drawing(6.4, 1.8 + 0.75 * len(estimates)) as figure:
        axes = figure.subplots()
        rows: list[tuple[str, Cost, EnergyEstimate]] = []
        for label, e in estimates.items():
            rows.append((f"SNN, {label}" if label else "SNN", e.snn, e))
            if not rows[:-1] or e.ann != rows[-2][2].ann:
                rows.append((f"ANN, {label}" if label else "ANN", e.ann, e))
        unit, factor = energy_unit(max(cost.energy_pj for _, cost, _ in rows))
        for y, (_, cost, estimate) in enumerate(rows):
            left = 0.0
            components = estimate.cost_model.components(cost.operations)
            for number, kind in enumerate(dict.fromkeys([MAC, AC, *components])):
                width = components.get(kind, 0.0) * factor
                colour = (ANN_COLOUR, AC_COLOUR, *CURVE_COLOURS)[number % (2 + len(CURVE_COLOURS))]
                label = "AC (spikes)" if kind == AC else kind.upper()
                axes.barh(y, width, left=left, color=colour, height=0.6, label=label if y == 0 else None)
                left += width
            axes.text(left, y, f"  {left:.3g} {unit}", va="center")
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.16)
        origin = next(iter(estimates.values())).cost_model.origin
        axes.set_xlabel(f"energy per image ({unit}), operations only\n{origin}")
        axes.grid(visible=False, axis="y")
        axes.set_title(title or "Energy per image")
        figure.legend(loc="outside lower center", ncols=2)
        return save_figure(figure, path)
