"""Stop each image as soon as its answer is safe: rules, and how to choose their values from validation images.

A rule looks at the read-out after each step: under rate coding the mean of the logits so far, under lossless coding the
logits as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .result import SimulationResult

ExitRule = Literal["margin", "stability"]
EXIT_RULES: tuple[ExitRule, ...] = ("margin", "stability")


@dataclass(frozen=True)
class EarlyExit:
    """When an image leaves.

    Args:
        rule: "margin": the largest logit of the read-out is at least `value` above the next.
            "stability": the prediction has been the same in `value` steps in a row.
        value: in logits, or in steps.
        first_step: steps that every image takes at the least.

    Raises:
        ValueError: an unknown rule, a value that the rule cannot have, or a first step below 1.
    """

    rule: ExitRule
    value: float
    first_step: int = 1

    def __post_init__(self) -> None:
        if self.rule not in EXIT_RULES:
            raise ValueError(f"unknown rule {self.rule!r} for early exit; choose from {list(EXIT_RULES)}")
        if not self.value >= 0 or (self.rule == "stability" and self.value < 1):
            least = "1 step" if self.rule == "stability" else "0 logits"
            raise ValueError(f"early exit by {self.rule} takes a value of {least} or more, got {self.value}")
        if self.first_step < 1:
            raise ValueError(f"first_step must be at least 1, got {self.first_step}")

    def check(self, num_steps: int) -> None:
        """See that the rule can act within so many steps.

        Raises:
            ValueError: it cannot.
        """
        least = max(self.first_step, self.value if self.rule == "stability" else 1)
        if least > num_steps:
            raise ValueError(f"{self} can let nobody leave within {num_steps} time steps")

    def __str__(self) -> str:
        unit = "logits" if self.rule == "margin" else "steps"
        return f"{self.rule} of {self.value:.4g} {unit} from step {self.first_step} on"


class ExitWatch:
    """Applies a rule to the images of one batch, step by step."""

    def __init__(self, early_exit: EarlyExit) -> None:
        self._exit = early_exit
        self._streak = Streak()

    def leaving(self, step: int, readout: Tensor) -> Tensor:
        """bool [B]: whether each image may leave now.

        Args:
            step: steps done, from 1 on; every step must be shown.
            readout: [B, classes].

        Raises:
            ValueError: fewer than two classes, which have no margin.
        """
        score = margin(readout) if self._exit.rule == "margin" else self._streak.after(readout)
        return (score >= self._exit.value) & (step >= self._exit.first_step)

    def keep_images(self, kept: Tensor) -> None:
        """The others have left."""
        self._streak.keep_images(kept)


def margin(readout: Tensor) -> Tensor:
    """[..., classes] -> [...]: largest value less the next.

    Raises:
        ValueError: fewer than two classes.
    """
    if readout.shape[-1] < 2:
        raise ValueError("a margin is between two classes; this network has one output")
    first, second = readout.topk(2, dim=-1).values.unbind(-1)
    return first - second


class Streak:
    """For how many steps in a row each image has had the same prediction."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._length: Tensor | None = None

    def after(self, readout: Tensor) -> Tensor:
        """[B, classes] -> int64 [B], counting this step."""
        prediction = readout.argmax(dim=-1)
        if self._last is None or self._length is None:
            self._length = torch.ones_like(prediction)
        else:
            self._length = torch.where(prediction == self._last, self._length + 1, 1)
        self._last = prediction
        return self._length

    def keep_images(self, kept: Tensor) -> None:
        """The others have left."""
        if self._last is not None and self._length is not None:
            self._last, self._length = self._last[kept], self._length[kept]


# ------------------------------------------------------------------------------------------ calibration


@dataclass(frozen=True)
class ExitPoint:
    """What a rule does to some images. accuracy: a fraction.  mean_steps: per image.

    num_lost: images that all steps get right and the rule gets wrong.  num_won: the opposite.  num_images: of all.
    """

    early_exit: EarlyExit
    accuracy: float
    mean_steps: float
    num_lost: int
    num_won: int
    num_images: int

    @property
    def loss(self) -> float:
        """Accuracy lost against all steps, a fraction; below 0 where leaving early is right more often."""
        return (self.num_lost - self.num_won) / self.num_images

    def is_within(self, accuracy_loss: float) -> bool:
        """Whether what is lost, one standard error added and nothing won taken off, is within this fraction; or nothing
        is lost.

        Wins count for nothing: among thousands of rules there are always some with more wins than losses by luck.
        """
        return self.num_lost == 0 or self.num_lost + self.num_lost**0.5 <= accuracy_loss * self.num_images + 1e-9


@dataclass(frozen=True)
class ExitCalibration:
    """The rule chosen, and the choice there was.

    chosen: of all that keep the accuracy, the one of fewest steps.  full: every image takes all its steps.
    frontier: by falling accuracy, the rules of fewest steps.  accuracy_loss: that was allowed, a fraction.
    num_images: that it was chosen on.
    """

    chosen: ExitPoint
    full: ExitPoint
    frontier: tuple[ExitPoint, ...]
    accuracy_loss: float
    num_images: int


def calibrate_early_exit(result: SimulationResult, rule: ExitRule, accuracy_loss: float) -> ExitCalibration:
    """Choose value and first step of a rule so that the images of `result` keep their accuracy but for a stated loss.

    Args:
        result: of labelled images that are neither trained on nor reported on, all steps, with keep_step_logits=True.
        rule: "margin" or "stability".
        accuracy_loss: allowed loss of accuracy against all steps, a fraction (0.001 is 0.1 points).

    Returns:
        The rule of fewest steps that loses so few of these images that, one standard error added, the loss is within
        the allowed one; images that it wins do not make up for them (see `ExitPoint.is_within`). Where one of the
        images is more than the allowed loss, it loses none.

    Raises:
        ValueError: no step logits or labels, images that left early, or a loss outside [0, 1).
    """
    (calibration,) = calibrate_early_exits(result, rule, (accuracy_loss,))
    return calibration


def calibrate_early_exits(
    result: SimulationResult, rule: ExitRule, accuracy_losses: Sequence[float]
) -> list[ExitCalibration]:
    """`calibrate_early_exit` for several losses, in the time of one."""
    if result.step_logits is None or result.labels is None:
        raise ValueError("calibrating early exit needs labelled images and keep_step_logits=True")
    if result.early_exit is not None:
        raise ValueError("calibrating early exit needs all steps of every image; simulate without early_exit")
    for loss in accuracy_losses:
        if not 0 <= loss < 1:
            raise ValueError(f"accuracy_loss is a fraction in [0, 1), got {loss}")
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
    """What a rule would do to the images of a run without it, whose step logits were kept.

    Raises:
        ValueError: no step logits or labels.
    """
    if result.labels is None:
        raise ValueError("the accuracy of early exit needs labelled images")
    readouts = readouts_of(result)
    scores = _scores(early_exit.rule, readouts)
    steps = exit_steps(early_exit, scores, result.steps_taken)
    return _point(early_exit, steps, readouts.argmax(dim=-1) == result.labels, result.steps_taken)


def readouts_of(result: SimulationResult) -> Tensor:
    """[T, N, classes]: what the prediction after each step is read from.

    Raises:
        ValueError: the step logits were not kept.
    """
    if result.step_logits is None:
        raise ValueError("the logits of the steps were not kept; simulate with keep_step_logits=True")
    if result.coding == "lossless":
        return result.step_logits
    steps = torch.arange(1, result.num_steps + 1, dtype=result.step_logits.dtype)
    return result.step_logits.cumsum(dim=0) / steps[:, None, None]


def _scores(rule: ExitRule, readouts: Tensor) -> Tensor:
    """[T, N]: what a rule compares with its value after each step."""
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


def exit_steps(early_exit: EarlyExit, scores: Tensor, longest: Tensor) -> Tensor:
    """int64 [N]: steps that each image takes, given its score after each step [T, N] and its steps without the rule."""
    first = early_exit.first_step
    return _exits(scores, early_exit.value, longest)[first - 1] if first <= len(scores) else longest


def _point(early_exit: EarlyExit, steps: Tensor, hits: Tensor, longest: Tensor) -> ExitPoint:
    """What a rule does to images of which the steps under it [N] and the hit after each step [T, N] are known."""
    hit, last = (hits.gather(0, at[None] - 1)[0] for at in (steps, longest))
    images = len(hit)
    lost, won = int((last & ~hit).sum()), int((hit & ~last).sum())
    mean_steps = float(steps.double().mean())
    return ExitPoint(early_exit, int(hit.sum()) / images, mean_steps, lost, won, images)


def _frontier(points: list[ExitPoint]) -> Iterator[ExitPoint]:
    """Those that no other beats in both."""
    kept: list[ExitPoint] = []
    for point in sorted(points, key=lambda each: (each.mean_steps, -each.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return reversed(kept)
