"""A report: which sections it has, and the files that it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mst import __version__
from mst.errors import InputError
from mst.experiments.run_files import RunFiles
from mst.extras import install_command
from mst.files import write_text

from .charts import Chart
from .page import Page, html_page, plotly_library
from .pictures import write_pictures
from .runs import Run, grouped
from .section import Section
from .sections import activity, energy, errors, images, neurons, overview, sweeps


@dataclass(frozen=True)
class PageReport:
    """A report that is ready to be written."""

    page: Page
    """Its content."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in the order of the page."""
        return tuple(chart for section in self.page.sections for chart in section.charts)

    def write(self, path: str | Path, library: str | None = None) -> Path:
        """Write the page.

        Args:
            path: of the .html file.
            library: plotly.js; by default that of the installed plotly.

        Raises:
            InputError: plotly is not installed.
            OSError: the file cannot be written.
        """
        if library is None:
            try:
                library = plotly_library()
            except ModuleNotFoundError as error:
                raise InputError("the page needs plotly", remedy=install_command("report")) from error
        return write_text(Path(path), html_page(self.page, library))

    def write_figures(self, folder: str | Path) -> list[Path]:
        """Write every chart as NAME.svg and NAME.png.

        Raises:
            OSError: a file cannot be written.
        """
        return [path for chart in self.charts for path in write_pictures(chart, Path(folder))]


def build_report(
    files_of_paths: Sequence[Sequence[RunFiles]], command_of: Callable[[RunFiles], str], title: str = ""
) -> PageReport:
    """The report of one run, or of several side by side.

    Args:
        files_of_paths: for each path that was given, what `read_run` found.
        command_of: a run's files -> the command that makes them again.
        title: heading; by default the names of the networks and of the data.

    Raises:
        InputError: a record holds values of another kind than those it was written with.
    """
    runs = grouped(files_of_paths)
    if not runs:
        raise InputError("there is no run to report on")
    commands = [command_of(files) for run in runs for files in run.files]
    sections = (
        overview.summary(runs),
        overview.accuracy(runs),
        images.class_scores(runs),
        energy.energy(runs),
        activity.firing_rates(runs),
        neurons.rasters(runs),
        neurons.membranes(runs),
        images.attention_maps(runs),
        sweeps.sweeps(runs),
        errors.site_errors(runs),
        overview.other_results(runs),
        overview.what_was_run(runs),
        energy.assumptions(runs),
        overview.repeat(runs, commands),
    )
    shown: list[Section] = [section for section in sections if section is not None]
    folders = dict.fromkeys(str(files.folder) for run in runs for files in run.files)
    foot = f"Written by mst report, version {__version__}, from the records in {', '.join(folders)}."
    return PageReport(Page(title or _title(runs), _lead(runs), shown, foot))


def _title(runs: Sequence[Run]) -> str:
    """ "digits-mst on digits"."""
    networks = [_network(run.results.text("checkpoint") or run.record.text("checkpoint") or "") for run in runs]
    data = [run.results.text("dataset") or run.record.text("dataset") or "" for run in runs]
    shown, where = (" and ".join(filter(None, dict.fromkeys(names))) for names in (networks, data))
    return (shown or runs[0].label) + (f" on {where}" if where else "")


def _network(checkpoint: str) -> str:
    """The name of a zoo's network, or of the file with its folder."""
    if checkpoint.startswith("zoo:"):
        return checkpoint.removeprefix("zoo:")
    return "/".join(Path(checkpoint).parts[-2:]).removesuffix(".safetensors")


def _lead(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        verbs = " and ".join(files.verb for files in runs[0].files)
        return f"Report of the run {runs[0].label} (mst {verbs})."
    return f"{len(runs)} runs side by side: {', '.join(run.label for run in runs)}."
