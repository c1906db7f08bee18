"""The options of the verbs: none of an earlier version is lost, each is explained, lists read naturally."""

from __future__ import annotations

from pathlib import Path

import pytest

from mst.cli.main import main
from mst.cli.parser import normalise, option_types_of, verb_parser
from mst.cli.verbs import VERBS
from mst.experiments.options import CodingOptions, EnergyOptions

BEFORE = Path(__file__).parents[1] / "data" / "before" / "flags.txt"

PARSED = [verb for verb in VERBS if verb != "datasets"]  # which has subcommands and parsers of its own


def test_flags_of_an_earlier_version_are_still_taken() -> None:
    known = {verb: set(option_types_of(VERBS[verb].load())) for verb in PARSED}
    groups = {verb: {name.partition(".")[0] for name in names} for verb, names in known.items()}
    for line in BEFORE.read_text().splitlines():
        verb, flag = line.split()
        name = flag.removeprefix("--")
        assert name in known[verb] or name in groups[verb], line


@pytest.mark.parametrize("verb", PARSED)
def test_options_have_a_help_text(verb: str) -> None:
    parser = verb_parser(verb, VERBS[verb].load())
    silent = [action.dest for action in parser._actions if not (action.help or "").strip(" ()") or action.help is None]
    assert silent == []


@pytest.mark.parametrize("verb", PARSED)
def test_help_answers(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"mst {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "typed", "taken"),
    [
        ("compare", ["--bursts", "1", "4", "x.safetensors"], ["--bursts=[1,4]", "x.safetensors"]),
        ("compare", ["--bursts", "1,4"], ["--bursts=[1,4]"]),
        ("compare", ["--bursts=[1,4]"], ["--bursts=[1,4]"]),
        ("compare", ["--schedules", "plain", "weighted"], ['--schedules=["plain", "weighted"]']),
        ("simulate", ["--mask-sites", "query", "key", "x.pth"], ['--mask_sites=["query", "key"]', "x.pth"]),
        ("sweep", ["--masking-ratios", "0", ".5", "--output", "o"], ["--masking_ratios=[0,.5]", "--output", "o"]),
        ("train", ["--img-size", "32"], ["--img_size=32"]),
        ("train", ["--img-size", "32,24"], ["--img_size=[32,24]"]),
        ("train", ["--model-kwargs.depths", "2", "--resume"], ["--model_kwargs.depths=2", "--resume", "true"]),
        ("import", ["w.pth", "-o", "c.safetensors"], ["--weights", "w.pth", "--output", "c.safetensors"]),
    ],
)  # fmt: skip
def test_lists_and_switches_read_naturally(
    verb: str, typed: list[str], taken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # --resume takes the options of a run from the folder
    assert normalise(verb, option_types_of(VERBS[verb].load()), typed) == taken


def test_choices_shown_are_the_registered_ones() -> None:
    """The option groups name them without loading the registries."""
    from typing import get_args, get_type_hints

    from mst.conversion import CODINGS
    from mst.experiments import options
    from mst.measure import COST_MODELS
    from mst.neurons import SCHEDULES
    from mst.quantization.spec import Placement

    assert set(get_args(get_type_hints(CodingOptions)["coding"])) == set(CODINGS)
    assert EnergyOptions().cost_model in COST_MODELS
    assert set(get_args(options.ScheduleName)) == set(SCHEDULES)
    assert set(get_args(options.Placement)) == set(get_args(Placement))
