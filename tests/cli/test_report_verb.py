"""`mst report`, and the commands that it shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mst.cli.main import main
from mst.cli.parser import normalise, option_types_of, verb_parser
from mst.cli.repeat import command_of
from mst.cli.verbs import VERBS
from mst.experiments import CheckpointOptions, CodingOptions, ExitOptions, StepOptions
from mst.experiments.run_files import flat_settings, read_run
from mst.options import flatten
from run_records import ZOO, change, write_run


@pytest.mark.usefixtures("rendered_figures")
def test_report_writes_a_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    write_run(tmp_path / "a")
    page = tmp_path / "page.html"
    assert main(["report", "--output", str(page), "--figures", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert 1e6 < page.stat().st_size < 8e6
    assert (tmp_path / "page_figures" / "accuracy-against-time.svg").is_file()
    assert str(page) in capsys.readouterr().out


def test_report_without_a_run_or_with_a_wrong_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report"]) == 2
    assert main(["report", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_command_has_the_options_that_differ_from_their_defaults(tmp_path: Path) -> None:
    (files,) = read_run(write_run(tmp_path / "out put", "lossless"))
    assert command_of(files) == (
        f"mst simulate zoo:digits-mst --max-images 8 --time-steps 4 --coding lossless --burst 4 "
        f"--output '{tmp_path / 'out put'}'"
    )


def test_command_gives_the_settings_of_the_record_again(tmp_path: Path) -> None:
    write_run(tmp_path)
    groups = (
        CheckpointOptions(ZOO, batch_size=8, masking_ratio=0.5, mask_sites=("query", "layers.*")),
        StepOptions(time_steps=8, early_exit="margin", exit=ExitOptions(loss=1.5, validation_images=20)),
        CodingOptions("lossless", burst=2, schedule="free"),
    )
    change(tmp_path / "run_record.json", settings=flatten(*groups) | {"settled": True, "output": tmp_path})
    (files,) = read_run(tmp_path)
    function = VERBS["simulate"].load()
    _, verb, *words = shlex.split(command_of(files))
    parsed = verb_parser(verb, function).parse_args(normalise(verb, option_types_of(function), words))
    settings = files.record.part("settings")
    assert settings is not None
    for name, value in flat_settings(settings):
        found = parsed[name]
        assert (
            list(found) if isinstance(value, list) else str(found) if name in ("output", "checkpoint") else found
        ) == value


def test_command_of_an_unknown_verb_is_its_name(tmp_path: Path) -> None:
    write_run(tmp_path)
    change(tmp_path / "run_record.json", verb="dance")
    (files,) = read_run(tmp_path)
    assert command_of(files) == "mst dance"
