"""A benchmark as a table and in words."""

from __future__ import annotations

from rich.table import Table

from mst.experiments import BenchmarkRun, coding_label

_HEADINGS = (
    "speed-up over\nplain loop", "time of\nthe ANN", "fraction\nof floor", "steps", "images/s", "steps/s",
    "ms per image\nand step", "peak\nmemory (MiB)",
)  # fmt: skip


def benchmark_table(run: BenchmarkRun) -> Table:
    """One row per computation, ratios first."""
    table = Table(title=f"{run.options.network}, {coding_label(run.coding)}, batch {run.options.batch_size}")
    table.add_column("computation", overflow="fold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in run.rows().items():
        speed_up, peak = row["speed_up_over_plain_loop"], row["peak_bytes"]
        table.add_row(
            name,
            "" if speed_up is None else f"{speed_up:.2f}x",
            f"{row['times_the_ann']:.2f}x",
            f"{row['fraction_of_floor']:.2f}",
            f"{row['steps']}",
            f"{row['images_per_second']:,.2f}",
            f"{row['steps_per_second']:,.2f}",
            f"{row['ms_per_image_step']:,.3f}",
            "" if peak is None else f"{peak / 2**20:,.0f}",
        )
    return table


def benchmark_summary(run: BenchmarkRun) -> list[str]:
    """Lines about the device and the floor."""
    products, traffic = run.rates.macs_per_second / 1e9, run.rates.bytes_per_second / 1e9
    return [
        f"{run.device}, {run.threads} threads; medians of {run.options.rounds} rounds in which all take turns.",
        f"Floor: {run.macs_per_image / 1e6:,.1f} million MACs per image and step at {products:,.1f} GMAC/s, and 16 "
        f"bytes for each of {run.neurons_per_image:,} neurons at {traffic:,.1f} GB/s, both measured in this run.",
    ]
