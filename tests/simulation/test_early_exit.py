"""Early exit: the rules by hand, a run against what a run without exit predicts, calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.simulation import EarlyExit, SimulationResult, exit_point, readouts_of
from mst.simulation.early_exit import ExitTracker
from mst.simulation.exit_calibration import exit_steps
from mst.simulation.loop import run_batches


def watched(early_exit: EarlyExit, readouts: list[list[list[float]]]) -> list[list[bool]]:
    watch = ExitTracker(early_exit)
    return [watch.leaving(t + 1, torch.tensor(readout)).tolist() for t, readout in enumerate(readouts)]


def test_margin_rule_compares_the_two_largest() -> None:
    steps = [[[1.0, 0.5, 0.0], [0.0, 3.0, 1.0]], [[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]
    assert watched(EarlyExit("margin", 1.0), steps) == [[False, True], [True, False]]
    assert watched(EarlyExit("margin", 0.5), steps) == [[True, True], [True, False]]
    assert watched(EarlyExit("margin", 0.5, first_step=2), steps) == [[False, False], [True, False]]


def test_stability_rule_counts_steps_of_the_same_prediction() -> None:
    a, b = [1.0, 0.0], [0.0, 1.0]
    steps = [[a, b], [a, a], [b, a], [b, a], [b, a]]
    assert watched(EarlyExit("stability", 1), steps[:1]) == [[True, True]]
    assert watched(EarlyExit("stability", 3), steps) == [[False, False]] * 3 + [[False, True], [True, True]]
    assert watched(EarlyExit("stability", 2, 4), steps) == [[False, False]] * 3 + [[True, True], [True, True]]


def test_stability_goes_on_counting_when_others_have_left() -> None:
    watch = ExitTracker(EarlyExit("stability", 3))
    a, b = [1.0, 0.0], [0.0, 1.0]
    watch.leaving(1, torch.tensor([a, b, a]))
    watch.keep_images(torch.tensor([False, True, True]))
    watch.leaving(2, torch.tensor([b, b]))
    assert watch.leaving(3, torch.tensor([b, b])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("luck", 1.0), "unknown rule 'luck' for early exit; choose from"),
        (("margin", -0.1), "by margin takes a value of 0 logits or more, got -0.1"),
        (("margin", float("nan")), "by margin takes a value of 0 logits or more, got nan"),
        (("stability", 0.5), "by stability takes a value of 1 step or more, got 0.5"),
        (("margin", 1.0, 0), "first_step must be at least 1, got 0"),
    ],
)
def test_rule_that_cannot_be_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyExit(*arguments)


# -------------------------------------------------------------------------------------------- runs


def network(coding: str) -> mst.SpikingNetwork:
    """Of few neurons with strong weights, so that its answers differ and take their time."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 30), mst.QCFS(16, 1.0, masking_ratio=0.25), nn.Linear(30, 30), mst.QCFS(16, 1.0),
        nn.Linear(30, 30), mst.QCFS(16, 1.0), nn.Linear(30, 3),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.5 / module.in_features**0.5)
    return mst.convert(model.double().eval(), coding, some_images())  # type: ignore[arg-type]


def some_images() -> Tensor:
    return torch.rand(24, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 4 - 1


@pytest.fixture(scope="module", params=["rate", "lossless"])
def whole(request: pytest.FixtureRequest) -> SimulationResult:
    """A run without early exit, its labels those of the ANN for most images."""
    torch.set_num_threads(1)
    snn = network(request.param)
    labels = mst.simulate(snn, some_images(), 40).logits.argmax(1)
    labels[::6] = (labels[::6] + 1) % 3
    return mst.simulate(snn, (some_images(), labels), 40, keep_step_logits=True)


@pytest.mark.parametrize(
    "early_exit",
    [EarlyExit("margin", 0.15), EarlyExit("margin", 0.2, 6), EarlyExit("stability", 5), EarlyExit("stability", 3, 4)],
    ids=str,
)
def test_run_with_early_exit_is_what_the_run_without_it_predicts(
    whole: SimulationResult, early_exit: EarlyExit
) -> None:
    assert whole.labels is not None
    snn = network(whole.coding)
    data = [(some_images()[:10], whole.labels[:10]), (some_images()[10:], whole.labels[10:])]
    done: list[int] = []
    result = mst.simulate(snn, data, 40, early_exit=early_exit, progress=done.append)
    predicted = exit_point(whole, early_exit)
    assert result.mean_steps == pytest.approx(predicted.mean_steps)
    assert len(set(result.steps_taken.tolist())) > 1
    assert result.accuracy is not None
    assert float(result.accuracy[-1]) == pytest.approx(predicted.accuracy)
    assert sum(done) == 24 * 40
    readouts = readouts_of(whole)
    for i, steps in enumerate(result.steps_taken.tolist()):  # masks and neurons of who stays are as if all had stayed
        torch.testing.assert_close(result.logits[i], readouts[steps - 1, i], rtol=0, atol=1e-12)
    assert result.spikes_per_image < whole.spikes_per_image
    for t in range(1, 41):  # accuracy after each step, with those who have left keeping their prediction
        at = result.steps_taken.clamp_max(t)
        hits = readouts[at - 1, torch.arange(24)].argmax(-1) == whole.labels
        assert float(result.accuracy[t - 1]) == pytest.approx(float(hits.double().mean()))


def test_energy_of_early_exit_is_that_of_the_steps_taken(whole: SimulationResult) -> None:
    result = mst.simulate(network(whole.coding), some_images(), 40, early_exit=EarlyExit("margin", 0.3))
    estimate = mst.estimate_energy(result)
    assert estimate.snn_energy_pj_per_step[-1] == pytest.approx(estimate.snn.energy_pj)
    images = [
        run_batches(
            network(whole.coding), [(some_images()[i : i + 1], None)], mst.SimulationOptions(steps), first_image=i
        )
        for i, steps in enumerate(result.steps_taken.tolist())
    ]
    alone = sum(mst.estimate_energy(each).snn.energy_pj for each in images) / 24
    assert estimate.snn.energy_pj == pytest.approx(alone, rel=1e-9)


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
    """Of the stability rules all are tried; so no other of them that is as safe is better."""
    chosen = mst.calibrate_early_exit(whole, "stability", 0.2).chosen
    for value in range(1, 41):
        for first in range(1, 33):
            point = exit_point(whole, EarlyExit("stability", value, first))
            if point.is_within(0.2):
                assert point.mean_steps >= chosen.mean_steps


def test_calibration_is_wary_of_few_images() -> None:
    """The loss that it states, one standard error included, holds for most other images; luck on few is not used."""
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
    for _ in range(5):  # one of 20 images is 0.05, so a loss of 0.01 cannot be told: none is lost
        assert mst.calibrate_early_exit(draw(20), "margin", 0.01).chosen.num_lost == 0


def test_exit_steps_by_hand() -> None:
    scores = torch.tensor([[0.0, 0.0, 9.0], [2.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    longest = torch.tensor([3, 2, 3])
    assert exit_steps(EarlyExit("margin", 1.0), scores, longest).tolist() == [2, 2, 1]
    assert exit_steps(EarlyExit("margin", 1.0, 2), scores, longest).tolist() == [2, 2, 3]
    assert exit_steps(EarlyExit("margin", 1.0, 9), scores, longest).tolist() == [3, 2, 3]


# ------------------------------------------------------------------------------------------ refusals


def test_calibration_of_what_tells_too_little_is_refused(whole: SimulationResult) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_chunk": 4}, "with early exit steps are computed one at a time"),
        ({"keep_step_logits": True}, "an image that has left has no logits"),
        ({"in_slices": True}, "early exit is for still images"),
    ],
)
def test_early_exit_with_options_that_do_not_go_with_it_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.simulate(network("rate"), some_images(), 5, early_exit=EarlyExit("margin", 1.0), **options)


def test_margin_of_a_network_with_one_output_is_refused() -> None:
    snn = mst.convert(mst.QCFS(4, 1.0))
    with pytest.raises(ValueError, match="a margin is between two classes; this network has one output"):
        mst.simulate(snn, torch.rand(3, 1), 5, early_exit=EarlyExit("margin", 1.0), record_operations=False)
