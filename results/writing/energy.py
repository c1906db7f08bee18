"""SNNs beside their ANNs, by several cost models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .records import BOTH_INT8, FP32, ZEROS_SKIPPED, Records, coding, ratio, runs_of
from .tables import FASHION_MNIST, NETWORKS, million, named, short_percent, table, times


@named("energy")
def energy(records: Records) -> list[str]:
    """Every network and coding beside four ANNs, by three models."""
    rows = []
    for name in FASHION_MNIST:
        for run in runs_of(records[f"zoo/{name}"]):
            cells = [
                " / ".join(f"{ratio(run, model, ann):.2f}" for ann in (FP32, ZEROS_SKIPPED, BOTH_INT8))
                for model in ("45nm-fp32", "45nm-memory", "45nm-sram")
            ]
            rows.append([NETWORKS[name], coding(run), *cells, even(run, "22nm-sparse"), even(run, "22nm-dense")])
    columns = (
        "network", "coding", "arithmetic", "with memory, 5 pJ a word", "with memory by size", "22 nm, sparse",
        "22 nm, dense",
    )  # fmt: skip
    return table(columns, rows)


def even(run: Mapping[str, Any], model: str) -> str:
    """The energy of a MAC above which the SNN spends less."""
    found = run["cost_models"][model]
    if "refused" in found:
        return "not priced"
    return "never" if found["break_even_mac_pj"] is None else f"{found['break_even_mac_pj']:.3g} pJ"


@named("schedules")
def schedules(records: Records) -> list[str]:
    """What schedule and burst cost."""
    rows = []
    for run in runs_of(records["energy/schedules"]):
        kinds = run["snn_energy_pj_by_kind"]
        rows.append([
            run["schedule"], run["burst"], f"{run['mean_steps']:.1f}", f"{run['spikes_per_neuron']:.2f}",
            f"{kinds['neurons'] / sum(kinds.values()):.0%}",
            *(times(ratio(run, model)) for model in ("45nm-fp32", "45nm-memory", "45nm-sram")),
        ])  # fmt: skip
    columns = (
        "schedule", "burst", "steps", "spikes per neuron", "share of the neurons' updates", "arithmetic", "with memory",
        "with memory by size",
    )  # fmt: skip
    return table(columns, rows)


@named("alpha-watts")
def alpha_watts(records: Records) -> list[str]:
    """The paper's measure beside energy, with and without masks."""
    rows = []
    models = ("45nm-fp32", "45nm-memory", "45nm-sram")
    for name in ("fashion-mnist-mst", "fashion-mnist-resnet18"):
        pairs = zip(runs_of(records[f"zoo/{name}"]), runs_of(records[f"zoo/{name}-masked"]), strict=True)
        for pair in pairs:
            for ratio_of_masks, run in zip(("0", "0.75"), pair, strict=True):
                figures = [measures(run, models), measures(pair[0], models)]
                cells = [
                    form(mine) + ("" if run is pair[0] else f" (x{mine / base:.2f})")
                    for form, mine, base in zip(FORMS, *figures, strict=True)
                ]
                rows.append([
                    f"{NETWORKS[name]}, {run['coding']}", ratio_of_masks, short_percent(run["snn_accuracy"]), *cells
                ])  # fmt: skip
    columns = (
        "network, coding", "p", "SNN", "spikes per neuron", "alpha watts", "arithmetic", "with memory",
        "with memory by size",
    )  # fmt: skip
    return table(columns, rows)


def measures(run: Mapping[str, Any], models: Sequence[str]) -> list[float]:
    """Spikes per neuron, alpha watts, energies in microjoules."""
    energies = [run["cost_models"][model]["snn_energy_pj"] * 1e-6 for model in models]
    return [run["spikes_per_neuron"], run["alpha_watts"], *energies]


FORMS: tuple[Callable[[float], str], ...] = (
    lambda number: f"{number:.2f}",
    million,
    *(3 * (lambda number: f"{number:,.1f} µJ",)),
)
