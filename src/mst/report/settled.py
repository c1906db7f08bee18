"""Where a lossless run settles, as a table and in words."""

from __future__ import annotations

from rich.table import Table

from mst.experiments import SettledRun, coding_label
from mst.simulation import SettledResult


def settled_table(result: SettledResult) -> Table:
    """Neurons, quanta and fewest spikes of every site."""
    table = Table(title="Sites, settled")
    table.add_column("site", overflow="fold")
    for heading in ("neurons", "quanta per\nimage", "fewest spikes\nper image"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, site in result.sites.items():
        quanta, spikes = (f"{each / result.num_images:,.0f}" for each in (site.quanta, site.least_spikes))
        table.add_row(name, f"{site.num_neurons:,}", quanta, spikes)
    table.add_section()
    neurons = sum(site.num_neurons for site in result.sites.values())
    table.add_row("all", f"{neurons:,}", f"{result.quanta_per_image:,.0f}", f"{result.least_spikes_per_image:,.0f}")
    return table


def settled_summary(run: SettledRun) -> list[str]:
    """Lines about the accuracy and about what the bound means."""
    result = run.result
    assert result.accuracy is not None
    assert result.top5_accuracy is not None
    return [
        f"Settled ({coding_label(run.coding)}): top-1 {100 * result.accuracy:.2f} %, "
        f"top-5 {100 * result.top5_accuracy:.2f} %, {result.num_images} images. These are the answers of the quantised "
        "ANN, and of every run in which all images settle.",
        f"Such a run sends at least {result.least_spikes_per_image:,.0f} spikes per image, which carry "
        f"{result.quanta_per_image:,.0f} quanta; neurons that send too early and correct themselves send more. A "
        "simulation without --settled counts spikes, operations and steps.",
    ]
