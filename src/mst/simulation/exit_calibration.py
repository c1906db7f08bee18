"""Early exit chosen from validation images, so that a promise about its accuracy is kept with a stated confidence.

The promise is about images that the full run classifies correctly and early exit does not: *lost* images. Their share
of all images is at least the loss of accuracy, because images that early exit wins are not set against them. A rule
is chosen in two steps (see `risk_control` for the proof of the second):

1. A tenth of the images, drawn at random, fixes an order: the thresholds to try, from the safest to the boldest, and
   the first step at which images may leave.
2. The other images test the rules in this order, until one fails.

Letters: T steps, N images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from mst.errors import InputError
from mst.text import note

from .early_exit import EarlyExit, ExitRule, Streak, margin
from .readout import readouts_of
from .result import SimulationResult
from .risk_control import DEFAULT_CONFIDENCE, check_confidence, images_needed, least_rate, p_value


@dataclass(frozen=True)
class ExitPoint:
    """Effect of a rule on some images."""

    early_exit: EarlyExit
    """The rule."""

    accuracy: float
    """A fraction of all images."""

    mean_steps: float
    """Steps per image."""

    num_lost: int
    """Images that all steps get right and the rule gets wrong."""

    num_won: int
    """Images that the rule gets right and all steps get wrong."""

    num_images: int
    """All images."""

    @property
    def loss(self) -> float:
        """Accuracy lost against all steps, a fraction; below 0 where leaving early is right more often."""
        return (self.num_lost - self.num_won) / self.num_images


@dataclass(frozen=True)
class ExitTest:
    """Test of one rule against "it loses more than the allowed share of all images"."""

    early_exit: EarlyExit
    """The rule."""

    num_lost: int
    """Images lost, of those that it was tested on."""

    p_value: float
    """Probability of so few, or fewer, if the share of lost images were the allowed one."""


@dataclass(frozen=True)
class ExitCalibration:
    """The rule chosen, and the tests that it was chosen by."""

    chosen: ExitPoint
    """Of the rules that passed, the one of fewest steps, and its effect on all images; `full` if none passed."""

    full: ExitPoint
    """Every image takes all its steps."""

    frontier: tuple[ExitPoint, ...]
    """The rules of fewest steps, by falling accuracy; a description of these images, without any promise."""

    accuracy_loss: float
    """Allowed loss α, a fraction."""

    num_images: int
    """Images given; a tenth of them fixed the order of the rules."""

    confidence: float
    """Probability, over the draw of the images, with which the chosen rule loses at most `accuracy_loss`."""

    num_tested_images: int
    """Images that the rules were tested on."""

    p_value: float | None
    """That of the chosen rule; None if every image takes all its steps, which loses nothing."""

    tested: tuple[ExitTest, ...]
    """The rules tested, in order; all passed but, where the boldest was not reached, the last."""

    images_needed: int | None
    """Fewest images from which any rule can pass, if none is lost; None for a loss of 0, which no number can show."""


def calibrate_early_exit(
    result: SimulationResult, rule: ExitRule, accuracy_loss: float, confidence: float = DEFAULT_CONFIDENCE
) -> ExitCalibration:
    """Choose value and first step of a rule so that it loses at most a stated accuracy, with a stated confidence.

    Args:
        result: of labelled images that are neither trained on nor reported on, all steps, with keep_step_logits=True.
            They must be a random sample of the images that the promise is about.
        rule: "margin" or "stability".
        accuracy_loss: α, allowed loss of accuracy against all steps, a fraction (0.005 is 0.5 points).
        confidence: probability, over the draw of the images, that the promise is kept, from 0.5 to below 1.

    Returns:
        The boldest rule for which a share of lost images above α is refuted (see `ExitCalibration`). Where the images
        are too few for any rule, every image takes all its steps, and a note says how many images it takes.

    Raises:
        InputError: no step logits or labels, images that left early, a loss outside [0, 1), or a confidence outside
            [0.5, 1).

    Limits: the promise is for one rule and one loss. To choose between m calibrations by their steps, give each a
    confidence of 1 - (1 - confidence)/m.

    Source: Angelopoulos et al., "Learn then Test" (2021), split fixed-sequence testing.
    """
    (calibration,) = calibrate_early_exits(result, rule, (accuracy_loss,), confidence)
    few = too_few_images(result.num_images, accuracy_loss, confidence)
    if few:
        note(f"early exit: {few}; every image takes all its steps")
    return calibration


def calibrate_early_exits(
    result: SimulationResult,
    rule: ExitRule,
    accuracy_losses: Sequence[float],
    confidence: float = DEFAULT_CONFIDENCE,
) -> list[ExitCalibration]:
    """`calibrate_early_exit` for several losses, in the time of one, without a note where images are too few.

    Each of the promises is kept with this confidence, not all of them at once.
    """
    if result.step_logits is None or result.labels is None:
        raise InputError("calibrating early exit needs labelled images and keep_step_logits=True")
    if result.early_exit is not None:
        raise InputError("calibrating early exit needs all steps of every image", remedy="simulate without early_exit")
    for loss in accuracy_losses:
        if not 0 <= loss < 1:
            raise InputError(f"accuracy_loss is a fraction in [0, 1), got {loss}")
    check_confidence(confidence)
    candidates = _Candidates(result, rule)
    return [_calibration(candidates, loss, confidence) for loss in accuracy_losses]


def images_needed_to_calibrate(accuracy_loss: float, confidence: float = DEFAULT_CONFIDENCE) -> int | None:
    """Fewest images from which `calibrate_early_exit` can choose a rule, if none is lost; None for a loss of 0."""
    tested = images_needed(accuracy_loss, confidence)
    return None if tested is None else tested + max(1, (tested - 1) // 9)


def too_few_images(num_images: int, accuracy_loss: float, confidence: float = DEFAULT_CONFIDENCE) -> str:
    """A sentence that tells how many images calibration needs, where `num_images` are too few for any rule; else ""."""
    needed = images_needed_to_calibrate(accuracy_loss, confidence)
    promise = f"a loss of at most {100 * accuracy_loss:g} points with {100 * confidence:g} % confidence"
    if needed is None:
        return f"no number of images can show {promise}"
    if num_images >= needed:
        return ""
    return (
        f"{promise} takes at least {needed:,} validation images, even if none of them is lost; there are {num_images:,}"
    )


def least_loss(num_images: int, confidence: float = DEFAULT_CONFIDENCE) -> float:
    """Smallest loss, a fraction, at which `calibrate_early_exit` can choose a rule from this many images.

    Raises:
        InputError: fewer than 2 images.
    """
    if num_images < 2:
        raise InputError(f"calibrating early exit needs at least 2 images, got {num_images}")
    return least_rate(num_images - _num_choosing(num_images), confidence)


def exit_point(result: SimulationResult, early_exit: EarlyExit) -> ExitPoint:
    """The effect that a rule would have on the images of a run without it, whose step logits were kept.

    Raises:
        InputError: no step logits or labels.
    """
    if result.labels is None:
        raise InputError("the accuracy of early exit needs labelled images")
    readouts = readouts_of(result)
    scores = _scores(early_exit.rule, readouts)
    steps = exit_steps(early_exit, scores, result.steps_taken)
    hits, everything = readouts.argmax(dim=-1) == result.labels, torch.arange(result.num_images)
    return _points([early_exit], steps[None], hits, result.steps_taken, everything)[0]


def exit_steps(early_exit: EarlyExit, scores: Tensor, longest: Tensor) -> Tensor:
    """int64 [N]: steps that each image takes, given its score after each step [T, N] and its steps without the rule."""
    first = early_exit.first_step
    return _exits(scores, early_exit.value, longest)[first - 1] if first <= len(scores) else longest


def _scores(rule: ExitRule, readouts: Tensor) -> Tensor:
    """[T, N]: the number that a rule compares with its value after each step."""
    if rule == "margin":
        return margin(readouts)
    streak = Streak()
    return torch.stack([streak.after(readout) for readout in readouts]).to(readouts.dtype)


def _num_choosing(num_images: int) -> int:
    """Images that fix the order of the rules: a tenth, at least 1."""
    return max(1, num_images // 10)


class _Candidates:
    """The rules to choose from, by first step and from the safest to the boldest value, and their effects."""

    def __init__(self, result: SimulationResult, rule: ExitRule) -> None:
        assert result.labels is not None
        longest, num_images = result.steps_taken, result.num_images
        readouts = readouts_of(result)[: int(longest.max())]
        hits, scores = readouts.argmax(dim=-1) == result.labels, _scores(rule, readouts)
        drawn = torch.randperm(num_images, generator=torch.Generator().manual_seed(0))
        parts = drawn[: _num_choosing(num_images)], drawn[_num_choosing(num_images) :], torch.arange(num_images)
        never = EarlyExit(rule, float(rule == "stability"), result.num_steps)
        self.num_tested_images = len(parts[1])
        (self.full,) = _points([never], longest[None], hits, longest, parts[2])
        first_steps = sorted({*range(1, min(len(scores), 32) + 1), *range(32, len(scores) + 1, 8)})
        self.by_first_step: dict[int, list[tuple[ExitPoint, ...]]] = {first: [] for first in first_steps}
        """Effects of each rule on the images that fix the order, on those that test it, and on all."""
        for value in _values(rule, scores[:, parts[0]]):
            steps = _exits(scores, value, longest)[[first - 1 for first in first_steps]]
            rules = [EarlyExit(rule, value, first) for first in first_steps]
            effects = zip(*(_points(rules, steps, hits, longest, part) for part in parts), strict=True)
            for first, effect in zip(first_steps, effects, strict=True):
                self.by_first_step[first].append(effect)

    def in_order(self, accuracy_loss: float) -> list[tuple[ExitPoint, ExitPoint]]:
        """The rules of one first step, the one that promises the fewest steps, as (testing, everywhere)."""

        def fewest_steps(first: int) -> float:
            promising = takewhile(lambda rule: _is_promising(rule[0], accuracy_loss), self.by_first_step[first])
            return min((choosing.mean_steps for choosing, _, _ in promising), default=torch.inf)

        first = min(self.by_first_step, key=fewest_steps)
        return [(testing, everywhere) for _, testing, everywhere in self.by_first_step[first]]


def _calibration(candidates: _Candidates, accuracy_loss: float, confidence: float) -> ExitCalibration:
    tests: list[ExitTest] = []
    chosen, chosen_by, num_images = candidates.full, None, candidates.num_tested_images
    order = candidates.in_order(accuracy_loss)
    if too_few_images(candidates.full.num_images, accuracy_loss, confidence):
        order = []
    for testing, everywhere in order:
        tests.append(
            ExitTest(testing.early_exit, testing.num_lost, p_value(testing.num_lost, num_images, accuracy_loss))
        )
        if tests[-1].p_value > 1 - confidence:
            break
        if everywhere.mean_steps < chosen.mean_steps:
            chosen, chosen_by = everywhere, tests[-1].p_value
    everything = [rule[-1] for rules in candidates.by_first_step.values() for rule in rules]
    return ExitCalibration(
        chosen, candidates.full, tuple(_frontier([*everything, candidates.full])), accuracy_loss,
        candidates.full.num_images, confidence, num_images, chosen_by, tuple(tests),
        images_needed_to_calibrate(accuracy_loss, confidence),
    )  # fmt: skip


def _is_promising(point: ExitPoint, accuracy_loss: float) -> bool:
    """True if the lost images plus one standard error are within this fraction, or none is lost. Proves nothing."""
    return point.num_lost == 0 or point.num_lost + point.num_lost**0.5 <= accuracy_loss * point.num_images + 1e-9


def _values(rule: ExitRule, scores: Tensor) -> list[float]:
    """Values of a rule from the safest to the boldest; margins are spread as in `scores`."""
    if rule == "stability":
        return [float(value) for value in range(len(scores), 0, -1)]
    sample = scores.flatten()[:: max(1, scores.numel() // 100_000)].double()
    quantiles = torch.quantile(sample, torch.linspace(1, 0, 65, dtype=torch.float64))
    return quantiles.clamp_min(0).tolist()


def _exits(scores: Tensor, value: float, longest: Tensor) -> Tensor:
    """int64 [T, N]: steps that each image takes if it may leave after step t + 1 at the earliest, given its score after
    each step [T, N] and its steps without the rule [N]."""
    steps = torch.arange(1, len(scores) + 1)[:, None]
    safe_at = torch.where(scores >= value, steps, longest)  # going backwards, the least so far is the next
    return safe_at.flip(0).cummin(dim=0).values.flip(0).minimum(longest)


def _points(rules: list[EarlyExit], steps: Tensor, hits: Tensor, longest: Tensor, images: Tensor) -> list[ExitPoint]:
    """Effects of R rules on some images, given the steps of all images under them [R, N], the hits of all after each
    step [T, N], and their steps without a rule [N]."""
    steps, hits, longest = steps[:, images], hits[:, images], longest[images]
    hit, last = (hits.gather(0, at - 1) for at in (steps, longest[None]))
    lost, won = (last & ~hit).sum(dim=1).tolist(), (hit & ~last).sum(dim=1).tolist()
    accuracy, mean_steps = hit.double().mean(dim=1).tolist(), steps.double().mean(dim=1).tolist()
    return [ExitPoint(*values, len(images)) for values in zip(rules, accuracy, mean_steps, lost, won, strict=True)]


def _frontier(points: list[ExitPoint]) -> Iterator[ExitPoint]:
    """Those that no other beats in both accuracy and steps."""
    kept: list[ExitPoint] = []
    for point in sorted(points, key=lambda each: (each.mean_steps, -each.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return reversed(kept)
