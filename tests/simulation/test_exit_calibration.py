"""The choice of an early-exit rule from validation images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import mst
from exit_networks import network, some_images, whole_run
from mst.simulation import (
    EarlyExit,
    ExitRule,
    SimulationResult,
    exit_point,
    images_needed_to_calibrate,
    least_loss,
    readouts_of,
    too_few_images,
)
from mst.simulation.exit_calibration import exit_steps
from mst.simulation.risk_control import p_value


@pytest.fixture(scope="module", params=["rate", "lossless"])
def whole(request: pytest.FixtureRequest) -> SimulationResult:
    return whole_run(request.param)


@pytest.mark.parametrize("rule", ["margin", "stability"])
def test_calibration_states_what_it_promises_and_why(whole: SimulationResult, rule: ExitRule) -> None:
    found = mst.calibrate_early_exit(whole, rule, 0.3, confidence=0.9)
    assert (found.accuracy_loss, found.confidence, found.num_images, found.num_tested_images) == (0.3, 0.9, 24, 22)
    passed = [test for test in found.tested if test.p_value <= 1 - 0.9]
    assert found.tested[: len(passed)] == tuple(passed)
    assert len(found.tested) <= len(passed) + 1  # it stops at the first rule that fails
    assert found.p_value in [test.p_value for test in passed if test.early_exit == found.chosen.early_exit]
    for test in found.tested:
        assert test.p_value == p_value(test.num_lost, 22, 0.3)
        assert test.num_lost <= exit_point(whole, test.early_exit).num_lost <= test.num_lost + 2
    assert exit_point(whole, found.chosen.early_exit) == found.chosen
    assert found.chosen.mean_steps == min(exit_point(whole, test.early_exit).mean_steps for test in passed)
    assert found.chosen.mean_steps < found.full.mean_steps == pytest.approx(whole.mean_steps)
    assert whole.accuracy is not None
    assert found.full.accuracy == pytest.approx(float(whole.accuracy[-1]))
    assert found.full.loss == 0.0


def test_frontier_falls_in_accuracy_and_in_steps(whole: SimulationResult) -> None:
    frontier = mst.calibrate_early_exit(whole, "margin", 0.3).frontier
    steps = [point.mean_steps for point in frontier]
    accuracies = [point.accuracy for point in frontier]
    assert steps == sorted(steps, reverse=True)
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(set(zip(steps, accuracies, strict=True))) == len(steps) > 2


@pytest.mark.parametrize("rule", ["margin", "stability"])
def test_too_few_images_take_all_steps_and_the_number_needed_is_reported(
    whole: SimulationResult, rule: ExitRule, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="mst.notes"):
        found = mst.calibrate_early_exit(whole, rule, 0.05)
    assert "takes at least 65 validation images, even if none of them is lost; there are 24" in caplog.text
    assert (found.chosen, found.p_value, found.tested, found.images_needed) == (found.full, None, (), 65)
    never = found.chosen.early_exit
    assert exit_point(whole, never) == found.full
    again = mst.simulate(network(whole.coding), some_images(), 40, early_exit=never)
    assert torch.equal(again.steps_taken, whole.steps_taken)


def test_loss_of_zero_is_a_promise_that_only_all_steps_keep(whole: SimulationResult) -> None:
    found = mst.calibrate_early_exit(whole, "margin", 0.0)
    assert (found.chosen, found.images_needed) == (found.full, None)


@pytest.mark.parametrize("num_images", [2, 3, 9, 10, 11, 64, 65, 100])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_least_loss_and_images_needed_agree(num_images: int, confidence: float) -> None:
    least = least_loss(num_images, confidence)
    assert too_few_images(num_images, 1.001 * least, confidence) == ""
    assert too_few_images(num_images, 0.999 * least, confidence) != ""
    needed = images_needed_to_calibrate(0.999 * least, confidence)
    assert needed is not None
    assert num_images < needed <= num_images + 2


def drawn(images: int, like: SimulationResult, generator: torch.Generator) -> SimulationResult:
    """A run of images that are right with a probability that grows with the step, and a margin that says little."""
    steps = 8
    right_from = torch.randint(0, 4 * steps, (images,), generator=generator) % (steps + steps // 2)
    hits = torch.arange(steps)[:, None] >= right_from
    margins = torch.rand(steps, images, generator=generator) * (0.3 + hits)
    logits = torch.where(hits, margins, -margins)[..., None] * torch.tensor([1.0, 0.0])
    return replace(like, num_images=images, num_steps=steps, step_logits=logits, labels=torch.zeros(images).long(),
                   steps_taken=torch.full((images,), steps))  # fmt: skip


def test_promise_is_kept_with_the_stated_confidence() -> None:
    """At a low confidence, so that few draws show whether it is kept."""
    generator = torch.Generator().manual_seed(0)
    like = mst.simulate(network("lossless"), some_images(), 8)
    population = drawn(4000, like, generator)
    trials = 30
    found = [mst.calibrate_early_exit(drawn(50, like, generator), "margin", 0.1, confidence=0.8) for _ in range(trials)]
    points = [exit_point(population, calibration.chosen.early_exit) for calibration in found]
    assert sum(point.num_lost > 0.1 * 4000 for point in points) <= 0.2 * trials
    assert sum(point.mean_steps < 8 for point in points) >= 0.5 * trials


def test_exit_steps_by_hand() -> None:
    scores = torch.tensor([[0.0, 0.0, 9.0], [2.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    longest = torch.tensor([3, 2, 3])
    assert exit_steps(EarlyExit("margin", 1.0), scores, longest).tolist() == [2, 2, 1]
    assert exit_steps(EarlyExit("margin", 1.0, 2), scores, longest).tolist() == [2, 2, 3]
    assert exit_steps(EarlyExit("margin", 1.0, 9), scores, longest).tolist() == [3, 2, 3]


def test_calibration_without_labels_logits_or_all_steps_is_refused(whole: SimulationResult) -> None:
    with pytest.raises(ValueError, match="needs labelled images and keep_step_logits=True"):
        mst.calibrate_early_exit(replace(whole, step_logits=None), "margin", 0.1)
    with pytest.raises(ValueError, match="needs labelled images and keep_step_logits=True"):
        mst.calibrate_early_exit(replace(whole, labels=None), "margin", 0.1)
    with pytest.raises(ValueError, match="needs labelled images"):
        exit_point(replace(whole, labels=None), EarlyExit("margin", 1.0))
    with pytest.raises(ValueError, match="needs all steps of every image"):
        mst.calibrate_early_exit(replace(whole, early_exit=EarlyExit("margin", 1.0)), "margin", 0.1)
    with pytest.raises(ValueError, match="the logits of the steps were not kept"):
        readouts_of(replace(whole, step_logits=None))
    for loss in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"accuracy_loss is a fraction in \[0, 1\)"):
            mst.calibrate_early_exit(whole, "margin", loss)
    with pytest.raises(ValueError, match="confidence is a probability from 0.5 to below 1"):
        mst.calibrate_early_exit(whole, "margin", 0.1, confidence=95)
