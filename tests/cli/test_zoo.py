"""`mst zoo` and zoo:NAME in place of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mst.cli.main import main
from mst.experiments import check_zoo
from mst.experiments.zoo_check import step_and_coding_options
from mst.zoo import ZooCard, cards


def test_zoo_lists_networks_and_shows_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in cards())
    assert main(["zoo", "zoo:digits-mst"]) == 0
    shown = capsys.readouterr().out
    assert "mst train --config digits-mst" in shown
    assert cards()["digits-mst"].sha256 in shown


@pytest.mark.parametrize("words", [["zoo", "--check"], ["zoo", "digits-mts"]])
def test_zoo_refuses_what_it_cannot_show(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.fixture
def short_card(monkeypatch: pytest.MonkeyPatch) -> ZooCard:
    """The card of the digits with one run of few images, as it is measured."""
    card = cards()["digits-mst"]
    few = replace(card, runs=(replace(card.runs[-1], images=20),))
    monkeypatch.setattr("mst.experiments.zoo_check.card", lambda name: few)
    measured = check_zoo("digits-mst")
    assert measured.accuracy == pytest.approx(card.accuracy, abs=1e-6)
    return replace(few, runs=measured.runs)


def test_check_passes_and_names_each_figure_that_differs(
    short_card: ZooCard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mst.experiments.zoo_check.card", lambda name: short_card)
    assert main(["zoo", "digits-mst", "--check"]) == 0
    assert "All figures are as on the card" in capsys.readouterr().out
    wrong = replace(short_card, runs=(replace(short_card.runs[0], spikes_per_neuron=0.5),))
    monkeypatch.setattr("mst.experiments.zoo_check.card", lambda name: wrong)
    assert main(["zoo", "digits-mst", "--check"]) == 1
    assert "spikes_per_neuron" in capsys.readouterr().err


def test_options_of_cards_are_options_of_measure() -> None:
    for card in cards().values():
        for run in card.runs:
            steps, coding = step_and_coding_options(run.options)
            assert steps.time_steps == run.options["time_steps"]
            assert coding.coding == run.options.get("coding", "rate")


def test_evaluate_takes_a_zoo_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "zoo:digits-mst", "--output", str(tmp_path)]) == 0
    assert f"top-1 {100 * cards()['digits-mst'].accuracy:.2f} %" in capsys.readouterr().out


def test_name_of_the_zoo_without_its_prefix_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "digits-mst"]) == 1
    line = capsys.readouterr().err
    assert "no such checkpoint: digits-mst; did you mean zoo:digits-mst" in line
    assert line.count("\n") == 1  # nor an empty line of a bar that was not shown
