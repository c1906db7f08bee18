"""Results of a sweep: its cells, their runs, and one table of all of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Values = tuple[float, ...]


@dataclass(frozen=True)
class SweepCell:
    """One setting of a sweep. mask_sites: as given, entries joined by "+"; empty where nothing is masked."""

    num_levels: int
    masking_ratio: float
    mask_sites: str
    spike_penalty: float

    @property
    def name(self) -> str:
        """A folder's name."""
        where = ""
        if self.mask_sites:
            plain = "".join(c if c.isalnum() or c in "+." else "-" for c in self.mask_sites)
            digest = "" if plain == self.mask_sites else "-" + sha256(self.mask_sites.encode()).hexdigest()[:6]
            where = f"_{plain}{digest}"
        penalty = f"_w{_short(self.spike_penalty)}" if self.spike_penalty else ""
        return f"L{self.num_levels}_p{_short(self.masking_ratio)}{where}{penalty}"

    @property
    def label(self) -> str:
        """For people."""
        where = f" at {brief(self.mask_sites)}" if self.mask_sites else ""
        penalty = f", spike penalty {self.spike_penalty:g}" if self.spike_penalty else ""
        return f"L = {self.num_levels}, p = {self.masking_ratio:g}{where}{penalty}"


def brief(mask_sites: str) -> str:
    """A selection of sites, short enough for a picture."""
    first, *others = mask_sites.split("+")
    return f"{first} and {len(others)} more" if others and len(mask_sites) > _LONG else mask_sites


_LONG = 24


def _short(value: float) -> str:
    """A number that tells itself apart from every other."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class SeedRun:
    """One simulation of a cell, masks drawn from one seed. Lists have an entry for each t = 1...T.

    accuracy: fractions.  spikes_per_image, energy_pj: cumulative, per image.  ann_*: of the ANN with masks of that
    seed.  ann_quanta_per_neuron: fewest spikes per neuron that can carry the ANN's activations.
    """

    seed: int
    num_images: int
    num_neurons: int
    accuracy: Values
    spikes_per_image: Values
    energy_pj: Values
    ann_accuracy: float
    ann_energy_pj: float
    ann_quanta_per_neuron: float


@dataclass(frozen=True)
class SweepResult:
    """A cell and its runs, one for each mask seed."""

    cell: SweepCell
    runs: tuple[SeedRun, ...]

    def number(self, name: str, factor: float = 1.0) -> tuple[float, float]:
        """Mean and standard deviation over the seeds (0 for one) of a field of `SeedRun`, times `factor`."""
        return _mean_and_spread([factor * getattr(run, name) for run in self.runs])

    def series(self, name: str, factor: float = 1.0) -> list[tuple[float, float]]:
        """`number` for each t = 1...T."""
        series = zip(*(getattr(run, name) for run in self.runs), strict=True)
        return [_mean_and_spread([factor * value for value in at_t]) for at_t in series]

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.runs[0].accuracy)


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


COLUMNS = (
    "num_levels", "masking_ratio", "mask_sites", "spike_penalty", "time_steps", "num_seeds", "num_images",
    "ann_accuracy_percent", "ann_accuracy_spread", "snn_accuracy_percent", "snn_accuracy_spread", "spikes_per_image",
    "spikes_per_image_spread", "spikes_relative_to_unmasked", "spikes_per_neuron", "firing_rate", "energy_uj",
    "energy_relative_to_ann", "ann_quanta_per_neuron",
)  # fmt: skip


def sweep_rows(results: Sequence[SweepResult], time_steps: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each cell and T, with the columns of `COLUMNS`.

    Spikes relative to the unmasked: to those of the cell that differs in its masks alone, at the same T; None if there
    is no such cell.
    """
    unmasked = {
        (r.cell.num_levels, r.cell.spike_penalty): r for r in results if r.cell.masking_ratio == 0
    }  # fmt: skip
    rows = []
    for result in results:
        cell, first = result.cell, result.runs[0]
        reference = unmasked.get((cell.num_levels, cell.spike_penalty))
        ann, ann_spread = result.number("ann_accuracy", 100)
        quanta, _ = result.number("ann_quanta_per_neuron")
        accuracies, energies = result.series("accuracy", 100), result.series("energy_pj")
        spike_series = result.series("spikes_per_image")
        base_series = None if reference is None else reference.series("spikes_per_image")
        for t in time_steps:
            accuracy, accuracy_spread = accuracies[t - 1]
            spikes, spikes_spread = spike_series[t - 1]
            energy, _ = energies[t - 1]
            base = 0.0 if base_series is None else base_series[t - 1][0]
            values = (
                cell.num_levels, cell.masking_ratio, cell.mask_sites, cell.spike_penalty, t, len(result.runs),
                first.num_images, ann, ann_spread, accuracy, accuracy_spread, spikes, spikes_spread,
                spikes / base if base else None, spikes / first.num_neurons, spikes / first.num_neurons / t,
                energy * 1e-6, energy / first.ann_energy_pj, quanta,
            )  # fmt: skip
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows
