"""Lossless coding, early exit and the comparison of codings, as users of the command meet them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mst
from failing import fails
from mst.cli.main import main
from mst.experiments.spiking_run import set_aside
from mst.neurons import SCHEDULES, begin_run, running
from small_runs import TINY_MST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    short = ["--train.epochs", "3", "--train.learning-rate", "1e-2", "--train.eval-batch-size", "360"]
    assert main(["train", "--output", str(folder), *TINY_MST, "--train-images", "720", *short]) == 0
    return str(folder / "last.safetensors")


def run(verb: str, checkpoint: str, output: Path, *arguments: str) -> dict[str, Any]:
    assert main([verb, checkpoint, "--output", str(output), *arguments]) == 0
    name = {"simulate": "simulation", "measure": "measurement", "compare": "codings"}[verb]
    content: dict[str, Any] = json.loads((output / f"{name}.json").read_text())
    return content


@pytest.mark.usefixtures("rendered_figures")
def test_simulate_lossless_ends_at_the_anns_accuracy(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("simulate", checkpoint, tmp_path, "--coding", "lossless", "--burst", "4", "--max-images", "50")
    said = " ".join(capsys.readouterr().out.split())
    assert "50 of 50 images have settled: their logits are the ANN's, after" in said
    assert "Their answers and their ANN's: 50 of 50 equal; a logit differs by" in said
    assert "times the" in said
    assert result["coding"] == "lossless"
    assert result["accuracy"][-1] == result["ann_accuracy"]
    assert result["settled"]["images"] == 50
    assert result["settled"]["most_steps"] < 64
    assert result["mean_steps"] == pytest.approx(result["settled"]["mean_steps"])
    assert result["options"] == {
        "coding": "lossless", "burst": 4, "schedule": None, "resting_images": 0, "input_steps": 1,
    }  # fmt: skip
    assert result["spikes_per_image_after_step"][-1] == pytest.approx(result["spikes_per_image"])
    assert result["quanta_per_image"] > 0


def test_simulate_settled_gives_the_accuracy_without_a_simulation(
    checkpoint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", checkpoint, "--settled", "--max-images", "50", "--output", str(tmp_path)]
    assert main([*words, "--coding", "lossless", "--schedule", "free"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    found = json.loads((tmp_path / "settled.json").read_text())
    assert f"top-1 {100 * found['snn_accuracy']:.2f} %" in said
    assert f"at least {found['least_spikes_per_image']:,.0f} spikes per image" in said
    opened = mst.open_checkpoint(mst.CheckpointOptions(Path(checkpoint), max_images=50))
    assert found["snn_accuracy"] == mst.run_evaluation(opened).evaluation.accuracy
    assert (tmp_path / "run_record.json").is_file()
    assert "leave --settled out, or choose --coding lossless" in fails(words, capfd)
    assert "early_exit has no effect" in fails([*words, "--coding", "lossless", "--early-exit", "margin"], capfd)


@pytest.mark.parametrize(
    "options",
    [
        ["--schedule", "free", "--max-powers", "2"],
        ["--schedule", "staggered"],
        ["--input-steps", "5"],
        ["--resting-images", "40"],
    ],
    ids=" ".join,
)
def test_simulate_options_of_lossless_coding_act(checkpoint: str, tmp_path: Path, options: list[str]) -> None:
    common = ["--coding", "lossless", "--burst", "2", "--max-images", "20"]
    usual = run("simulate", checkpoint, tmp_path / "a", *common)
    other = run("simulate", checkpoint, tmp_path / "b", *common, *options)
    assert usual["spikes_per_image"] != other["spikes_per_image"]
    assert usual["accuracy"][-1] == usual["ann_accuracy"]
    assert other["accuracy"][-1] == other["ann_accuracy"]
    if "--resting-images" in options:
        assert other["spikes_per_image"] < usual["spikes_per_image"]


def test_simulate_masked_lossless_is_the_ann_under_the_same_masks(checkpoint: str, tmp_path: Path) -> None:
    batches = ["--max-images", "80", "--batch-size", "33"]
    arguments = ["--coding", "lossless", "--burst", "4", "--masking-ratio", "0.5", *batches]
    result = run("simulate", checkpoint, tmp_path, *arguments)
    assert result["settled"]["images"] == 80
    assert result["accuracy"][-1] == result["ann_accuracy"]


@pytest.mark.parametrize("ratio", [0.0, 0.75])
def test_trained_weights_settle_to_the_ann_in_float64(checkpoint: str, ratio: float) -> None:
    model = mst.mask_spikes(mst.load_checkpoint(checkpoint).double(), ratio, "attention")
    digits = mst.load_dataset("digits", img_size=8).test
    images = torch.stack([digits[i][0] for i in range(30)]).double()
    with torch.no_grad(), running(begin_run(model, batch_size=30)):
        expected = model(images)
    for schedule in SCHEDULES:
        snn = mst.convert(model, "lossless", schedule=schedule, burst=2)
        result = mst.simulate(snn, images, 100, record_operations=False)
        assert result.num_settled == 30
        assert (result.logits - expected).abs().max().item() < 1e-9


@pytest.mark.parametrize("coding", ["rate", "lossless"])
@pytest.mark.parametrize("rule", ["margin", "stability"])
def test_simulate_with_early_exit_takes_fewer_steps(
    checkpoint: str, tmp_path: Path, rule: str, coding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--coding",
        coding,
        "--early-exit",
        rule,
        "--exit.loss",
        "5",
        "--time-steps",
        "32",
        "--max-images",
        "90",
    ]
    result = run("simulate", checkpoint, tmp_path, *arguments)
    captured = capsys.readouterr()
    assert "72 of 360 test images, drawn at random, are for validation; 90 others are reported on" in captured.err
    assert "Steps per image with early exit" in captured.out
    assert f"Early exit: {rule} of" in captured.out
    promise = "at most 5 points of accuracy with 95 % confidence over the draw of 72 validation images"
    assert promise in " ".join(captured.out.split())
    assert result["num_images"] == 90
    assert result["early_exit"]["rule"] == rule
    calibration = result["early_exit_calibration"]
    assert (calibration["num_images"], calibration["num_tested_images"], calibration["confidence"]) == (72, 65, 0.95)
    assert calibration["p_value"] <= 0.05
    assert calibration["chosen"]["mean_steps"] < calibration["full"]["mean_steps"]
    assert result["mean_steps"] < calibration["full"]["mean_steps"]


def test_simulate_with_a_fixed_rule_sets_no_images_aside(checkpoint: str, tmp_path: Path) -> None:
    arguments = ["--early-exit", "stability", "--exit.value", "3", "--exit.first-step", "4", "--time-steps", "20"]
    result = run("simulate", checkpoint, tmp_path, *arguments)
    assert result["num_images"] == 360
    assert result["early_exit"] == {"rule": "stability", "value": 3.0, "first_step": 4}
    assert 4 <= result["mean_steps"] < 20


def test_validation_images_are_drawn_at_random_and_not_reported_on(checkpoint: str) -> None:
    """The last images of a data set that is in order of its writers are not a sample of it."""
    opened = mst.open_checkpoint(mst.CheckpointOptions(Path(checkpoint), max_images=50, device="cpu"))
    reported, validation = set_aside(opened, 72)
    aside, left = validation.indices, reported.images.indices  # type: ignore[attr-defined]
    assert set_aside(opened, 72)[1].indices == aside  # type: ignore[attr-defined]
    assert aside == sorted(set(aside))
    assert len(aside) == 72
    assert left == [index for index in range(360) if index not in aside][:50]
    assert [sum(index // 90 == quarter for index in aside) for quarter in range(4)] == pytest.approx([18] * 4, abs=9)
    assert reported.num_images == 50


EXITS = ["--early-exit", "margin", "--max-images", "5", "--coding", "lossless", "--burst", "4", "--time-steps", "30"]


def test_promise_that_too_few_images_can_show_is_refused_at_once_with_remedies_that_work(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["simulate", checkpoint, "--output", str(tmp_path), "--device", "cpu", *EXITS]
    assert main([*command, "--exit.loss", "2", "--exit.validation-images", "50"]) != 0
    error = " ".join(capsys.readouterr().err.split())
    assert "a loss of at most 2 points with 95 % confidence takes at least 165 validation images" in error
    assert "even if none of them is lost; there are 50" in error
    assert "give --exit.validation-images 165 or more of the 360 test images, or allow --exit.loss 6.5 or more" in error
    assert "simulating" not in error
    run("simulate", checkpoint, tmp_path, *EXITS, "--exit.loss", "2", "--exit.validation-images", "165")
    run("simulate", checkpoint, tmp_path, *EXITS, "--exit.loss", "6.5", "--exit.validation-images", "50")
    assert main([*command, "--exit.loss", "0"]) != 0
    assert "no number of images can show a loss of at most 0 points" in " ".join(capsys.readouterr().err.split())


def test_confidence_of_early_exit_acts_and_is_checked(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--exit.loss", "2", "--exit.validation-images", "40"]
    result = run("simulate", checkpoint, tmp_path, *EXITS, *options, "--exit.confidence", "0.5")
    assert result["early_exit_calibration"]["confidence"] == 0.5
    command = ["simulate", checkpoint, "--output", str(tmp_path), "--device", "cpu", *EXITS]
    assert main([*command, "--exit.confidence", "95"]) != 0
    assert "confidence is a probability from 0.5 to below 1, got 95" in capsys.readouterr().err
    assert main([*command, "--exit.value", "1", "--exit.confidence", "0.9"]) != 0
    assert "remove --exit.confidence" in capsys.readouterr().err


def test_measure_lossless_prices_changes(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--max-images", "20", "--time-steps", "64"]
    rate = run("measure", checkpoint, tmp_path / "r", *common)
    lossless = run("measure", checkpoint, tmp_path / "l", *common, "--coding", "lossless", "--burst", "4")
    assert lossless["energy_pj"]["ann"] == rate["energy_pj"]["ann"]
    assert lossless["energy_pj"]["snn"] < rate["energy_pj"]["snn"]
    assert (
        "changes of" in capsys.readouterr().out
    )  # the sites that drive an operation; their names may continue on the next line
    assert any("what has changed" in line for line in lossless["assumptions"])
    assert not any("what has changed" in line for line in rate["assumptions"])
    for figure in ("energy_pj", "num_macs", "num_acs"):
        assert sum(row["snn"][figure] for row in lossless["operations"].values()) == pytest.approx(
            lossless[figure]["snn"]
        )
    exits = ["--early-exit", "stability", "--exit.value", "3"]
    early = run("measure", checkpoint, tmp_path / "e", *common, *exits)
    assert early["energy_pj"]["snn"] < rate["energy_pj"]["snn"]
    assert early["mean_steps"] < 64


def test_compare_puts_codings_into_one_table_and_two_figures(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--time-steps", "32", "--max-images", "12", "--validation-images", "12"]
    kinds = ["--bursts", "[2, 4]", "--input-steps", "[1, 3]", "--schedules", "[weighted]", "--resting-images", "20"]
    result = run("compare", checkpoint, tmp_path, *few, *kinds)
    labels = [row["coding"] for row in result["rows"]]
    assert labels == ["rate"] + [
        f"lossless, weighted, {rest}{spread}burst {burst}"
        for rest in ("", "from rest, ")
        for spread in ("", "input over 3 steps, ")
        for burst in (2, 4)
    ]
    for row in result["rows"][1:]:
        assert row["accuracy"] == result["ann"]["accuracy"]
        assert row["agreement_with_ann"] == 1.0
        assert row["settled_images"] == 12
        assert row["within"]["0.1"]["steps"] <= row["steps"]
        assert row["spikes_per_quantum"] == pytest.approx(row["spikes"] / result["ann"]["quanta"])
        assert {each["rule"] for each in row["early_exit"]} == {"margin", "stability"}
    assert result["rows"][0]["steps"] == 32
    table = (tmp_path / "codings.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert table.count("| rate |") == 4
    assert "| energy, times the ANN's |" in table
    for name in ("codings.png", "early_exit.png"):
        assert (tmp_path / name).is_file()
    record = json.loads((tmp_path / "run_record.json").read_text())
    assert record["verb"] == "compare"
    assert set(record["results"]) == set(labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--burst", "2"], "burst has no effect under rate coding; it belongs to lossless"),
        (["simulate", "--schedule", "plain"], "has no effect under rate coding; it belongs to lossless coding"),
        (["simulate", "--input-steps", "2"], "has no effect under rate coding; it belongs to lossless coding"),
        (["simulate", "--resting-images", "9"], "has no effect under rate coding; it belongs to lossless coding"),
        (["simulate", "--coding", "lossless", "--resting-images", "-1"], "resting_images must be 0"),
        (["simulate", "--coding", "lossless", "--burst", "0"], "spikes per neuron per step, at least 1, got 0"),
        (
            ["simulate", "--coding", "lossless", "--input-steps", "65"],
            "input_steps must be from 1 to the 64 time steps",
        ),
        (["simulate", "--exit.loss", "1"], "options of early exit have no effect without --early-exit"),
        (["simulate", "--early-exit", "margin", "--exit.loss", "100"], "in points of accuracy, from 0 to below 100"),
        (["simulate", "--early-exit", "margin", "--exit.value", "-1"], "takes a value of 0 logits or more"),
        (["simulate", "--early-exit", "margin", "--exit.first-step", "3"], "first_step has no effect without a value"),
        (
            ["simulate", "--early-exit", "margin", "--exit.value", "1", "--exit.validation-images", "3"],
            "--exit.value fixes the rule; remove --exit.validation-images",
        ),
        (
            ["simulate", "--early-exit", "margin", "--exit.value", "1", "--exit.loss", "3"],
            "--exit.value fixes the rule; remove --exit.loss",
        ),
        (
            ["simulate", "--early-exit", "margin", "--exit.value", "1", "--exit.first-step", "65"],
            "early exit can never trigger within 64 time steps",
        ),
        (
            ["simulate", "--early-exit", "stability", "--exit.value", "65"],
            "early exit can never trigger within 64 time steps",
        ),
        (["simulate", "--early-exit", "margin", "--exit.validation-images", "0"], "must be at least 1, got 0"),
        (["simulate", "--early-exit", "margin", "--exit.validation-images", "360"], "cannot be split into 360"),
        (["simulate", "--early-exit", "margin", "--steps-per-chunk", "4"], "early exit computes steps one at a time"),
        (["compare", "--rate", "false", "--bursts", "[]"], "there is nothing to compare"),
        (["compare", "--bursts", "[0]"], "spikes per neuron per step, at least 1, got 0"),
        (["compare", "--time-steps", "0"], "must be at least 1, got 0"),
        (["compare", "--input-steps", "[0]"], "input_steps must be from 1"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_options_that_do_not_go_together_are_refused_in_one_line(
    checkpoint: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """They are refused at once, before anything is computed."""

    def not_yet(*args: object, **kwargs: object) -> None:
        raise AssertionError("too late")

    for function in ("evaluate", "simulate"):
        monkeypatch.setattr(f"mst.experiments.spiking_run.{function}", not_yet)
    verb, *options = arguments
    assert message in fails([verb, checkpoint, "--output", str(tmp_path), "--max-images", "8", *options], capfd)


def test_images_that_have_not_settled_are_reported(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("simulate", checkpoint, tmp_path, "--coding", "lossless", "--time-steps", "3", "--max-images", "5")
    said = " ".join(capsys.readouterr().out.split())
    assert "5 of 5 images have not settled in 3 steps; give them more with --time-steps (the proof allows up to" in said
    assert "their logits are the ANN's" not in said
    assert result["settled"] == {"images": 0, "mean_steps": None, "most_steps": None}


def test_unknown_coding_schedule_and_rule_are_wrong_command_lines(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--coding", "phase"), ("--schedule", "fast"), ("--early-exit", "luck")):
        assert main(["simulate", checkpoint, option, value]) == 2
        assert value in capsys.readouterr().err
