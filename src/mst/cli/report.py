"""`mst report`: one page of HTML about one run, or about several side by side."""

from __future__ import annotations

from pathlib import Path

from .display import print_files


def report(runs: tuple[Path, ...], output: Path = Path("report.html"), figures: bool = False) -> None:
    """Write one self-contained page about the runs in some output folders.

    The page shows what was run, accuracy against time steps, energy beside its baselines, firing rates, sweeps, errors
    of quantisation, all assumptions, and the commands that make everything again; charts are interactive. Several runs
    stand side by side. It loads nothing, so that it can be sent by mail and read without a network. It needs the extra
    report; `mst doctor` prints the command that installs it.

    Example: mst report runs/simulate runs/measure
    Example: mst report runs/rate runs/lossless --output comparison.html --figures

    Args:
        runs: Output folders of mst simulate, measure, diagnose, sweep or other verbs, or single run records.
        output: The page.
        figures: Also write every chart as SVG and PNG, into a folder beside the page.
    """
    from mst.experiments import read_run
    from mst.report import build_report

    from .repeat import command_of

    page = build_report([read_run(path) for path in runs], command_of)
    written = [page.write(output)]
    if figures:
        written += page.write_figures(output.with_name(f"{output.stem}_figures"))
    print_files(*written)
