"""Early exit chosen from validation images: for every rule the steps and the accuracy, and the rule that is safe.

Letters: T steps, N images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mst.errors import InputError

from .early_exit import EarlyExit, ExitRule, Streak, margin
from .readout import readouts_of
from .result import SimulationResult


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

    def is_within(self, accuracy_loss: float) -> bool:
        """True if the lost images plus one standard error are within this fraction, or none is lost.

        Wins are not subtracted: among thousands of rules some always have more wins than losses by luck.
        """
        return self.num_lost == 0 or self.num_lost + self.num_lost**0.5 <= accuracy_loss * self.num_images + 1e-9


@dataclass(frozen=True)
class ExitCalibration:
    """The rule chosen, and those that it was chosen from."""

    chosen: ExitPoint
    """Of all rules that keep the accuracy, the one of fewest steps."""

    full: ExitPoint
    """Every image takes all its steps."""

    frontier: tuple[ExitPoint, ...]
    """The rules of fewest steps, by falling accuracy."""

    accuracy_loss: float
    """Allowed loss, a fraction."""

    num_images: int
    """Images that it was chosen on."""


def calibrate_early_exit(result: SimulationResult, rule: ExitRule, accuracy_loss: float) -> ExitCalibration:
    """Choose value and first step of a rule so that the images of `result` lose at most a stated accuracy.

    Args:
        result: of labelled images that are neither trained on nor reported on, all steps, with keep_step_logits=True.
        rule: "margin" or "stability".
        accuracy_loss: allowed loss of accuracy against all steps, a fraction (0.001 is 0.1 points).

    Returns:
        The rule of fewest steps whose lost images plus one standard error are within the allowed loss; images that it
        wins do not make up for them (see `ExitPoint.is_within`). Where one image is more than the allowed loss, it
        loses none.

    Raises:
        InputError: no step logits or labels, images that left early, or a loss outside [0, 1).
    """
    (calibration,) = calibrate_early_exits(result, rule, (accuracy_loss,))
    return calibration


def calibrate_early_exits(
    result: SimulationResult, rule: ExitRule, accuracy_losses: Sequence[float]
) -> list[ExitCalibration]:
    """`calibrate_early_exit` for several losses, in the time of one."""
    if result.step_logits is None or result.labels is None:
        raise InputError("calibrating early exit needs labelled images and keep_step_logits=True")
    if result.early_exit is not None:
        raise InputError("calibrating early exit needs all steps of every image", remedy="simulate without early_exit")
    for loss in accuracy_losses:
        if not 0 <= loss < 1:
            raise InputError(f"accuracy_loss is a fraction in [0, 1), got {loss}")
    readouts = readouts_of(result)
    hits = readouts.argmax(dim=-1) == result.labels
    scores, longest = _scores(rule, readouts), result.steps_taken
    never = EarlyExit(rule, float(result.num_steps + 1) if rule == "stability" else float(scores.max()) + 1)
    full = _point(never, longest, hits, longest)
    points = [_point(candidate, steps, hits, longest) for candidate, steps in _candidates(rule, scores, longest)]
    frontier = tuple(_frontier([*points, full]))
    calibrations = []
    for loss in accuracy_losses:
        safe = [point for point in points if point.is_within(loss)]
        chosen = min([*safe, full], key=lambda point: (point.mean_steps, point.loss))
        calibrations.append(ExitCalibration(chosen, full, frontier, loss, result.num_images))
    return calibrations


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
    return _point(early_exit, steps, readouts.argmax(dim=-1) == result.labels, result.steps_taken)


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


def _candidates(rule: ExitRule, scores: Tensor, longest: Tensor) -> Iterator[tuple[EarlyExit, Tensor]]:
    """Rules to choose from, each with the steps that the images take under it."""
    num_steps = len(scores)
    firsts = sorted({*range(1, min(num_steps, 32) + 1), *range(32, num_steps + 1, 8)})
    if rule == "stability":
        values = [float(v) for v in range(1, num_steps + 1)]
    else:
        sample = scores.flatten()[:: max(1, scores.numel() // 100_000)].double()
        values = torch.quantile(sample, torch.linspace(0, 1, 65, dtype=torch.float64)).tolist()
    for value in values:
        exits = _exits(scores, max(0.0, value), longest)
        for first in firsts:
            yield EarlyExit(rule, max(0.0, value), first), exits[first - 1]


def _exits(scores: Tensor, value: float, longest: Tensor) -> Tensor:
    """int64 [T, N]: steps that each image takes if it may leave after step t + 1 at the earliest, given its score after
    each step [T, N] and its steps without the rule [N]."""
    steps = torch.arange(1, len(scores) + 1)[:, None]
    safe_at = torch.where(scores >= value, steps, longest)  # going backwards, the least so far is the next
    return safe_at.flip(0).cummin(dim=0).values.flip(0).minimum(longest)


def _point(early_exit: EarlyExit, steps: Tensor, hits: Tensor, longest: Tensor) -> ExitPoint:
    """Effect of a rule on images, given the steps under it [N] and the hit after each step [T, N]."""
    hit, last = (hits.gather(0, at[None] - 1)[0] for at in (steps, longest))
    images = len(hit)
    lost, won = int((last & ~hit).sum()), int((hit & ~last).sum())
    mean_steps = float(steps.double().mean())
    return ExitPoint(early_exit, int(hit.sum()) / images, mean_steps, lost, won, images)


def _frontier(points: list[ExitPoint]) -> Iterator[ExitPoint]:
    """Those that no other beats in both accuracy and steps."""
    kept: list[ExitPoint] = []
    for point in sorted(points, key=lambda each: (each.mean_steps, -each.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return reversed(kept)
