"""Tables of `mst sweep`: levels and spike penalties, and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import Records, file_of
from .tables import named, table, times


def accuracy(line: Mapping[str, Any], network: str) -> str:
    """A mean in percent, with its standard deviation over mask seeds if there are several."""
    deviation = f" ± {line[f'{network}_accuracy_spread']:.2f}" if line["num_seeds"] > 1 else ""
    return f"{line[f'{network}_accuracy_percent']:.2f}{deviation} %"


@named("digits-levels")
def digits_levels(records: Records) -> list[str]:
    """Levels and the spike penalty on digits, rate coding: a row for each network, up to the last T."""
    lines = file_of(records["few-spikes/digits-levels"], "sweep.csv")
    rows = []
    for levels, penalty in dict.fromkeys((line["num_levels"], line["spike_penalty"]) for line in lines):
        found = {
            line["time_steps"]: line
            for line in lines
            if (line["num_levels"], line["spike_penalty"]) == (levels, penalty)
        }
        last = found[64]
        rows.append([
            f"{levels:g}", f"{penalty:g}", accuracy(last, "ann"), accuracy(found[16], "snn"), accuracy(last, "snn"),
            f"{last['mean_steps']:.1f}", f"{last['spikes_per_neuron']:.2f}",
            times(last["energy_with_functions_relative_to_ann"]),
        ])  # fmt: skip
    columns = (
        "L", "spike penalty", "ANN", "SNN, T = 16", "SNN, T = 64", "steps", "spikes per neuron",
        "energy with functions",
    )  # fmt: skip
    return table(columns, rows)


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
