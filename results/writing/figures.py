"""Figures drawn from records. Each .png holds a digest of what it was drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mst.report.drawing import ANN_COLOUR, CURVE_COLOURS, SNN_COLOUR, drawing, label_time_axis

from .codings import compared
from .records import Records, coding, file_of, runs_of
from .sweeps import SITES


def accuracy_data(records: Records) -> dict[str, Any]:
    """Accuracy against time steps of the zoo's MST under both codings."""
    runs = runs_of(records["zoo/fashion-mnist-mst"])
    return {
        "ann": runs[0]["ann_accuracy"],
        "images": runs[0]["num_images"],
        "curves": {coding(run): run["accuracy_at_step"] for run in runs},
    }


def draw_accuracy(figure: Any, data: Any) -> None:
    """Rate coding approaches the ANN, lossless coding ends at it."""
    axes = figure.subplots()
    longest = max(map(len, data["curves"].values()))
    for colour, (label, accuracy) in zip((ANN_COLOUR, SNN_COLOUR), data["curves"].items(), strict=True):
        axes.plot(
            range(1, len(accuracy) + 1), [100 * each for each in accuracy], color=colour, label=label, linewidth=1.8
        )
        axes.plot(len(accuracy), 100 * accuracy[-1], "o", color=colour, markersize=4)
    axes.axhline(
        100 * data["ann"], color=ANN_COLOUR, linestyle="--", linewidth=1, label=f"ANN, {100 * data['ann']:.1f} %"
    )
    label_time_axis(axes, longest)
    axes.set_ylim(0, 101)
    axes.set_ylabel(f"accuracy (%), {data['images']:,} test images")
    axes.set_title("MST on Fashion-MNIST as an SNN")
    axes.legend(loc="lower right")


def codings_data(records: Records) -> dict[str, Any]:
    """Accuracy and spikes at every step of each coding."""
    ann = file_of(records["codings/fashion-mnist-mst-burst-4"], "codings.json")["ann"]
    return {
        "ann": ann["accuracy"],
        "quanta": ann["quanta"],
        "curves": {
            row["coding"]: [row["steps"], row["accuracy_at_step"], row["spikes_at_step"]] for row in compared(records)
        },
    }


def draw_codings(figure: Any, data: Any) -> None:
    """One colour for each schedule, broken lines for bursts of 4."""
    by_steps, by_spikes = figure.subplots(1, 2, sharey=True)
    schedules = list(dict.fromkeys(label.split(", burst")[0] for label in data["curves"]))
    for label, (last, accuracy, spikes) in data["curves"].items():
        look = {
            "color": ("0.35", *CURVE_COLOURS)[schedules.index(label.split(", burst")[0])],
            "linestyle": "--" if label.endswith("burst 4") else "-",
            "label": label,
        }
        percent = [100 * each for each in accuracy[:last]]
        for axes, x in ((by_steps, list(range(1, last + 1))), (by_spikes, spikes[:last])):
            axes.plot(x, percent, linewidth=1.8, **look)
            axes.plot(x[-1], percent[-1], "o", color=look["color"], markersize=4)
    for axes in (by_steps, by_spikes):
        axes.axhline(100 * data["ann"], color=ANN_COLOUR, linestyle="--", linewidth=1)
    by_spikes.axvline(data["quanta"], color=ANN_COLOUR, linestyle=":", linewidth=1)
    by_spikes.text(data["quanta"], 2, "quanta of the ANN ", rotation=90, fontsize=8, va="bottom", ha="right")
    label_time_axis(by_steps, max(last for last, *_ in data["curves"].values()))
    by_spikes.set_xscale("log")
    by_spikes.set_xlabel("spikes per image, up to each step")
    by_steps.set_ylabel("accuracy (%)")
    by_steps.set_ylim(0, 101)
    figure.suptitle(f"Codings of an MST on Fashion-MNIST   (dashed: ANN, {100 * data['ann']:.1f} %; dots: the end)")
    figure.legend(*by_steps.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)


def events_data(records: Records) -> dict[str, Any]:
    """Accuracy against time steps on digits-dvs."""
    runs = {words: file_of(records["events/digits-dvs"], f"{name}/simulation.json") for words, name in (
        ("whole recording at every step", "whole"), ("slice t at step t", "slices"))}  # fmt: skip
    return {
        "ann": next(iter(runs.values()))["ann_accuracy"],
        "images": next(iter(runs.values()))["num_images"],
        "curves": {words: run["accuracy"] for words, run in runs.items()},
    }


def draw_events(figure: Any, data: Any) -> None:
    """As `draw_accuracy`."""
    draw_accuracy(figure, data)
    figure.axes[0].set_title("MST on digits-dvs as an SNN")


def levels_data(records: Records) -> list[list[float]]:
    """Levels, penalty, T, spikes per neuron, accuracy of every row."""
    names = ("num_levels", "spike_penalty", "time_steps", "spikes_per_neuron", "snn_accuracy_percent")
    return [[row[name] for name in names] for row in file_of(records["few-spikes/digits-levels"], "sweep.csv")]


def draw_levels(figure: Any, data: Any) -> None:
    """Accuracy against spikes; a colour for each L, a line style for each penalty."""
    axes = figure.subplots()
    levels, penalties = (sorted({row[place] for row in data}) for place in (0, 1))
    for number, level in enumerate(levels):
        for style, penalty in zip(("-", "--", "-.", ":"), penalties, strict=True):
            line = [row for row in data if row[:2] == [level, penalty]]
            axes.plot(
                [row[3] for row in line], [row[4] for row in line], style, color=CURVE_COLOURS[number], linewidth=1.6,
                label=f"L = {level:g}, penalty {penalty:g}",
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("spikes per neuron up to T = 2 ... 64")
    axes.set_ylabel("accuracy of the SNN (%)")
    axes.set_title("MST on digits: levels and spike penalty")
    axes.legend(fontsize=7, ncols=2, loc="lower right")


def masking_data(name: str) -> Callable[[Records], Any]:
    """Masked sites -> ratio, accuracy of SNN and ANN, relative spikes of every row at the last T."""

    def data(records: Records) -> dict[str, Any]:
        lines = file_of(records[name], "sweep.csv")
        last = max(line["time_steps"] for line in lines)
        names = (
            "masking_ratio", "snn_accuracy_percent", "snn_accuracy_spread", "ann_accuracy_percent",
            "ann_accuracy_spread", "spikes_relative_to_unmasked",
        )  # fmt: skip
        rows = [(line["mask_sites"], [line[each] for each in names]) for line in lines if line["time_steps"] == last]
        unmasked = [row for sites, row in rows if not sites]
        return {"T": last, "lines": {
            each: unmasked + [row for sites, row in rows if sites == each]
            for each in dict.fromkeys(sites for sites, _ in rows if sites)
        }}  # fmt: skip

    return data


def draw_masking(figure: Any, data: Any) -> None:
    """Accuracy of SNN and ANN, and relative spikes, against the masking ratio; a colour for each choice of sites."""
    left, right = figure.subplots(1, 2)
    for colour, (sites, rows) in zip(CURVE_COLOURS, data["lines"].items(), strict=False):
        ratios, snn, snn_spread, ann, ann_spread, spikes = zip(*rows, strict=True)
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "capsize": 3}
        words = SITES.get(sites, sites)
        left.errorbar(ratios, snn, snn_spread, label=f"SNN, {words} masked", **look)
        left.errorbar(ratios, ann, ann_spread, label=f"ANN, {words} masked", linestyle="--", **{**look, "alpha": 0.6})
        right.plot(ratios, spikes, color=colour, marker="o", markersize=4)
    left.set_ylabel(f"accuracy (%), SNN at T = {data['T']:g}")
    right.set_ylabel("spikes, relative to p = 0")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("masking ratio p (fraction dropped)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)


@dataclass(frozen=True)
class Figure:
    """A file of docs/figures."""

    data: Callable[[Records], Any]
    """What is drawn, as plain values."""

    draw: Callable[[Any, Any], None]
    """Draws the data into an empty figure."""

    size: tuple[float, float]
    """Width and height in inches."""


FIGURES = {
    "fashion-mnist-accuracy.png": Figure(accuracy_data, draw_accuracy, (6.4, 4.2)),
    "fashion-mnist-codings.png": Figure(codings_data, draw_codings, (10.4, 5.0)),
    "digits-dvs-accuracy.png": Figure(events_data, draw_events, (6.4, 4.2)),
    "digits-levels-and-penalty.png": Figure(levels_data, draw_levels, (7.2, 5.2)),
    **{
        f"masking-{name}.png": Figure(masking_data(f"masking/fashion-mnist-{name}"), draw_masking, (9.6, 4.4))
        for name in ("mst", "vgg16")
    },
}
"""Name of the file -> figure."""


def digest(records: Records, name: str) -> str:
    """Digest of the data of a figure."""
    return hashlib.sha256(json.dumps(FIGURES[name].data(records)).encode()).hexdigest()


def draw(records: Records, name: str, path: Path) -> None:
    """Draw a figure and note in the file what it was drawn from."""
    wanted = FIGURES[name]
    with drawing(*wanted.size) as figure:
        wanted.draw(figure, wanted.data(records))
        figure.savefig(path, dpi=150, metadata={"Description": digest(records, name), "Software": None})


def figure_source(path: Path) -> str | None:
    """The digest that a figure's file holds."""
    from PIL import Image

    with Image.open(path) as image:
        return image.info.get("Description")
