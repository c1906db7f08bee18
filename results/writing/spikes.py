"""Bits, few spikes, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .records import BOTH_INT8, INT8, Record, Records, file_of, ratio, runs_of
from .tables import NETWORKS, TABLES, named, percent, short_percent, table, times


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
    """Networks fine-tuned for few spikes (records few-spikes/* of energy_models.py), beside those of the zoo."""
    rows = [
        [NETWORKS[name] + " of the zoo", *few_spikes_row(runs_of(records[f"zoo/{name}"])[-1])]
        for name in ("fashion-mnist-resnet18", "fashion-mnist-mst")
    ]
    for name in records:
        if name.startswith("few-spikes/"):
            rows += [[name.removeprefix("few-spikes/"), *few_spikes_row(run)] for run in runs_of(records[name])]
    columns = (
        "network", "images", "SNN", "steps", "spikes per neuron", "energy, times the fp32 ANN's",
        "with memory, times the int8 ANN's", "with memory, 8-bit weights in both",
    )  # fmt: skip
    return table(columns, rows)


def few_spikes_row(run: Mapping[str, Any]) -> list[object]:
    return [
        f"{run['num_images']:,}", percent(run["snn_accuracy"]), f"{run['mean_steps']:.1f}",
        f"{run['spikes_per_neuron']:.2f}", times(ratio(run)), times(ratio(run, "45nm-memory", INT8)),
        times(ratio(run, "45nm-memory", BOTH_INT8)),
    ]  # fmt: skip


@named("digits-levels")
def digits_levels(records: Records) -> list[str]:
    """Levels and the spike penalty on digits."""
    return sweep(records["few-spikes/digits-levels"], ("num_levels", "spike_penalty"), (16, 64))


def sweep(record: Record, settings: Sequence[str], steps: Sequence[int]) -> list[str]:
    """A row for each network of a sweep, with the SNN after some steps and the rest after the last of them."""
    lines = file_of(record, "sweep.csv")
    keys = list(dict.fromkeys(tuple(line[name] for name in settings) for line in lines))
    rows = []
    for key in keys:
        found = {line["time_steps"]: line for line in lines if tuple(line[name] for name in settings) == key}
        last = found[steps[-1]]
        rows.append([
            *(f"{each:g}" if isinstance(each, float) else each or "none" for each in key), spread(last, "ann_accuracy"),
            *(spread(found[step], "snn_accuracy") for step in steps), f"{last['spikes_per_neuron']:.2f}",
            f"x{last['spikes_relative_to_unmasked']:.3f}" if last["spikes_relative_to_unmasked"] != "" else "",
            times(last["energy_with_functions_relative_to_ann"]),
        ])  # fmt: skip
    columns = (
        *(HEADINGS[name] for name in settings), "ANN", *(f"SNN, T = {step}" for step in steps), "spikes per neuron",
        "spikes relative to p = 0", "energy with functions, times the ANN's",
    )  # fmt: skip
    kept = [place for place in range(len(columns)) if any(row[place] != "" for row in rows)]
    if "masking_ratio" not in settings:
        kept.remove(columns.index("spikes relative to p = 0"))
    return table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


HEADINGS = {
    "num_levels": "L",
    "spike_penalty": "spike penalty",
    "masking_ratio": "p",
    "mask_sites": "masked sites",
    "schedule": "schedule",
    "burst": "burst",
}
"""Column of sweep.csv -> heading."""


def spread(line: Mapping[str, Any], name: str) -> str:
    """A mean in percent, with its standard deviation over mask seeds if there are several."""
    deviation = f" ± {line[f'{name}_spread']:.2f}" if line["num_seeds"] > 1 else ""
    return f"{line[f'{name}_percent']:.2f}{deviation} %"


for _model in ("mst", "resnet18", "vgg16"):
    TABLES[f"masking-{_model}"] = lambda records, name=f"masking/fashion-mnist-{_model}": sweep(  # type: ignore[misc]
        records[name], ("masking_ratio", "mask_sites"), (128,)
    )
