"""Early exit: the rules by hand, and runs against the prediction of a run without exit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mst
from exit_networks import network, some_images, whole_run
from mst.simulation import EarlyExit, SimulationResult, exit_point, readouts_of
from mst.simulation.early_exit import ExitTracker
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


def test_stability_keeps_counting_when_other_images_have_left() -> None:
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


@pytest.fixture(scope="module", params=["rate", "lossless"])
def whole(request: pytest.FixtureRequest) -> SimulationResult:
    return whole_run(request.param)


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
    for i, steps in enumerate(
        result.steps_taken.tolist()
    ):  # masks and neurons of the remaining images are as if all had stayed
        torch.testing.assert_close(result.logits[i], readouts[steps - 1, i], rtol=0, atol=1e-12)
    assert result.spikes_per_image < whole.spikes_per_image
    for t in range(1, 41):  # accuracy after each step; images that have left keep their prediction
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


# ------------------------------------------------------------------------------------------ refusals


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
