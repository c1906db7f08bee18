"""The runs of a report: files of verbs that belong together, with a label and a colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mst.errors import InputError
from mst.experiments import CodingOptions, RunTraces, coding_label
from mst.experiments.run_files import Fields, RunFiles

from .theme import series_colour

_SAME_RUN = (
    "checkpoint",
    "dataset",
    "data_fingerprint",
    "masking_ratio",
    "slices",
    "options",
    "num_steps",
    "num_images",
)
"""Entries of two results that are of one simulation, whichever verb made it."""


@dataclass(frozen=True)
class Run:
    """A simulation, a measurement of it, or both; or what another verb did."""

    label: str
    """Name in tables and legends."""

    number: int
    """Place in the report, from 0."""

    files: tuple[RunFiles, ...]
    """At least one."""

    @property
    def colour(self) -> str:
        """Of its lines and bars."""
        return series_colour(self.number)

    @property
    def record(self) -> Fields:
        """The run record, of the first of its verbs."""
        return self.files[0].record

    @property
    def simulation(self) -> Fields | None:
        """Content of simulation.json."""
        return self._results_of("simulate")

    @property
    def measurement(self) -> Fields | None:
        """Content of measurement.json."""
        return self._results_of("measure")

    @property
    def diagnosis(self) -> Fields | None:
        """The diagnosis in diagnosis.json."""
        found = self._results_of("diagnose")
        return None if found is None else found.part("diagnosis")

    @property
    def traces(self) -> RunTraces | None:
        """Some images step by step."""
        return next((each.traces for each in self.files if each.traces is not None), None)

    @property
    def spiking(self) -> Fields | None:
        """Content of simulation.json or measurement.json, for what both hold."""
        return self.simulation or self.measurement

    @property
    def results(self) -> Fields:
        """What its verb found, in its file or in the record."""
        return self.files[0].results or self.record.part("results") or Fields(self.record.where, {})

    def _results_of(self, verb: str) -> Fields | None:
        return next((each.results for each in self.files if each.verb == verb), None)

    @property
    def coding(self) -> str:
        """The coding in words; empty where nothing was simulated."""
        return "" if self.spiking is None else _coding_words(self.spiking)


def _coding_words(results: Fields) -> str:
    """ "rate" or "lossless, weighted, burst 4"."""
    options = results.part("options")
    known = {each.name for each in fields(CodingOptions)}
    given: dict[str, Any] = {n: v for n, v in (options.content if options else {}).items() if n in known}
    try:
        return coding_label(CodingOptions(**given))
    except KeyError:  # a coding that was registered by the program that wrote the record
        return str(given["coding"])
    except (TypeError, ValueError) as error:
        raise InputError(f"options are not those of a coding ({error})", where=results.where) from error


def grouped(files_of_paths: Sequence[Sequence[RunFiles]]) -> tuple[Run, ...]:
    """The runs in the files, in the order in which they are given, each once and with a label of its own.

    Args:
        files_of_paths: for each path that was given, what `read_run` found.
    """
    groups: list[list[RunFiles]] = []
    seen: set[Path] = set()
    for found in files_of_paths:
        start = len(groups)
        for files in found:
            record = Path(files.record.where).resolve()
            if record in seen:
                continue
            seen.add(record)
            same = [group for group in groups[start:] if _are_one_run(group[0], files)]
            same[0].append(files) if same else groups.append([files])
    labels = _labels(groups)
    return tuple(Run(label, n, tuple(group)) for n, (label, group) in enumerate(zip(labels, groups, strict=True)))


def _are_one_run(one: RunFiles, other: RunFiles) -> bool:
    if one.results is None or other.results is None or {one.verb, other.verb} != {"simulate", "measure"}:
        return False
    equal = all(one.results.content.get(name) == other.results.content.get(name) for name in _SAME_RUN)
    return equal and one.record.content.get("seed") == other.record.content.get("seed")


def _labels(groups: Sequence[Sequence[RunFiles]]) -> list[str]:
    """Names of the folders, with as many parents as tell them apart, and the verb where a folder holds several runs."""
    folders = [group[0].folder.resolve() for group in groups]
    distinct = set(folders)
    depth = next((d for d in range(1, 8) if len({_end(folder, d) for folder in distinct}) == len(distinct)), 8)
    labels = [_end(folder, depth) for folder in folders]
    return [
        label if labels.count(label) == 1 else f"{label} ({group[0].verb})"
        for label, group in zip(labels, groups, strict=True)
    ]


def _end(folder: Path, depth: int) -> str:
    return "/".join(folder.parts[-depth:]) or str(folder)
