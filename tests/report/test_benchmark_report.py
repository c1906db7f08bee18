"""The table of a benchmark."""

from __future__ import annotations

import io

from rich.console import Console

import mst
from mst.experiments.benchmarking import ANN, PLAIN, UNCOUNTED
from mst.measure.timing import MachineRates
from mst.report import benchmark_summary, benchmark_table


def test_benchmark_table_shows_ratios_first() -> None:
    run = mst.BenchmarkRun(
        mst.BenchmarkOptions("net", time_steps=4, batch_size=2, rounds=1), mst.CodingOptions(), "cpu", 1,
        macs_per_image=5_000_000, neurons_per_image=1000, steps=4, rates=MachineRates(1e9, 16e9),
        seconds={ANN: (0.5,), PLAIN: (6.0,), UNCOUNTED: (2.0,)}, peak_bytes={ANN: None, PLAIN: 2**20, UNCOUNTED: 2**21},
    )  # fmt: skip
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(benchmark_table(run))
    rows = [line for line in console.export_text().splitlines() if UNCOUNTED in line]
    cells = [cell.strip() for cell in rows[0].strip("│").split("│")]
    assert cells == [UNCOUNTED, "3.00x", "4.00x", "0.02", "4", "1.00", "2.00", "250.000", "2"]
    assert "5.0 million MACs" in benchmark_summary(run)[1]
