"""Numbers -> tables for a terminal, with units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mst.measure import EnergyEstimate, Part
from mst.simulation import SimulationResult


def steps_shown(num_steps: int) -> list[int]:
    """Powers of two up to T, and T."""
    powers = [2**k for k in range(num_steps.bit_length()) if 2**k <= num_steps]
    return powers if powers[-1] == num_steps else [*powers, num_steps]


def accuracy_table(results: Mapping[str, SimulationResult], ann_accuracies: Mapping[str, float]) -> Table:
    """Accuracy of each run after 1, 2, 4, ... T steps, beside its ANN's."""
    table = Table(title="Accuracy against time steps T (%)", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("run", no_wrap=True)
    shown = steps_shown(max(result.num_steps for result in results.values()))
    for t in shown:
        table.add_column(f"T={t}", justify="right", no_wrap=True)
    table.add_column("ANN", justify="right", no_wrap=True)
    for label, result in results.items():
        assert result.accuracy is not None
        cells = [f"{100 * result.accuracy[t - 1]:.2f}" if t <= result.num_steps else "" for t in shown]
        table.add_row(label, *cells, f"{100 * ann_accuracies[label]:.2f}")
    return table


def steps_in_words(num_steps: int, mean_steps: float) -> str:
    """ "T = 64", or "7.8 steps on average" where images had settled or left before T."""
    return f"T = {num_steps}" if mean_steps == num_steps else f"{mean_steps:.1f} steps on average"


def site_table(result: SimulationResult) -> Table:
    """Threshold, firing rate and spikes of every site."""
    table = Table(title=f"Sites, {steps_in_words(result.num_steps, result.mean_steps)}")
    table.add_column("site", overflow="fold")
    for heading in ("neurons", "threshold", "firing rate\n(spikes per\nneuron, step)", "spikes per\nimage"):
        table.add_column(heading, justify="right", no_wrap=True)
    rates, counts = result.firing_rates, result.spike_counts
    for name, site in result.sites.items():
        threshold = "per channel" if site.threshold is None else f"{site.threshold:.3f}"
        table.add_row(
            name,
            f"{site.num_neurons:,}",
            threshold,
            f"{rates[name]:.4f}",
            f"{counts[name] / result.num_images:,.0f}",
        )
    neurons = sum(site.num_neurons for site in result.sites.values())
    table.add_section()
    table.add_row("all", f"{neurons:,}", "", f"{result.firing_rate:.4f}", f"{result.spikes_per_image:,.0f}")
    return table


def energy_table(estimates: Mapping[str, EnergyEstimate]) -> Table:
    """Operations and energy per image of each SNN and of its ANN, which is listed once for SNNs that share it."""
    table = Table(title="Operations and energy per image")
    table.add_column("network", no_wrap=True)
    with_functions = any(estimate.functions for estimate in estimates.values())
    headings = ["T\n(mean)", "MACs", "ACs", "energy (µJ)", "relative\nto its ANN"]
    headings += ["with func-\ntions (µJ)", "relative\nto its ANN"] if with_functions else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    shown = None
    for label, estimate in estimates.items():
        if estimate.ann != shown:
            shown = estimate.ann
            ann = _cost_cells(estimate.ann.num_macs, 0.0, estimate.ann.energy_pj)
            functions = (f"{estimate.whole.ann.energy_pj * 1e-6:,.3f}", "1.00x") if with_functions else ()
            table.add_row(f"ANN {label}".strip(), "", *ann, "1.00x", *functions)
        whole = estimate.mean_steps == estimate.num_steps
        functions = (f"{estimate.whole.snn.energy_pj * 1e-6:,.3f}", f"{estimate.whole.ratio:.2f}x")
        table.add_row(
            f"SNN {label}".strip(),
            str(estimate.num_steps) if whole else f"{estimate.mean_steps:.1f}",
            *_cost_cells(estimate.snn.num_macs, estimate.snn.num_acs, estimate.snn.energy_pj),
            f"{estimate.ratio:.2f}x",
            *(functions if with_functions else ()),
        )
    return table


def operation_table(estimate: EnergyEstimate) -> Table:
    """Every operation with its source and its cost. The rows sum to the last one."""
    table = Table(title=f"Operations per image, {steps_in_words(estimate.num_steps, estimate.mean_steps)}")
    table.add_column("operation", overflow="fold")
    table.add_column("driven by", overflow="fold")
    for heading in ("SNN\nMACs", "SNN\nACs", "SNN\n(µJ)", "ANN\n(µJ)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in estimate.operations:
        snn = _cost_cells(row.snn.num_macs, row.snn.num_acs, row.snn.energy_pj)
        table.add_row(f"{row.name} ({row.kind})", row.driven_by, *snn, f"{row.ann.energy_pj * 1e-6:,.3f}")
    table.add_section()
    snn = _cost_cells(estimate.snn.num_macs, estimate.snn.num_acs, estimate.snn.energy_pj)
    table.add_row("total", "", *snn, f"{estimate.ann.energy_pj * 1e-6:,.3f}")
    return table


def function_table(estimate: EnergyEstimate) -> Table:
    """Every function between the sites, how often it is computed, and its cost; then maps, products and functions.

    An element of a function is computed once in the ANN.
    """
    table = Table(title=f"Functions per image, {steps_in_words(estimate.num_steps, estimate.mean_steps)}")
    table.add_column("function", overflow="fold")
    for heading in ("computed\n(times per\nelement)", "SNN\n(µJ)", "ANN\n(µJ)", "relative\nto its ANN"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in estimate.functions:
        table.add_row(row.name, f"{row.evaluations:.2f}", *_part_cells(Part(row.snn, row.ann)))
    table.add_section()
    parts = {
        "functions": estimate.all_functions,
        "maps and products": estimate.maps_and_products,
        "maps, products and functions": estimate.whole,
    }
    for label, part in parts.items():
        table.add_row(label, "", *_part_cells(part))
    return table


def _part_cells(part: Part) -> Sequence[str]:
    ratio = "" if math.isnan(part.ratio) else f"{part.ratio:.2f}x"
    return f"{part.snn.energy_pj * 1e-6:,.3f}", f"{part.ann.energy_pj * 1e-6:,.3f}", ratio


def _cost_cells(num_macs: float, num_acs: float, energy_pj: float) -> Sequence[str]:
    return f"{num_macs:,.0f}", f"{num_acs:,.0f}", f"{energy_pj * 1e-6:,.3f}"
