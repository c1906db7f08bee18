"""Output of the command: results on standard output; progress and notes on standard error."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mst.progress import Progress as Report
from mst.progress import ProgressCallback

_QUIET = int(os.environ.get("RANK", 0)) != 0
"""Of several processes only the first prints."""

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, quiet=_QUIET)
"""Results go to standard output; into a file as wide as the tables need."""

_status = Console(stderr=True, quiet=_QUIET)


def print_line(text: str) -> None:
    """Print a line of results as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_files(*paths: Path) -> None:
    """List the files that were written."""
    console.print("\nWritten:")
    for path in paths:
        print_line(f"  {path}")


class NoteHandler(logging.Handler):
    """Prints the notes of the library, see `mst.text.note`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one note."""
        _status.print(f"[bold]note:[/bold] {escape(record.getMessage())}", highlight=False, soft_wrap=True)


def show_notes() -> None:
    """Print notes on standard error from now on."""
    logger = logging.getLogger("mst.notes")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [NoteHandler()]


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A callback that shows each stage as a bar on standard error while the block runs."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    bars = Progress(*columns, console=_status, redirect_stdout=sys.stdout.isatty())
    tasks: dict[str, TaskID] = {}

    def show(report: Report) -> None:
        bars.start()
        if report.stage not in tasks or report.done == 0:
            for earlier in tasks.values():
                bars.update(earlier, visible=False)
            tasks[report.stage] = bars.add_task(report.stage, total=report.total, unit=report.unit)
        bars.update(tasks[report.stage], completed=report.done, description=report.detail or report.stage)

    try:
        yield show
    finally:
        if bars.live.is_started:  # bars that have never been shown would leave an empty line
            bars.stop()
