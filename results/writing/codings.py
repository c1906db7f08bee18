"""Codings of one network beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import Records, file_of
from .tables import at_steps, million, named, percent, table, times


@named("digits")
def digits(records: Records) -> list[str]:
    """The networks of the quickstart: accuracy after some steps, spikes, energy."""
    record, rows, steps = records["codings/digits-quickstart"], [], (2, 4, 8, 16, 64)
    for folder, words in QUICKSTART.items():
        run, cost = (file_of(record, f"{folder}/{name}.json") for name in ("simulation", "measurement"))
        rows.append([
            words, *at_steps(run["accuracy"], steps), percent(run["ann_accuracy"]), f"{cost['mean_steps']:.1f}",
            f"{cost['spikes_per_neuron']:.2f}", times(cost["energy_ratio"]),
        ])  # fmt: skip
    columns = (
        "masking ratio, coding", *(f"T = {step}" for step in steps), "ANN", "steps", "spikes per neuron",
        "energy as the command prints it",
    )  # fmt: skip
    return table(columns, rows)


QUICKSTART = {
    "digits-mst": "0, rate",
    "digits-mst-lossless": "0, lossless, weighted, burst 4",
    "digits-mst-masked": "0.75, rate",
}
"""Folder of `mst quickstart` -> row."""


def compared(records: Records) -> list[dict[str, Any]]:
    """The rows of the comparison of codings: rate coding, then burst 1 and burst 4 of each schedule."""
    rows = [
        row
        for burst in (4, 1)
        for row in file_of(records[f"codings/fashion-mnist-mst-burst-{burst}"], "codings.json")["rows"]
    ]
    order = ("rate", "staggered", "weighted", "free")
    return sorted(
        rows, key=lambda row: (next(i for i, word in enumerate(order) if word in row["coding"]), row["coding"])
    )


@named("codings")
def codings(records: Records) -> list[str]:
    """Codings of one network, to the end."""
    rows = [
        [
            row["coding"], percent(row["accuracy"]), percent(row["agreement_with_ann"]), row["steps"],
            f"{row['mean_steps']:.1f}", near(row), million(row["spikes"]), f"{row['spikes_per_quantum']:.2f}",
            times(row["maps_and_products_ratio"]), times(row["whole_ratio"]),
        ]
        for row in compared(records)
    ]  # fmt: skip
    columns = (
        "coding", "accuracy", "same answer as the ANN", "T", "mean T", "within 0.5 points from T", "spikes per image",
        "per quantum", "energy of maps and products", "with functions",
    )  # fmt: skip
    return table(columns, rows)


def near(row: Mapping[str, Any]) -> str:
    """The T from which on the accuracy is within half a point of the ANN's."""
    found = row["within"]["0.5"]
    return "never" if found is None else f"{found['steps']}"


@named("early-exit")
def early_exit(records: Records) -> list[str]:
    """How often early exit by margin keeps its promise."""
    content = file_of(records["codings/early-exit-splits"], "early_exit_splits.json")
    rows = [
        [
            row["coding"] + ("" if row["coding"] == "rate" else ", burst 4"), f"{row['all_steps']:.2f}",
            f"{row['allowed']:g}", f"{100 * row['kept']:.1f} %", f"{row['mean_loss']:.2f}",
            f"{row['largest_loss']:.2f}",
            f"{row['mean_steps']:.2f}", f"{100 * row['steps_saved']:.0f} %",
        ]
        for row in content["rows"]
        if row["rule"] == "margin"
    ]  # fmt: skip
    columns = (
        "coding", "T of all steps", "allowed, points", "promise kept", "lost, mean", "lost, most", "mean T",
        "steps saved",
    )  # fmt: skip
    return table(columns, rows)


@named("input-steps")
def input_steps(records: Records) -> list[str]:
    """Images shown at once or in parts."""
    rows = []
    for row in file_of(records["codings/digits-input-steps"], "codings.json")["rows"]:
        if "weighted" not in row["coding"]:
            continue
        label, _, spread = row["coding"].partition(", input over ")
        burst = label.partition(", burst ")[2] or spread.partition(", burst ")[2]
        schedule = label.split(", ")[1]
        near = row["within"]["1"]
        rows.append([
            f"{schedule}, burst {burst}", (spread.split(" ")[0] or "1"), "never" if near is None else near["steps"],
            f"{row['mean_steps']:.1f}", f"{row['spikes']:,.0f}", times(row["maps_and_products_ratio"]),
        ])  # fmt: skip
    columns = (
        "schedule", "steps to show the image", "T to within 1 point", "settled, mean T", "spikes per image",
        "energy of maps and products",
    )  # fmt: skip
    return table(columns, sorted(rows, key=lambda row: (str(row[0]), int(row[1]))))
