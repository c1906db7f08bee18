"""Bits, few spikes, masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import BOTH_INT8, INT8, Records, file_of, ratio, runs_of
from .tables import NETWORKS, named, percent, short_percent, table, times


@named("bits-mst")
def bits_mst(records: Records) -> list[str]:
    """An MST with sites at its products, by number of bits; then with sites at its activations."""
    rows = []
    for bits in (8, 6, 4):
        for run in runs_of(records[f"bits/fashion-mnist-mst-{2**bits - 1}-levels"]):
            rows.append([f"products, {bits} bits", *bits_row(run)])
    rows.append(["activations, 16 levels", *bits_row(runs_of(records["zoo/fashion-mnist-mst"])[-1])])
    columns = (
        "sites at", "burst", "accuracy", "answers that are the ANN's", "steps", "spikes per neuron",
        "energy, times the ANN's", "with memory",
    )  # fmt: skip
    return table(columns, rows)


def bits_row(run: Mapping[str, Any]) -> list[object]:
    return [
        run["burst"], short_percent(run["snn_accuracy"]), f"{run['same_answers']:,} of {run['num_images']:,}",
        f"{run['mean_steps']:.1f}", f"{run['spikes_per_neuron']:.2f}", times(ratio(run)),
        times(ratio(run, "45nm-memory")),
    ]  # fmt: skip


@named("few-spikes")
def few_spikes(records: Records) -> list[str]:
    """Networks fine-tuned for few spikes (records fine-tuned/* of energy_models.py), beside those of the zoo."""
    rows = [
        [NETWORKS[name] + " of the zoo", *few_spikes_row(records[f"zoo/{name}"])]
        for name in ("fashion-mnist-resnet18", "fashion-mnist-mst")
    ]
    tuned = [name for name in records if name.startswith("fine-tuned/")]
    for name in sorted(
        tuned, key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split("-")]
    ):
        rows.append([name.removeprefix("fine-tuned/"), *few_spikes_row(records[name])])
    columns = (
        "network", "ANN, all test images", "images", "SNN", "steps", "spikes per neuron",
        "energy, times the fp32 ANN's", "with memory, times the int8 ANN's", "with memory, 8-bit weights in both",
    )  # fmt: skip
    return table(columns, rows)


def few_spikes_row(record: Mapping[str, Any]) -> list[object]:
    run = runs_of(record)[-1]
    return [
        percent(file_of(record, "evaluation.json")["ann_accuracy"]), f"{run['num_images']:,}",
        percent(run["snn_accuracy"]), f"{run['mean_steps']:.1f}",
        f"{run['spikes_per_neuron']:.2f}", times(ratio(run)), times(ratio(run, "45nm-memory", INT8)),
        times(ratio(run, "45nm-memory", BOTH_INT8)),
    ]  # fmt: skip
