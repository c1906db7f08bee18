"""Tables of `mst sweep`: masks, levels and spike penalties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .records import Record, Records, file_of
from .tables import TABLES, named, table, times

HEADINGS = {
    "num_levels": "L",
    "spike_penalty": "spike penalty",
    "masking_ratio": "p",
    "mask_sites": "masked sites",
    "max_powers": "powers of two in a level",
    "burst": "burst",
}
"""Column of sweep.csv -> heading."""


def sweep(record: Record, settings: Sequence[str], steps: Sequence[int]) -> list[str]:
    """A row for each network of a sweep: the SNN's accuracy after some steps, the rest up to the last of them.

    Args:
        record: holds a sweep.csv.
        settings: columns in which its networks differ.
        steps: T of the sweep.
    """
    lines = file_of(record, "sweep.csv")
    rows = []
    for key in dict.fromkeys(tuple(line[name] for name in settings) for line in lines):
        found = {line["time_steps"]: line for line in lines if tuple(line[name] for name in settings) == key}
        last = found[steps[-1]]
        rows.append([
            *(f"{each:g}" if isinstance(each, float) else each or "none" for each in key),
            accuracy(last, "ann"), *(accuracy(found[step], "snn") for step in steps), f"{last['mean_steps']:.1f}",
            f"{last['spikes_per_neuron']:.2f}", relative(last["spikes_relative_to_unmasked"]),
            times(last["energy_with_functions_relative_to_ann"] or None),
        ])  # fmt: skip
    columns = (
        *(HEADINGS[name] for name in settings), "ANN", *(f"SNN, T = {step}" for step in steps), "steps",
        "spikes per neuron", "spikes relative to p = 0", "energy with functions",
    )  # fmt: skip
    kept = [place for place, name in enumerate(columns) if "masking_ratio" in settings or "p = 0" not in name]
    return table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def accuracy(line: Mapping[str, Any], network: str) -> str:
    """A mean in percent, with its standard deviation over mask seeds if there are several."""
    deviation = f" ± {line[f'{network}_accuracy_spread']:.2f}" if line["num_seeds"] > 1 else ""
    return f"{line[f'{network}_accuracy_percent']:.2f}{deviation} %"


def relative(number: float | str) -> str:
    """A multiple of the unmasked network's spikes; empty where there is none to compare with."""
    return f"x{number:.2f}" if isinstance(number, float) else ""


@named("digits-levels")
def digits_levels(records: Records) -> list[str]:
    """Levels and the spike penalty on digits, rate coding."""
    return sweep(records["few-spikes/digits-levels"], ("num_levels", "spike_penalty"), (16, 64))


MASKED = {"mst": "MST", "resnet18": "ResNet-18", "vgg16": "VGG-16"}
"""Networks of the masking table: part of the record's name -> name."""

SITES = {
    "": "none",
    "attention": "attention (q, k, scores)",
    "features.2+features.9+features.16+features.26+features.36": "one in each block",
}
"""Masked sites -> words; others stand as they are."""


@named("masking")
def masking(records: Records) -> list[str]:
    """The paper's masking table: three networks, rate coding, at the last T."""
    rows = []
    for name, words in MASKED.items():
        lines = file_of(records[f"masking/fashion-mnist-{name}"], "sweep.csv")
        last = max(line["time_steps"] for line in lines)
        rows += [[
            words, f"{line['masking_ratio']:g}", SITES.get(line["mask_sites"], line["mask_sites"]),
            accuracy(line, "ann"), accuracy(line, "snn"), f"{line['spikes_per_image']:,.0f}",
            f"x{line['spikes_relative_to_unmasked']:.3f}", f"{line['firing_rate']:.3f}",
            times(line["energy_with_functions_relative_to_ann"]),
        ] for line in lines if line["time_steps"] == last]  # fmt: skip
    headings = (
        "model", "p", "masked sites", "ANN", "SNN, T = 128", "spikes per image", "relative to p = 0", "firing rate",
        "energy with functions",
    )  # fmt: skip
    return table(headings, rows)


def search(name: str) -> None:
    """Register the table of a search for few spikes, lossless coding to the end."""

    def write(records: Records) -> list[str]:
        settings = ("num_levels", "spike_penalty", "masking_ratio", "burst")
        return sweep(records[f"few-spikes/fashion-mnist-{name}"], settings, (100,))

    TABLES[f"few-spikes-{name}"] = write


for model in ("mst", "resnet18"):
    search(model)
