"""Results of a sweep: its cells, their runs, and one table of all of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any

from .options import CodingName, ExitRule, Placement, ScheduleName
from .pareto import mark_fronts

Values = tuple[float, ...]


@dataclass(frozen=True)
class SweepCell:
    """One setting of a sweep: a network, and a way to simulate it."""

    num_levels: int
    """L."""

    masking_ratio: float
    """Fraction of the spikes dropped."""

    mask_sites: str
    """Sites as given, entries joined by "+"; empty where nothing is masked."""

    spike_penalty: float
    """Weight in the loss of a quantum sent."""

    max_powers: int = 0
    """Most powers of two in a level; 0: every level stays."""

    coding: CodingName = "rate"
    """Name of the coding."""

    schedule: ScheduleName | None = None
    """Name of the schedule; None if the coding has none."""

    burst: int = 1
    """Maximum spikes per neuron per step."""

    placement: Placement | None = None
    """Places of the sites; None: those of the sweep's quantize.placement."""

    early_exit: ExitRule | None = None
    """Rule of early exit; None: the sweep's early_exit."""

    @property
    def name(self) -> str:
        """Folder of the network, which all ways to simulate it share."""
        where = ""
        if self.mask_sites:
            plain = "".join(c if c.isalnum() or c in "+." else "-" for c in self.mask_sites)
            digest = "" if plain == self.mask_sites else "-" + sha256(self.mask_sites.encode()).hexdigest()[:6]
            where = f"_{plain}{digest}"
        penalty = f"_w{_short(self.spike_penalty)}" if self.spike_penalty else ""
        powers = f"_m{self.max_powers}" if self.max_powers else ""
        sites = f"_{self.placement}" if self.placement else ""
        return f"L{self.num_levels}_p{_short(self.masking_ratio)}{where}{penalty}{powers}{sites}"

    @property
    def simulation(self) -> str:
        """Beginning of the names of the files in that folder; empty for rate coding without early exit."""
        schedule = f"{self.schedule}_burst{self.burst}_" if self.schedule else ""
        leaving = f"exit-{self.early_exit}_" if self.early_exit else ""
        return ("" if self.coding == "rate" else f"{self.coding}_{schedule}") + leaving

    @property
    def coding_label(self) -> str:
        """The coding for people: "rate", "lossless, free, burst 4", "rate, exit by margin"."""
        leaving = f", exit by {self.early_exit}" if self.early_exit else ""
        return self.coding + (f", {self.schedule}, burst {self.burst}" if self.schedule else "") + leaving

    @property
    def label(self) -> str:
        """For people."""
        where = f" at {brief(self.mask_sites)}" if self.mask_sites else ""
        penalty = f", spike penalty {self.spike_penalty:g}" if self.spike_penalty else ""
        powers = f", at most {self.max_powers} powers of two" if self.max_powers else ""
        sites = f", sites at {self.placement}" if self.placement else ""
        coding = "" if self.coding_label == "rate" else f"; {self.coding_label}"
        return f"L = {self.num_levels}, p = {self.masking_ratio:g}{where}{penalty}{powers}{sites}{coding}"


def brief(mask_sites: str) -> str:
    """A selection of sites, short enough for a picture."""
    first, *others = mask_sites.split("+")
    return f"{first} and {len(others)} more" if others and len(mask_sites) > _LONG else mask_sites


_LONG = 24


def _short(value: float) -> str:
    """A number that tells itself apart from every other."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class CellFailure:
    """Error that ended a cell."""

    error: str
    """Its text, in one line."""

    traceback: str
    """Where it was raised."""


@dataclass(frozen=True)
class SeedRun:
    """One simulation of a cell, masks drawn from one seed. Series have an entry for each t = 1...T.

    After an image has settled or left early, its accuracy stays and it adds no spikes, no energy and no steps.
    """

    seed: int
    """Seed of the masks."""

    num_images: int
    """Test images."""

    num_neurons: int
    """Neurons of all sites, per image."""

    accuracy: Values
    """Of a run stopped after t steps, fractions."""

    spikes_per_image: Values
    """Up to step t."""

    energy_pj: Values
    """Up to step t, per image, of what `EnergyEstimate.snn` holds."""

    ann_accuracy: float
    """Of the ANN with masks of that seed, a fraction."""

    ann_energy_pj: float
    """Of the ANN, per image, of what `EnergyEstimate.ann` holds."""

    ann_quanta_per_neuron: float
    """Fewest spikes of one quantum per neuron that can carry the ANN's activations."""

    mean_steps: Values = ()
    """Steps that an image took up to step t, mean over images."""

    settled: Values = ()
    """Fraction of the images that have settled by step t; empty if the coding does not settle."""

    whole_energy_pj: Values = ()
    """Up to step t, per image: maps, products and all functions. Empty in a file of before it was recorded."""

    ann_whole_energy_pj: float | None = None
    """Likewise, of the ANN."""

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.accuracy)

    def after(self, num_steps: int) -> SeedRun | None:
        """This run with T = `num_steps`. None if it has fewer steps and images that would have gone on.

        A run that all images have settled in goes on as it is: the same accuracy, no further spike and no energy.
        """
        missing = num_steps - self.num_steps
        if missing > 0 and not (self.settled and self.settled[-1] == 1):
            return None
        series = {each.name: getattr(self, each.name) for each in fields(self)}
        longer: Any = {n: v[:num_steps] + v[-1:] * missing for n, v in series.items() if isinstance(v, tuple)}
        return replace(self, **longer)


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
        return self.runs[0].num_steps

    @property
    def kind(self) -> SweepCell:
        """The setting without its masks, equal for all that differ in their masks alone."""
        return replace(self.cell, masking_ratio=0.0, mask_sites="")


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


COLUMNS = (
    "num_levels", "masking_ratio", "mask_sites", "spike_penalty", "max_powers", "placement", "coding", "schedule",
    "burst", "early_exit", "time_steps", "num_seeds", "num_images", "ann_accuracy_percent", "ann_accuracy_spread",
    "snn_accuracy_percent", "snn_accuracy_spread", "spikes_per_image", "spikes_per_image_spread",
    "spikes_relative_to_unmasked", "spikes_per_neuron", "firing_rate", "mean_steps", "settled_percent", "energy_uj",
    "energy_relative_to_ann", "energy_with_functions_uj", "energy_with_functions_relative_to_ann",
    "ann_quanta_per_neuron", "on_energy_front", "on_spikes_front",
)  # fmt: skip


def sweep_rows(
    results: Sequence[SweepResult], time_steps: Sequence[int], common: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """One row for each cell and T, with the columns of `COLUMNS`. None where there is no such figure.

    Spikes relative to the unmasked: to those of the cell that differs in its masks alone, at the same T. Firing rate:
    over the steps that images took up to T. Energy: of maps, products, norms, and softmax and LayerNorm that are
    modules at 3 MACs per element; with functions: of maps, products and every function by its elementary operations.
    Fronts: True if no other row has a higher or equal accuracy at lower or equal energy, or spikes per neuron.

    Args:
        results: cells with their runs.
        time_steps: T of the rows.
        common: placement and early_exit of cells that leave them to the sweep.
    """
    common = {"placement": None, "early_exit": None} | dict(common or {})
    unmasked = {result.kind: result for result in results if result.cell.masking_ratio == 0}
    rows = []
    for result in results:
        reference = unmasked.get(result.kind)
        for t in time_steps:
            values = {**_of_cell(result), "time_steps": t, **_after_step(result, t)}
            values |= {name: values[name] or value for name, value in common.items()}
            base = 0.0 if reference is None else reference.series("spikes_per_image")[t - 1][0]
            values["spikes_relative_to_unmasked"] = values["spikes_per_image"] / base if base else None
            rows.append({name: values.get(name) for name in COLUMNS})
    mark_fronts(rows)
    return rows


def _of_cell(result: SweepResult) -> dict[str, Any]:
    """The columns that are the same at every T."""
    cell = result.cell
    ann, spread = result.number("ann_accuracy", 100)
    return asdict(cell) | {
        "max_powers": cell.max_powers or None,
        "burst": cell.burst if cell.schedule else None,
        "num_seeds": len(result.runs),
        "num_images": result.runs[0].num_images,
        "ann_accuracy_percent": ann,
        "ann_accuracy_spread": spread,
        "ann_quanta_per_neuron": result.number("ann_quanta_per_neuron")[0],
    }


def _after_step(result: SweepResult, t: int) -> dict[str, Any]:
    """The columns that depend on T."""
    first, at = result.runs[0], t - 1
    accuracy, spikes = result.series("accuracy", 100)[at], result.series("spikes_per_image")[at]
    steps, energy = result.series("mean_steps")[at][0], result.series("energy_pj")[at][0]
    whole = settled = None
    if all(run.whole_energy_pj for run in result.runs):
        whole = result.series("whole_energy_pj")[at][0]
    if first.settled:
        settled = result.series("settled", 100)[at][0]
    return {
        "snn_accuracy_percent": accuracy[0],
        "snn_accuracy_spread": accuracy[1],
        "spikes_per_image": spikes[0],
        "spikes_per_image_spread": spikes[1],
        "spikes_per_neuron": spikes[0] / first.num_neurons,
        "firing_rate": spikes[0] / first.num_neurons / steps,
        "mean_steps": steps,
        "settled_percent": settled,
        "energy_uj": energy * 1e-6,
        "energy_relative_to_ann": energy / first.ann_energy_pj,
        "energy_with_functions_uj": None if whole is None else whole * 1e-6,
        "energy_with_functions_relative_to_ann": None if whole is None else whole / (first.ann_whole_energy_pj or 1),
    }
