"""Firing rates of the sites."""

from __future__ import annotations

from collections.abc import Sequence

from mst.experiments.run_files import Fields

from ..charts import Bars, Chart
from ..markup import Table, folded
from ..runs import Run
from ..section import Section
from ..words import count

_PER_SITE = 19
"""Height of a site in a chart of bars, in pixels."""


def firing_rates(runs: Sequence[Run]) -> Section | None:
    """Firing rate of every site, in the order of the network."""
    sites = {run.label: run.spiking.parts("sites") for run in runs if run.spiking}
    rates = {
        label: {name: value for name, site in of_run.items() if (value := site.number("firing_rate")) is not None}
        for label, of_run in sites.items()
    }
    names = list(dict.fromkeys(name for each in rates.values() for name in each))
    if not names:
        return None
    shown = [run for run in runs if rates.get(run.label)]
    chart = Chart(
        "firing-rates",
        "Firing rate by site",
        "Spikes per neuron and time step that left each site, after masking, over the steps that an image needed. The "
        "sites are in the order of the network, the image above. Long bars are where the spikes are spent.",
        "firing rate (spikes per neuron per step)",
        categories=names,
        bars=[Bars(run.label, [rates[run.label].get(name, 0.0) for name in names], run.colour) for run in shown],
        height=110 + len(names) * max(_PER_SITE, 9 * len(shown) + 6),
    )
    tables = [_table(run.label, sites[run.label]).markup() for run in shown]
    return Section("rates", "Firing rates", [chart, folded("Neurons, thresholds and spikes by site", *tables)])


def _table(label: str, sites: dict[str, Fields]) -> Table:
    rows = []
    for name, site in sites.items():
        threshold, rate = site.number("threshold"), site.number("firing_rate")
        rows.append([
            name, count(site.number("num_neurons")), "" if threshold is None else f"{threshold:.4g}",
            "" if rate is None else f"{rate:.4f}", count(site.number("spikes")), count(site.number("dropped_spikes")),
        ])  # fmt: skip
    headings = ("Site", "Neurons", "Threshold", "Firing rate", "Spikes sent", "Spikes dropped by masks")
    return Table(
        f"{label}: sites; spikes summed over images and steps; no threshold: one for each channel", headings, rows
    )
