"""Finished runs are read back; what is missing or damaged is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from mst.errors import InputError, MissingFileError
from mst.experiments.run_files import Fields, read_run
from run_records import change, write_measurement, write_run


def test_read_run_finds_the_files_of_every_verb_in_a_folder(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_measurement(tmp_path, "measure_run_record.json")
    measured, simulated = read_run(tmp_path)
    assert (measured.verb, simulated.verb) == ("measure", "simulate")
    assert simulated.results is not None
    assert simulated.results.numbers("accuracy") == (0.25, 0.5, 0.875, 0.875)
    assert read_run(tmp_path / "run_record.json") == (simulated,)


def test_read_run_takes_a_record_without_further_files(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "simulation.json").unlink()
    change(tmp_path / "run_record.json", verb="simulate", settings={"settled": True})
    (files,) = read_run(tmp_path)
    assert files.results is None


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("run_record.json", None, MissingFileError, "there is no run_record.json; give the output folder"),
        ("simulation.json", None, MissingFileError, "simulation.json: the file is missing; run the verb again"),
        ("simulation.json", '{"accuracy": [0.', InputError, "simulation.json: it cannot be read"),
        ("simulation.json", "[]", InputError, "simulation.json: it does not hold a JSON object"),
        ("simulation.json", "[" * 100_000, InputError, "simulation.json: it cannot be read"),
        ("run_record.json", "{}", InputError, "run_record.json: it is not a run record: it states no verb"),
    ],
)
def test_read_run_refuses_files(
    name: str, content: str | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    write_run(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_run(tmp_path)


def test_read_run_refuses_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no such folder or file"):
        read_run(tmp_path / "nothing")


VALUES = Fields("file", {"word": "a", "flag": True, "nan": float("nan"), "list": [1, "a"], "object": {}, "none": None})


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        ("number", "word", "word is not a finite number"),
        ("number", "flag", "flag is not a finite number"),
        ("number", "nan", "nan is not a finite number"),
        ("numbers", "list", "list is not a finite number"),
        ("numbers", "word", "word is not a list"),
        ("text", "list", "list is not a single value"),
        ("texts", "word", "word is not a list"),
        ("part", "list", "list is not an object"),
        ("rows", "list", "list is not a list of objects"),
    ],
)
def test_fields_refuse_values_of_another_kind(method: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^file: {message}"):
        getattr(VALUES, method)(name)
    assert not getattr(VALUES, method)("none")
    assert not getattr(VALUES, method)("missing")
