"""Files of finished runs, read back. Each value is checked where it is used: a damaged file is one clear error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mst.errors import InputError, MissingFileError

from .records import RECORD_FILE
from .traces import TRACES_FILE, RunTraces, read_traces

RESULT_FILES = {"simulate": "simulation.json", "measure": "measurement.json", "diagnose": "diagnosis.json"}
"""Verb -> the file beside its run record that holds what the record does not repeat."""


@dataclass(frozen=True)
class Fields:
    """An object of a JSON file. A field that is missing or null is None; one of another type is refused."""

    where: str
    """File, and place in it."""

    content: Mapping[str, Any]
    """Name -> value."""

    def has(self, name: str) -> bool:
        """True if the field is there and not null."""
        return self.content.get(name) is not None

    def number(self, name: str) -> float | None:
        """A finite number.

        Raises:
            InputError: it is something else.
        """
        value = self.content.get(name)
        return None if value is None else self._number(name, value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list of finite numbers.

        Raises:
            InputError: it is something else.
        """
        value = self.content.get(name)
        return None if value is None else tuple(self._number(name, each) for each in self._list(name, value))

    def text(self, name: str) -> str | None:
        """Any single value, as text.

        Raises:
            InputError: it is a list or an object.
        """
        value = self.content.get(name)
        if isinstance(value, Mapping | list):
            raise self._wrong(name, "a single value")
        return None if value is None else str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none if the field is missing.

        Raises:
            InputError: it is something else.
        """
        value = self.content.get(name)
        return () if value is None else tuple(str(each) for each in self._list(name, value))

    def part(self, name: str) -> Fields | None:
        """An object within this one.

        Raises:
            InputError: it is something else.
        """
        value = self.content.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object")
        return Fields(f"{self.where}, {name}", value)

    def parts(self, name: str) -> dict[str, Fields]:
        """The objects within an object, by name; none if the field is missing.

        Raises:
            InputError: it is something else.
        """
        part = self.part(name)
        names = () if part is None else part.content
        return {each: found for each in names if part is not None and (found := part.part(each)) is not None}

    def rows(self, name: str) -> tuple[Fields, ...]:
        """A list of objects; none if the field is missing.

        Raises:
            InputError: it is something else.
        """
        rows = self._list(name, self.content.get(name) or [])
        if not all(isinstance(row, Mapping) for row in rows):
            raise self._wrong(name, "a list of objects")
        return tuple(Fields(f"{self.where}, {name} {number}", row) for number, row in enumerate(rows))

    def _list(self, name: str, value: Any) -> Sequence[Any]:
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def _number(self, name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(name, "a finite number")
        return value

    def _wrong(self, name: str, wanted: str) -> InputError:
        return InputError(f"{name} is not {wanted}", where=self.where, remedy="run the verb again")


@dataclass(frozen=True)
class RunFiles:
    """What one verb has written into its output folder."""

    folder: Path
    """The folder."""

    verb: str
    """The verb."""

    record: Fields
    """The run record."""

    results: Fields | None
    """The content of the verb's file of `RESULT_FILES`; None for other verbs."""

    traces: RunTraces | None = None
    """Some images step by step, if `mst simulate` has recorded them."""


def read_run(path: str | Path) -> tuple[RunFiles, ...]:
    """The files of a run.

    Args:
        path: an output folder, in which several verbs may have left their records, or one record.

    Returns:
        For each record the files of its verb, in the order of their names.

    Raises:
        MissingFileError: there is no such folder or file, or no record in it, or a file that belongs to it is missing.
        InputError: a file is damaged or is not a record.
    """
    path = Path(path)
    remedy = "give the output folder of a verb, for example runs/simulate"
    if path.is_dir():
        records = sorted(path.glob(f"*{RECORD_FILE}"))
        if not records:
            raise MissingFileError(f"there is no {RECORD_FILE}", where=str(path), remedy=remedy)
    elif path.is_file():
        records = [path]
    else:
        raise MissingFileError("there is no such folder or file", where=str(path), remedy=remedy)
    return tuple(_files_of(record) for record in records)


def _files_of(path: Path) -> RunFiles:
    record = read_fields(path)
    verb = record.text("verb")
    if verb is None:
        raise InputError("it is not a run record: it states no verb", where=str(path))
    name, in_one_pass = RESULT_FILES.get(verb), (record.part("settings") or record).content.get("settled")
    results = None if name is None or in_one_pass else read_fields(path.with_name(name))
    has_traces = results is not None and results.has("traces")
    return RunFiles(
        path.parent, verb, record, results, read_traces(path.with_name(TRACES_FILE)) if has_traces else None
    )


def read_fields(path: Path) -> Fields:
    """A JSON file that holds an object.

    Raises:
        MissingFileError: it does not exist.
        InputError: it is damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError("the file is missing", where=str(path), remedy="run the verb again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"it cannot be read ({error})", where=str(path), remedy="run the verb again") from error
    if not isinstance(content, dict):
        raise InputError("it does not hold a JSON object", where=str(path), remedy="run the verb again")
    return Fields(str(path), content)


def flat_settings(settings: Fields) -> Iterator[tuple[str, Any]]:
    """The settings of a record as (option, value), those of groups as "group.option"."""
    for name, value in settings.content.items():
        if isinstance(value, Mapping) and value:
            inner = Fields(settings.where, value)
            yield from ((f"{name}.{each}", found) for each, found in flat_settings(inner))
        else:
            yield name, value
