"""Codings of one network side by side: tables of steps, spikes and energy near the ANN's accuracy, and two figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.conversion import CODINGS
from mst.experiments.comparison_results import EXIT_LOSSES, LOSSES, AnnRun, CodingRun
from mst.simulation import DEFAULT_CONFIDENCE, EXIT_RULES

from .drawing import ANN_COLOUR, drawing, label_time_axis, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VALUES_COLOUR = "0.35"
_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9")
_STYLES = ("-", "--", "-.", ":")


def codings_markdown(ann: AnnRun, rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Tables in Markdown, with units: each coding to the end, up to given losses of accuracy, and with early exit.

    Args:
        ann: the ANN on the same images.
        rows: from `coding_rows`.
        title: heading above the tables.
    """
    lines = [
        f"## {title}",
        "",
        f"ANN: {100 * ann.accuracy:.2f} % of {ann.num_images} test images; {ann.quanta:,.0f} quanta per image.",
        "",
        *_to_the_end(rows),
        "",
        *_up_to_losses(rows),
    ]
    if any(row["early_exit"] for row in rows):
        lines += ["", *_with_early_exit(rows)]
    return "\n".join(lines) + "\n"


def _to_the_end(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "To the end (T, or until all images have settled):",
        "",
        "| coding | accuracy | same answer as the ANN | T | mean T | spikes per image | per quantum | MACs | ACs "
        "| energy, times the ANN's | time, times the ANN's |",
        "|" + "---|" * 11,
        *(
            f"| {r['coding']} | {100 * r['accuracy']:.2f} % | {100 * r['agreement_with_ann']:.2f} % | {r['steps']} "
            f"| {r['mean_steps']:.1f} | {r['spikes']:,.0f} | {r['spikes_per_quantum']:.2f} "
            f"| {r['num_macs'] / 1e6:.1f} M | {r['num_acs'] / 1e6:.1f} M | {r['energy_ratio']:.2f}x "
            f"| {r['time_ratio']:.0f}x |"
            for r in rows
        ),
        *_with_functions(rows),
    ]


def _with_functions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line on energies with all functions; nothing where there are none."""
    if any(row["whole_ratio"] is None for row in rows):
        return []
    each = [f"{r['coding']} {r['maps_and_products_ratio']:.2f}x ({r['whole_ratio']:.2f}x)" for r in rows]
    return [
        "",
        "The energy above holds softmax and LayerNorm that are modules at 3 MACs per element, and no other function. "
        f"Maps and products (with all functions), times the ANN's: {'; '.join(each)}.",
    ]


def _holding(rows: Sequence[Mapping[str, Any]]) -> str:
    has_functions = any(row["whole_ratio"] is not None for row in rows)
    return " (in brackets: of maps, products and all functions)" if has_functions else ""


def _ratio(at: Mapping[str, Any]) -> str:
    """Energy as a multiple of the ANN's, and with all functions in brackets where there are any."""
    return f"{at['energy_ratio']:.2f}x" + ("" if at["whole_ratio"] is None else f" ({at['whole_ratio']:.2f}x)")


def _up_to_losses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    points = [f"{p:g}" for p in LOSSES]
    lines = [
        "Smallest T from which the accuracy stays within the given points of the ANN's, with the spikes per image and "
        f"the energy up to that step{_holding(rows)}:",
        "",
        "| coding | " + " | ".join(f"within {p}: T | spikes | energy" for p in points) + " |",
        "|---|" + "---|---|---|" * len(points),
    ]
    for row in rows:
        cells = []
        for p in points:
            at = row["within"][p]
            cells += ["never", "", ""] if at is None else [
                str(at["steps"]), f"{at['spikes']:,.0f}", _ratio(at)
            ]  # fmt: skip
        lines.append(f"| {row['coding']} | " + " | ".join(cells) + " |")
    return lines


def _with_early_exit(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    losses = [f"{loss:g} points: mean T | lost" for loss in EXIT_LOSSES]
    lines = [
        "Early exit, chosen to cost at most the given points of accuracy, each with "
        f"{100 * DEFAULT_CONFIDENCE:g} % confidence over the draw of the validation images, and its effect on the test "
        "images (lost: accuracy against all steps, in points; negative if it rises). Where no rule is shown to keep to "
        "that, all steps are taken:",
        "",
        "| coding | rule | " + " | ".join(losses) + " |",
        "|---|---|" + "---|---|" * len(losses),
    ]
    for row in rows:
        for rule in dict.fromkeys(each["rule"] for each in row["early_exit"]):
            cells = [
                f"{each['mean_steps']:.2f} | {100 * (row['accuracy'] - each['accuracy']):.2f}"
                for each in row["early_exit"]
                if each["rule"] == rule
            ]
            lines.append(f"| {row['coding']} | {rule} | " + " | ".join(cells) + " |")
    return lines


def codings_against_cost(ann: AnnRun, runs: Sequence[CodingRun], path: Path, title: str) -> Path:
    """Accuracy against time steps, and against spikes per image, one curve for each coding."""
    with drawing(10.4, 4.2 + _legend_height(runs)) as figure:
        by_steps, by_spikes = figure.subplots(1, 2, sharey=True)
        longest = max(int(run.result.steps_taken.max()) for run in runs)
        for run, look in zip(runs, _looks(runs), strict=True):
            assert run.result.accuracy is not None
            last = int(run.result.steps_taken.max())
            accuracy = [100 * a for a in run.result.accuracy.tolist()[:last]]
            by_steps.plot(range(1, last + 1), accuracy, **look)
            spikes = run.result.spikes_per_image_after_step.tolist()[:last]
            shown = [(s, a) for s, a in zip(spikes, accuracy, strict=True) if s > 0]
            by_spikes.plot([s for s, _ in shown], [a for _, a in shown], **look)
            by_steps.plot(last, accuracy[-1], "o", color=look["color"], markersize=4)
            by_spikes.plot(spikes[-1], accuracy[-1], "o", color=look["color"], markersize=4)
        for axes in (by_steps, by_spikes):
            axes.axhline(100 * ann.accuracy, color=ANN_COLOUR, linestyle="--", linewidth=1)
        by_spikes.axvline(ann.quanta, color=ANN_COLOUR, linestyle=":", linewidth=1)
        by_spikes.text(ann.quanta, 2, "quanta of the ANN ", rotation=90, fontsize=8, va="bottom", ha="right")
        label_time_axis(by_steps, longest)
        by_spikes.set_xscale("log")
        by_spikes.set_xlabel("spikes per image, up to each step")
        by_steps.set_ylabel("test accuracy (%)")
        by_steps.set_ylim(0, 101)
        figure.suptitle(f"{title}   (dashed: ANN, {100 * ann.accuracy:.2f} %; dots: the end)", fontsize=11)
        _legend_below(figure, by_steps)
        return save_figure(figure, path)


def early_exit_curves(ann: AnnRun, runs: Sequence[CodingRun], path: Path, title: str) -> Path:
    """Accuracy against mean time steps under early exit, one curve for each coding, one panel for each rule."""
    with drawing(10.4, 4.2 + _legend_height(runs)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, rule in zip(panels, EXIT_RULES, strict=True):
            longest = 2.0
            for run, look in zip(runs, _looks(runs), strict=True):
                curve = (run.frontier or {}).get(rule, ())
                longest = max([longest, *(steps for steps, _ in curve)])
                axes.plot([steps for steps, _ in curve], [100 * accuracy for _, accuracy in curve], **look)
            axes.axhline(100 * ann.accuracy, color=ANN_COLOUR, linestyle="--", linewidth=1)
            label_time_axis(axes, math.ceil(longest))
            axes.set_xlabel(f"time steps per image, mean; exit by {rule}")
        panels[0].set_ylabel("test accuracy (%)")
        panels[0].set_ylim(max(0.0, 100 * ann.accuracy - 20), min(101.0, 100 * ann.accuracy + 2))
        figure.suptitle(f"{title}   (dashed: ANN, {100 * ann.accuracy:.2f} %)", fontsize=11)
        _legend_below(figure, panels[0])
        return save_figure(figure, path)


def _looks(runs: Sequence[CodingRun]) -> list[dict[str, Any]]:
    """One colour for each family, the first of values grey; within a family a line style for each run."""
    of_values = [run.family for run in runs if not CODINGS[run.result.coding].sends_changes]
    families = [family for family in dict.fromkeys(run.family for run in runs) if family not in of_values[:1]]
    seen: Counter[str] = Counter()
    looks = []
    for run in runs:
        style = _STYLES[seen[run.family] % len(_STYLES)]
        colour = _VALUES_COLOUR if run.family in of_values[:1] else _COLOURS[families.index(run.family) % len(_COLOURS)]
        looks.append({"color": colour, "linestyle": style, "linewidth": 1.8, "label": run.label})
        seen[run.family] += 1
    return looks


def _legend_height(runs: Sequence[CodingRun]) -> float:
    """In inches."""
    return 0.3 + 0.19 * -(-len(runs) // 3)


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, handlelength=3)
