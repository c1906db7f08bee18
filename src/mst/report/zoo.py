"""The trained networks that come with the package, as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from mst.zoo import ZooCard, ZooRun


def zoo_table(cards: Iterable[ZooCard]) -> Table:
    """A row for each network, with its cheapest run."""
    table = Table(title="Trained networks")
    table.add_column("zoo:", no_wrap=True)
    table.add_column("data set", no_wrap=True)
    for heading in ("ANN\naccuracy", "SNN, cheapest\nrun", "spikes per\nneuron", "energy, of\nfp32 ANN", "KiB"):
        table.add_column(heading, justify="right")
    table.add_column("what it is", overflow="fold")
    for card in cards:
        run = card.runs[-1]
        table.add_row(
            card.name, card.dataset, f"{100 * card.accuracy:.2f} %", f"{100 * run.snn_accuracy:.2f} %",
            f"{run.spikes_per_neuron:.2f}", f"{run.energy_ratio:.2f}x", f"{card.size // 1024}", card.summary,
        )  # fmt: skip
    return table


def card_lines(card: ZooCard) -> list[str]:
    """The card without its runs."""
    return [
        f"zoo:{card.name}: {card.summary}",
        f"Data set: {card.dataset}. ANN, all test images: {100 * card.accuracy:.2f} %.",
        *(f"Made by: {command}" for command in card.recipe),
        f"Limits: {card.limits}",
        f"SHA-256: {card.sha256}",
    ]


def runs_table(runs: Iterable[ZooRun], title: str) -> Table:
    """A row for each simulation of a network."""
    table = Table(title=title)
    table.add_column("options", no_wrap=True)
    for heading in ("images", "ANN", "SNN", "steps", "spikes per\nneuron", "energy, of\nfp32 ANN"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            option_words(run.options), f"{run.images}", f"{100 * run.ann_accuracy:.2f} %",
            f"{100 * run.snn_accuracy:.2f} %", f"{run.steps:.1f}", f"{run.spikes_per_neuron:.3f}",
            f"{run.energy_ratio:.2f}x",
        )  # fmt: skip
    return table


def option_words(options: Mapping[str, Any]) -> str:
    """Options as one writes them on the command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
