"""Codings of one network beside each other."""

from __future__ import annotations

from typing import Any

from .records import Records, file_of
from .tables import at_steps, million, named, percent, table, times

STEPS = (1, 2, 4, 8, 16, 32, 64)


@named("digits-steps")
def digits_steps(records: Records) -> list[str]:
    """Accuracy of the quickstart's networks after some steps."""
    record, rows = records["codings/digits-quickstart"], []
    for folder, words in QUICKSTART.items():
        run = file_of(record, f"{folder}/simulation.json")
        rows.append([words, *at_steps(run["accuracy"], STEPS), percent(run["ann_accuracy"])])
    return table(["masking ratio, coding", *(f"T = {step}" for step in STEPS), "ANN"], rows)


@named("digits-energy")
def digits_energy(records: Records) -> list[str]:
    """Steps, spikes and energy of the quickstart's networks."""
    record, rows = records["codings/digits-quickstart"], []
    for folder, words in QUICKSTART.items():
        run = file_of(record, f"{folder}/measurement.json")
        rows.append([
            words, f"{run['mean_steps']:.1f}", f"{run['spikes_per_image']:,.0f}", f"{run['spikes_per_neuron']:.2f}",
            f"{run['num_acs']['snn'] / 1e6:.2f} M", times(run["energy_ratio"]),
        ])  # fmt: skip
    columns = (
        "masking ratio, coding",
        "steps",
        "spikes per image",
        "spikes per neuron",
        "ACs",
        "energy as the command prints it, times the ANN's",
    )
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
            f"{row['mean_steps']:.1f}", million(row["spikes"]), f"{row['spikes_per_quantum']:.2f}",
            times(row["maps_and_products_ratio"]), times(row["whole_ratio"]),
        ]
        for row in compared(records)
    ]  # fmt: skip
    columns = (
        "coding", "accuracy", "same answer as the ANN", "T", "mean T", "spikes per image", "per quantum",
        "energy of maps and products", "with functions",
    )  # fmt: skip
    return table(columns, rows)


@named("codings-within")
def codings_within(records: Records) -> list[str]:
    """Smallest T within a loss of accuracy, with the spikes up to it."""
    losses, rows = ("1", "0.5", "0.1"), []
    for row in compared(records):
        cells: list[object] = [row["coding"]]
        for loss in losses:
            found = row["within"][loss]
            cells += ["never", ""] if found is None else [found["steps"], million(found["spikes"])]
        rows.append(cells)
    return table(["coding", *(cell for loss in losses for cell in (f"within {loss}: T", "spikes"))], rows)


@named("early-exit")
def early_exit(records: Records) -> list[str]:
    """How often early exit keeps its promise."""
    content = file_of(records["codings/early-exit-splits"], "early_exit_splits.json")
    rows = [
        [
            row["coding"] + ("" if row["coding"] == "rate" else ", burst 4"), f"{row['all_steps']:.2f}", row["rule"],
            f"{row['allowed']:g}", f"{100 * row['kept']:.1f} %", f"{row['mean_loss']:.2f}",
            f"{row['largest_loss']:.2f}",
            f"{row['mean_steps']:.2f}", f"{100 * row['steps_saved']:.0f} %",
        ]
        for row in content["rows"]
    ]  # fmt: skip
    columns = (
        "coding", "T of all steps", "rule", "allowed, points", "promise kept", "lost, mean", "lost, most", "mean T",
        "steps saved",
    )  # fmt: skip
    return table(columns, rows)


@named("input-steps")
def input_steps(records: Records) -> list[str]:
    """Images shown at once or in parts."""
    rows = []
    for row in file_of(records["codings/digits-input-steps"], "codings.json")["rows"]:
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
