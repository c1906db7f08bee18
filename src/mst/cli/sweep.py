"""`mst sweep`: the cross product of settings, each trained, converted and simulated; one table, and figures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mst.errors import UnfinishedError
from mst.experiments.sweep_options import SweepOptions

from .display import console, print_files, print_line, progress_bar
from .train import EpochPrinter

if TYPE_CHECKING:
    from mst.experiments import SweepCell, SweepRun


def sweep(options: SweepOptions, output: Path = Path("runs/sweep")) -> None:
    """Train every combination of levels, masks, powers and spike penalties, and simulate it under every coding.

    Writes a folder for each network, sweep.csv and sweep.md with mean and standard deviation over mask seeds, and
    figures: accuracy and spikes against the ratio, accuracy against T, against spikes and against energy, and the
    Pareto fronts of accuracy against energy and spikes, which the table marks too. The same command again continues
    where it was cut and keeps what is finished; entries of every axis (ratios, levels, sites, penalties, powers,
    placements, codings, schedules, bursts, early exits, seeds, time steps) may be added then. A combination that fails
    is named at the end, and the others continue. With --shard I/N, N jobs share one output folder and compute each
    combination once; the last to end writes the table.

    Example: mst sweep --config sweep-digits-mst --output runs/sweep
    Example: mst sweep --method evaluate --checkpoint runs/mst/last.safetensors --masking-ratios 0,0.25,0.5
    Example: mst sweep --method evaluate --checkpoint runs/mst/last.safetensors --codings lossless --bursts 1,2,4
    Example: mst sweep --config sweep-digits-mst --output /shared/sweep --shard $SLURM_ARRAY_TASK_ID/4

    Args:
        options: the combinations.
        output: Folder for everything that the sweep writes.
    """
    from mst.distributed import is_main_process
    from mst.experiments import SweepObserver, run_sweep

    def head(number: int, total: int, cell: SweepCell) -> None:
        console.rule(f"{number} of {total}: {cell.label}")

    with progress_bar() as progress:
        run = run_sweep(options, output, observer=SweepObserver(progress, head, EpochPrinter(options.train.epochs)))
    if run.record is not None:
        _report(run, output)
    elif is_main_process():
        total = len(run.results) + len(run.unfinished)
        print_line(f"{len(run.results)} of {total} combinations are finished; the job that ends last writes the table")
    if run.failures:
        raise _failed(run)


def _failed(run: SweepRun) -> UnfinishedError:
    if os.environ.get("MST_DEBUG"):
        print("\n".join(failure.traceback for failure in run.failures.values()), file=sys.stderr)
    reasons = "; ".join(f"{cell.label} ({failure.error})" for cell, failure in run.failures.items())
    return UnfinishedError(
        f"{len(run.failures)} combinations failed: {reasons}", remedy="the same command tries them again"
    )


def _report(run: SweepRun, output: Path) -> None:
    from mst.files import write_text
    from mst.report import (
        sweep_against_energy,
        sweep_against_ratio,
        sweep_against_time,
        sweep_fronts,
        sweep_markdown,
        sweep_pareto,
        write_sweep_csv,
    )

    assert run.record is not None
    markdown = sweep_markdown(run.rows, run.title, [cell.label for cell in run.unfinished])
    print_line(markdown)
    written = [
        write_sweep_csv(output / "sweep.csv", run.rows),
        write_text(output / "sweep.md", markdown),
        sweep_against_time(run.results, output / "accuracy_vs_time.png", run.title),
        sweep_pareto(run.results, output / "accuracy_vs_spikes.png", run.title),
        sweep_against_energy(run.results, output / "accuracy_vs_energy.png", run.title),
        sweep_fronts(run.rows, output / "pareto_fronts.png", run.title),
    ]
    if len({result.cell.masking_ratio for result in run.results}) > 1:
        written.append(sweep_against_ratio(run.results, output / "accuracy_and_spikes_vs_ratio.png", run.title))
    print_files(*written, run.record)
