"""Where energy goes: tables and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mst.measure import Axis, EnergyEstimate, budget_by, budget_by_step, energy_unit, mask_savings
from mst.simulation import SimulationResult

from .drawing import ANN_COLOUR, CURVE_COLOURS, drawing, save_figure
from .tables import steps_shown

AXIS_TITLES: Mapping[Axis, str] = {
    "kind": "kind of row",
    "operation": "kind of operation",
    "stage": "part of the network",
    "site": "site that drives it",
}
"""Axes of the budget -> heading of its table."""

MOST_SITES = 12
"""Sites in a table; the others are added up."""

ROW_COLOURS = (*CURVE_COLOURS, "#6c757d", "#d98c5f", "#7fb3d5", "#8fbf9f")


def budget_tables(estimate: EnergyEstimate, result: SimulationResult) -> list[Table]:
    """Energy per image by kind of row, kind of operation, part of the network, site and step, and what masks save.

    Args:
        estimate: with a budget, see `EnergyEstimate.unpriced`.
        result: of its simulation.
    """
    tables = [_axis_table(estimate, axis) for axis in AXIS_TITLES]
    tables.append(_step_table(estimate))
    masks = _mask_table(estimate, result)
    return [*tables, masks] if masks is not None else tables


def _axis_table(estimate: EnergyEstimate, axis: Axis) -> Table:
    table = Table(title=f"Energy per image by {AXIS_TITLES[axis]}", box=SIMPLE_HEAD)
    table.add_column(AXIS_TITLES[axis], overflow="fold")
    for heading in ("SNN\n(µJ)", "of the\nSNN", "ANN\n(µJ)", "relative\nto its ANN"):
        table.add_column(heading, justify="right", no_wrap=True)
    sums = budget_by(estimate.budget, axis)
    if axis == "site":
        sums = _largest(sums)
    total = sum(snn for snn, _ in sums.values())
    for label, (snn, ann) in [*sums.items(), ("total", (total, sum(ann for _, ann in sums.values())))]:
        if label == "total":
            table.add_section()
        ratio = f"{snn / ann:.2f}x" if ann else ""
        share = f"{snn / total:.1%}" if total else ""
        if axis == "operation" and label in estimate.cost_model.leaves_out:
            table.add_row(label.replace("_", " "), "left out", "", "left out", "")
            continue
        table.add_row(label.replace("_", " ") if axis == "operation" else label, f"{snn * 1e-6:,.3f}", share,
                      f"{ann * 1e-6:,.3f}", ratio)  # fmt: skip
    return table


def _largest(sums: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The sites that drive most energy, and the sum of the others."""
    order = sorted(sums, key=lambda label: -sums[label][0])
    kept = {label: sums[label] for label in order[:MOST_SITES]}
    others = [sums[label] for label in order[MOST_SITES:]]
    if others:
        kept[f"{len(others)} other sites"] = sum(snn for snn, _ in others), sum(ann for _, ann in others)
    return kept


def _step_table(estimate: EnergyEstimate) -> Table:
    by_step = budget_by_step(estimate.budget)
    table = Table(title="Energy of the SNN per image in single steps (µJ)", box=SIMPLE_HEAD)
    table.add_column("step", justify="right")
    for kind in by_step:
        table.add_column(kind, justify="right", no_wrap=True)
    for t in steps_shown(estimate.num_steps):
        table.add_row(str(t), *(f"{steps[t - 1] * 1e-6:,.3f}" for steps in by_step.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(steps) * 1e-6:,.3f}" for steps in by_step.values()))
    return table


def _mask_table(estimate: EnergyEstimate, result: SimulationResult) -> Table | None:
    """What masks save at each site; None where there are none."""
    images, dropped = result.num_images, result.dropped_counts
    sites = {site: (sent / images, dropped[site] / images) for site, sent in result.spike_counts.items()}
    savings = mask_savings(estimate.budget, sites)
    if not savings:
        return None
    table = Table(title="Masks: what the dropped spikes would have driven at this site (µJ per image)", box=SIMPLE_HEAD)
    table.add_column("site", overflow="fold")
    for heading in ("spikes\nsent", "spikes\ndropped", "saved\n(µJ)", "cost of the\ndraws (µJ)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in savings:
        table.add_row(
            each.site, f"{each.sent:,.0f}", f"{each.dropped:,.0f}", f"{each.saved_pj * 1e-6:,.3f}",
            f"{each.drawn_pj * 1e-6:,.3f}",
        )  # fmt: skip
    saved, drawn = sum(each.saved_pj for each in savings), sum(each.drawn_pj for each in savings)
    table.add_section()
    sent, lost = sum(each.sent for each in savings), sum(each.dropped for each in savings)
    table.add_row("all", f"{sent:,.0f}", f"{lost:,.0f}", f"{saved * 1e-6:,.3f}", f"{drawn * 1e-6:,.3f}")
    return table


def budget_figure(estimate: EnergyEstimate, path: Path, title: str = "") -> Path:
    """Energy by part of the network beside its ANN, and by step, both split by kind of row."""
    kinds = list(budget_by(estimate.budget, "kind"))
    stages = stages_by_kind(estimate)
    colours = {kind: ROW_COLOURS[number % len(ROW_COLOURS)] for number, kind in enumerate(kinds)}
    unit, factor = energy_unit(max(sum(snn.values()) for snn, _ in stages.values()))
    with drawing(11, 2.4 + 0.42 * len(stages)) as figure:
        left, right = figure.subplots(1, 2)
        for y, (snn, ann) in enumerate(stages.values()):
            start = 0.0
            for kind in kinds:
                width = snn.get(kind, 0.0) * factor
                left.barh(y - 0.17, width, left=start, height=0.34, color=colours[kind])
                start += width
            left.barh(y + 0.22, ann * factor, height=0.26, color=ANN_COLOUR)
        left.set_yticks(range(len(stages)), list(stages))
        left.invert_yaxis()
        left.set_xlabel(f"energy per image ({unit}): upper bars SNN, lower bars its ANN")
        left.grid(visible=False, axis="y")
        steps = budget_by_step(estimate.budget)
        step_unit, step_factor = energy_unit(max(map(sum, zip(*steps.values(), strict=True))))
        bottom: Sequence[float] = [0.0] * estimate.num_steps
        for kind, energies in steps.items():
            heights = [energy * step_factor for energy in energies]
            right.bar(range(1, estimate.num_steps + 1), heights, bottom=bottom, width=1.0, color=colours[kind])
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        right.set_xlim(0.5, max(1.5, estimate.mean_steps * 1.1 + 0.5))
        right.set_ylim(0, 1.05 * max(bottom))
        right.xaxis.get_major_locator().set_params(integer=True)
        right.set_xlabel("time step")
        right.set_ylabel(f"energy per image of the SNN ({step_unit})")
        handles = [left.barh(0, 0, color=colour) for colour in (*colours.values(), ANN_COLOUR)]
        figure.legend(handles, [*colours, "ANN"], loc="outside lower center", ncols=5)
        figure.suptitle(f"{title or 'Where energy goes'}\ncost model {estimate.cost_model.name}", fontsize=11)
        return save_figure(figure, path)


def stages_by_kind(estimate: EnergyEstimate) -> dict[str, tuple[dict[str, float], float]]:
    """Part of the network -> energy of the SNN in pJ by kind of row, and energy of the ANN."""
    found: dict[str, tuple[dict[str, float], float]] = {}
    for row in estimate.budget:
        snn, ann = found.get(row.counted.stage, ({}, 0.0))
        kind = row.counted.kind
        found[row.counted.stage] = {**snn, kind: snn.get(kind, 0.0) + row.snn.energy_pj}, ann + row.ann.energy_pj
    return found
