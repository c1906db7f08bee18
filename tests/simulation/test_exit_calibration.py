"""The choice of an early-exit rule from validation images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import mst
from exit_networks import network, some_images, whole_run
from mst.simulation import EarlyExit, SimulationResult, exit_point, readouts_of
from mst.simulation.exit_calibration import exit_steps


@pytest.fixture(scope="module", params=["rate", "lossless"])
def whole(request: pytest.FixtureRequest) -> SimulationResult:
    return whole_run(request.param)


@pytest.mark.parametrize("rule", ["margin", "stability"])
def test_calibration_keeps_the_accuracy_with_fewer_steps(whole: SimulationResult, rule: str) -> None:
    assert whole.accuracy is not None
    exact = mst.calibrate_early_exit(whole, rule, 0.0)  # type: ignore[arg-type]
    lossy = mst.calibrate_early_exit(whole, rule, 0.2)  # type: ignore[arg-type]
    assert exact.full.accuracy == pytest.approx(float(whole.accuracy[-1]))
    assert exact.full.mean_steps == pytest.approx(whole.mean_steps)
    assert exact.full.loss == 0.0
    assert exact.chosen.accuracy >= exact.full.accuracy
    lost = lossy.chosen.num_lost
    assert 0 < lost + lost**0.5 <= 0.2 * 24
    assert lossy.chosen.accuracy == pytest.approx(exact.full.accuracy - lossy.chosen.loss)
    assert lossy.chosen.mean_steps < exact.chosen.mean_steps < exact.full.mean_steps
    assert exit_point(whole, lossy.chosen.early_exit) == lossy.chosen
    steps = [point.mean_steps for point in exact.frontier]
    accuracies = [point.accuracy for point in exact.frontier]
    assert steps == sorted(steps, reverse=True)
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(set(zip(steps, accuracies, strict=True))) == len(steps)


def test_calibration_finds_the_best_there_is(whole: SimulationResult) -> None:
    """All stability rules are tried, so none that is as safe takes fewer steps."""
    chosen = mst.calibrate_early_exit(whole, "stability", 0.2).chosen
    for value in range(1, 41):
        for first in range(1, 33):
            point = exit_point(whole, EarlyExit("stability", value, first))
            if point.is_within(0.2):
                assert point.mean_steps >= chosen.mean_steps


def test_calibration_is_wary_of_few_images() -> None:
    """The stated loss, with one standard error, holds on most other images; chance gains on few images are not used."""
    torch.manual_seed(0)
    num_steps, per_run, exceeded = 12, 100, 0
    right_at = torch.tensor([0.5 + 0.04 * t for t in range(num_steps)])  # accuracy after each step

    def draw(images: int) -> SimulationResult:
        hits = torch.rand(num_steps, images) < right_at[:, None]
        margins = torch.rand(num_steps, images) * (0.2 + 0.8 * hits)
        logits = torch.where(hits, margins, -margins)[..., None] * torch.tensor([1.0, 0.0])
        return replace(empty, num_images=images, step_logits=logits, labels=torch.zeros(images, dtype=torch.int64),
                       steps_taken=torch.full((images,), num_steps))  # fmt: skip

    empty = mst.simulate(network("lossless"), some_images(), num_steps)
    for _ in range(30):
        chosen = mst.calibrate_early_exit(draw(per_run), "margin", 0.05).chosen.early_exit
        exceeded += exit_point(draw(4000), chosen).loss > 0.05 + 0.05
    assert exceeded <= 1
    for _ in range(5):  # one of 20 images is 0.05, so a loss of 0.01 cannot be measured: no image may be lost
        assert mst.calibrate_early_exit(draw(20), "margin", 0.01).chosen.num_lost == 0


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
