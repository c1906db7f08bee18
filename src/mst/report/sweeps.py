"""Many runs side by side: a table with mean and spread, and figures of accuracy against cost."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from mst.experiments.sweep_results import COLUMNS, SweepCell, SweepResult, brief
from mst.files import write_atomically

from .drawing import ANN_COLOUR, CURVE_COLOURS, drawing, label_time_axis, save_figure, shade


def write_sweep_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write all columns, unrounded."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text.getvalue(), encoding="utf-8"))
    return path


def sweep_markdown(rows: Sequence[dict[str, Any]], title: str, unfinished: Sequence[str] = ()) -> str:
    """A table in Markdown, with units; ± is the standard deviation over mask seeds.

    Args:
        rows: of `sweep_rows`.
        title: heading.
        unfinished: labels of cells that are not in the table.
    """
    headings = (
        "coding", "L", "p", "masked sites", "spike penalty", "T", "mean T", "ANN (%)", "SNN (%)", "spikes per image",
        "relative to p = 0", "spikes per neuron", "firing rate", "energy (µJ)", "relative to its ANN",
        "with functions (µJ)", "relative to its ANN", "Pareto front",
    )  # fmt: skip
    lines = [f"# {title}", "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for row in rows:
        relative = row["spikes_relative_to_unmasked"]
        cells = (
            _coding(row), _levels(row), f"{row['masking_ratio']:g}", row["mask_sites"] or "none",
            f"{row['spike_penalty']:g}", f"{row['time_steps']}", f"{row['mean_steps']:.1f}",
            _spread(row["ann_accuracy_percent"], row["ann_accuracy_spread"], row["num_seeds"], ".2f"),
            _spread(row["snn_accuracy_percent"], row["snn_accuracy_spread"], row["num_seeds"], ".2f"),
            _spread(row["spikes_per_image"], row["spikes_per_image_spread"], row["num_seeds"], ",.0f"),
            "" if relative is None else f"x{relative:.3f}", f"{row['spikes_per_neuron']:.2f}",
            f"{row['firing_rate']:.4f}", f"{row['energy_uj']:.3g}", f"{row['energy_relative_to_ann']:.2f}x",
            *_with_functions(row), _fronts(row),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    images = sorted({row["num_images"] for row in rows})
    lines += ["", *(f"Not in this table, because it is unfinished: {label}." for label in unfinished)]
    lines += [
        f"{' or '.join(map(str, images))} test images. ±: standard deviation over mask seeds. A spike is one that left "
        "its site, after masking; mean T: steps that an image took up to T, until it had settled or left; firing rate "
        "in spikes per neuron per step. Energy of operations only: of maps, products and norms, and softmax and "
        "LayerNorm that are modules at 3 MACs per element; with functions: of maps, products and every function by its "
        f"elementary operations. Pareto front: no other row has a higher or equal accuracy at lower or equal "
        f"{FRONTS['energy']}, or {FRONTS['spikes']}, whatever the accuracy's standard error is.",
    ]
    return "\n".join(lines) + "\n"


def _coding(row: dict[str, Any]) -> str:
    leaving = f", exit by {row['early_exit']}" if row["early_exit"] else ""
    schedule = f", {row['schedule']}, burst {row['burst']}" if row["schedule"] else ""
    return f"{row['coding']}{schedule}{leaving}"


def _levels(row: dict[str, Any]) -> str:
    notes = [f"{row['max_powers']} powers"] if row["max_powers"] else []
    notes += ["at products"] if row["placement"] == "products" else []
    return f"{row['num_levels']}" + (f" ({', '.join(notes)})" if notes else "")


def row_label(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The settings of a row that differ among the rows, T left out."""
    settings = (
        lambda r: f"L = {_levels(r)}",
        lambda r: f"p = {r['masking_ratio']:g}" + (f" at {brief(r['mask_sites'])}" if r["mask_sites"] else ""),
        lambda r: f"penalty {r['spike_penalty']:g}",
        _coding,
    )
    return ", ".join(words(row) for words in settings if len({words(each) for each in rows}) > 1)


FRONTS = {"energy": "energy", "spikes": "spikes per neuron"}
"""Mark in the table -> cost of that Pareto front."""


def _fronts(row: dict[str, Any]) -> str:
    return ", ".join(name for name in FRONTS if row[f"on_{name}_front"])


def _with_functions(row: dict[str, Any]) -> tuple[str, str]:
    """Energy with functions, and relative to the ANN's; empty where an earlier version has not recorded it."""
    if row["energy_with_functions_uj"] is None:
        return "", ""
    return f"{row['energy_with_functions_uj']:.3g}", f"{row['energy_with_functions_relative_to_ann']:.2f}x"


def _spread(mean: float, spread: float, num_seeds: int, form: str) -> str:
    return f"{mean:{form}}" + (f" ± {spread:{form}}" if num_seeds > 1 else "")


# ---------------------------------------------------------------------------------------------- figures


def sweep_against_ratio(results: Sequence[SweepResult], path: Path, title: str = "") -> Path:
    """Accuracy and spikes at the last step against the masking ratio, a line for each of the other settings."""
    with drawing(9.6, 4.4) as figure:
        left, right = figure.subplots(1, 2)
        for number, (label, line) in enumerate(lines_over_ratio(results).items()):
            colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
            ratios = [result.cell.masking_ratio for result in line]
            snn = [result.series("accuracy", 100)[-1] for result in line]
            ann = [result.number("ann_accuracy", 100) for result in line]
            spikes = [result.series("spikes_per_image")[-1] for result in line]
            base = spikes[0][0] or math.nan
            style: dict[str, Any] = {"color": colour, "marker": "o", "capsize": 3, "markersize": 4}
            left.errorbar(ratios, *_columns(snn), label=f"SNN {label}".strip(), **style)
            left.errorbar(
                ratios, *_columns(ann), label=f"ANN {label}".strip(), linestyle="--", **{**style, "alpha": 0.6}
            )
            right.errorbar(ratios, *_columns([(m / base, s / base) for m, s in spikes]), **style)
        steps = results[0].num_steps
        left.set_ylabel(f"test accuracy (%), SNN at T = {steps}")
        right.set_ylabel(f"spikes per image at T = {steps}, relative to p = {_lowest(results):g}")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xlabel("masking ratio p (fraction dropped)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        if title:
            figure.suptitle(title)
        return save_figure(figure, path)


def _lowest(results: Sequence[SweepResult]) -> float:
    return min(result.cell.masking_ratio for result in results)


def lines_over_ratio(results: Sequence[SweepResult]) -> dict[str, list[SweepResult]]:
    """Label -> cells that differ in their ratio alone, by ratio; an unmasked cell belongs to every line of its kind."""
    lines: dict[str, list[SweepResult]] = {}
    sites = sorted({r.cell.mask_sites for r in results if r.cell.mask_sites}) or [""]
    for kind, where in product(dict.fromkeys(r.kind for r in results), sites):
        line = [r for r in results if r.kind == kind and r.cell.mask_sites in ("", where)]
        if line:
            label = _label(kind, results) + (f", masked at {brief(where)}" if len(sites) > 1 else "")
            lines[label.removeprefix(", ")] = sorted(line, key=lambda r: r.cell.masking_ratio)
    return lines


def _label(cell: SweepCell, results: Sequence[SweepResult]) -> str:
    """What tells this kind of cell from the others, its masks left out."""
    cells = [result.cell for result in results]
    parts = (
        (f"L = {cell.num_levels}", len({each.num_levels for each in cells}) > 1),
        (f"penalty {cell.spike_penalty:g}", len({each.spike_penalty for each in cells}) > 1),
        (f"{cell.max_powers or 'all'} powers", len({each.max_powers for each in cells}) > 1),
        (f"at {cell.placement or 'activations'}", len({each.placement for each in cells}) > 1),
        (cell.coding_label, len({each.coding_label for each in cells}) > 1),
    )
    return ", ".join(part for part, varies in parts if varies)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [mean for mean, _ in pairs], [spread for _, spread in pairs]


def sweep_against_time(results: Sequence[SweepResult], path: Path, title: str = "") -> Path:
    """Accuracy against T, a curve for each cell, its spread over mask seeds as a band, and a dot where the last image
    has settled or left."""
    with drawing(6.4 if len(results) <= _LEGEND_INSIDE else 9.2, 4.4) as figure:
        axes = figure.subplots()
        lowest = 100.0
        for number, result in enumerate(results):
            colour = _colour(number, len(results))
            steps = range(1, result.num_steps + 1)
            points = result.series("accuracy", 100)
            mean = [m for m, _ in points]
            axes.plot(steps, mean, color=colour, linewidth=1.6, label=result.cell.label)
            last = _last_step(result)
            if last < result.num_steps:
                axes.plot(last, mean[last - 1], "o", color=colour, markersize=4)
            low, high = ([m + sign * s for m, s in points] for sign in (-1, 1))
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.axhline(result.number("ann_accuracy", 100)[0], color=colour, linestyle="--", linewidth=0.8)
            lowest = min(lowest, *mean)
        label_time_axis(axes, results[0].num_steps)
        axes.set_ylabel("test accuracy (%); dashed: ANN")
        axes.set_ylim(max(0.0, lowest - 3), 101)
        axes.set_title(title)
        _legend(axes, len(results))
        return save_figure(figure, path)


def _last_step(result: SweepResult) -> int:
    """Steps after which no image is left, under masks of any seed; T if some are."""
    taken = result.series("mean_steps")
    return max(1, sum(later > earlier for (earlier, _), (later, _) in pairwise([(0.0, 0.0), *taken])))


_LEGEND_INSIDE = 4
"""Entries that fit into a figure without covering its curves."""


def _colour(number: int, total: int) -> Any:
    if total <= len(CURVE_COLOURS):
        return CURVE_COLOURS[number]
    return shade(0.95 * number / (total - 1))


def _legend(axes: Any, entries: int) -> None:
    if entries <= _LEGEND_INSIDE:
        axes.legend(loc="lower right", fontsize=8)
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)


def sweep_pareto(results: Sequence[SweepResult], path: Path, title: str = "") -> Path:
    """Accuracy against spikes: each network over the time steps, and its ANN at the quanta of its activations."""
    with drawing(9.6, 5.0) as figure:
        axes = figure.subplots()
        spikes = [[m / r.runs[0].num_neurons for m, _ in r.series("spikes_per_image")] for r in results]
        quanta = [result.number("ann_quanta_per_neuron")[0] for result in results]
        _cost_curves(axes, results, spikes, quanta)
        axes.plot([], [], "*", color=ANN_COLOUR, label="ANN, at the quanta of its activations")
        axes.set_xlabel("spikes per neuron per image, up to step t")
        axes.set_title(title)
        _legend(axes, len(results) + _LEGEND_INSIDE)
        return save_figure(figure, path)


def sweep_against_energy(results: Sequence[SweepResult], path: Path, title: str = "") -> Path:
    """Accuracy against energy as a multiple of the ANN's, each network over the time steps: without functions on the
    left and with all functions on the right, where these are known."""
    known = all(run.whole_energy_pj for result in results for run in result.runs)
    with drawing(13.0 if known else 9.6, 5.0) as figure:
        panels = figure.subplots(1, 2 if known else 1, sharey=True, squeeze=False)[0]
        names = {"without functions": ("energy_pj", "ann_energy_pj")}
        if known:
            names["with all functions"] = ("whole_energy_pj", "ann_whole_energy_pj")
        for axes, (label, (snn, ann)) in zip(panels, names.items(), strict=True):
            costs = [[m / getattr(r.runs[0], ann) for m, _ in r.series(snn)] for r in results]
            _cost_curves(axes, results, costs, [1.0] * len(results))
            axes.set_xlabel(f"energy up to step t, times the ANN's, {label}")
        panels[-1].plot([], [], "*", color=ANN_COLOUR, label="ANN")
        figure.suptitle(title)
        _legend(panels[-1], len(results) + _LEGEND_INSIDE)
        return save_figure(figure, path)


def _cost_curves(
    axes: Any, results: Sequence[SweepResult], costs: Sequence[Sequence[float]], of_ann: Sequence[float]
) -> None:
    """Accuracy of each cell against what it has cost up to each step, and of its ANN as a star."""
    levels = sorted({result.cell.num_levels for result in results})
    penalties = sorted({result.cell.spike_penalty for result in results})
    only_training_varies = len({replace(r.cell, num_levels=0, spike_penalty=0.0) for r in results}) == 1
    ends = [100 * value for r in results for run in r.runs for value in (run.accuracy[-1], run.ann_accuracy)]
    floor = min(max(ends) - 22, min(ends) - 3)
    shown = [cost for cost in of_ann if cost > 0]
    for number, (result, spent, ann_spent) in enumerate(zip(results, costs, of_ann, strict=True)):
        cell = result.cell
        colour = _colour(number, len(results))
        if only_training_varies:
            colour = shade(0.9 * levels.index(cell.num_levels) / max(1, len(levels) - 1))
        dash = ("-", "--", ":", "-.")[penalties.index(cell.spike_penalty) % 4]
        accuracy = [mean for mean, _ in result.series("accuracy", 100)]
        axes.plot(spent, accuracy, color=colour, linestyle=dash, linewidth=1.4, label=cell.label)
        axes.plot(spent[-1], accuracy[-1], "o", color=colour, markersize=3)
        shown += [s for s, a in zip(spent, accuracy, strict=True) if a >= floor and s > 0]
        ann = result.number("ann_accuracy", 100)[0]
        axes.plot([ann_spent], [ann], "*", color=colour, markersize=9, markeredgecolor=ANN_COLOUR, markeredgewidth=0.5)
    if any(spent[-1] > 0 for spent in costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # 0.2 is easier to read than a power of ten
        axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "2357" else "")
    axes.set_ylim(max(0.0, floor), max(ends) + 2)
    if shown:
        axes.set_xlim(left=0.8 * min(shown))
    axes.set_ylabel("test accuracy (%)")
