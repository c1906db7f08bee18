"""From an opened checkpoint to an SNN's run and its ANN's on the same images: what several verbs have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from mst.conversion import Coding, SpikingNetwork, convert
from mst.distributed import share_of
from mst.measure import check_can_be_priced
from mst.neurons import DEFAULT_SCHEDULE, ScheduleName, check_burst
from mst.simulation import (
    EarlyExit,
    ExitCalibration,
    ExitRule,
    SimulationResult,
    calibrate_early_exit,
    simulate_dataset,
)
from mst.training import Evaluation, evaluate

from .common import OpenedRun, console, progress_bar, remark, training_images

MOST_VALIDATION_IMAGES = 1000
"""Test images set aside for early exit where nobody says how many: a fifth, but no more than this."""

DEFAULT_LOSS = 0.1
"""Points of accuracy that early exit may cost on the validation images, where nobody says."""


@dataclass(frozen=True)
class CodingOptions:
    """How spikes carry activations. burst, schedule, resting_images, input_steps: of lossless coding only."""

    coding: Coding = "rate"
    burst: int = 1
    schedule: ScheduleName | None = None
    resting_images: int = 0
    input_steps: int = 1

    def __post_init__(self) -> None:
        check_burst(self.burst)
        options = (self.burst, self.schedule, self.resting_images, self.input_steps)
        if self.coding == "rate" and options != (1, None, 0, 1):
            raise ValueError("burst, schedule, resting_images and input_steps belong to lossless coding")
        if self.resting_images < 0:
            raise ValueError(f"resting_images must be 0 (start from nothing) or more, got {self.resting_images}")

    @property
    def label(self) -> str:
        """For tables and figures."""
        return "rate" if self.coding == "rate" else f"{self.family}, burst {self.burst}"

    @property
    def family(self) -> str:
        """The label but for the burst."""
        words: list[str] = [self.coding] if self.coding == "rate" else [self.coding, self.schedule or DEFAULT_SCHEDULE]
        words += ["from rest"] if self.resting_images else []
        words += [f"input over {self.input_steps} steps"] if self.input_steps > 1 else []
        return ", ".join(words)


@dataclass(frozen=True)
class ExitOptions:
    """When images may leave before the last step.

    Args:
        loss: accuracy that may be lost on the validation images, in points (0.1 is 0.1 %, and what is taken if nothing
            is said).
        validation_images: so many test images, evenly taken, are set aside to choose the rule's value on, and are not
            reported on; by default a fifth of them, 1,000 at most.
        value: instead of choosing: the margin in logits, or the steps in a row.
        first_step: with a value: steps that every image takes at the least.

    Raises:
        ValueError: a loss outside [0, 100), or options that do not go together.
    """

    loss: float | None = None
    validation_images: int | None = None
    value: float | None = None
    first_step: int = 1

    def __post_init__(self) -> None:
        if self.loss is not None and not 0 <= self.loss < 100:
            raise ValueError(f"early-exit loss is in points of accuracy, from 0 to below 100, got {self.loss}")
        if self.validation_images is not None and self.validation_images < 1:
            raise ValueError(f"validation_images must be at least 1, got {self.validation_images}")
        if self.value is None and self.first_step != 1:
            raise ValueError("first_step goes with a value; where the value is chosen, so is the first step")
        if self.value is not None and (self.validation_images is not None or self.loss is not None):
            raise ValueError("with a value nothing is chosen: no loss to allow, no validation images to set aside")


@dataclass(frozen=True)
class Simulated:
    """An SNN's run, and its ANN's on the same images with masks of the same seed.

    longest_settling: lossless coding: steps after which any image has settled that is shown whole at once.
    """

    result: SimulationResult
    evaluation: Evaluation
    calibration: ExitCalibration | None = None
    longest_settling: int | None = None

    @property
    def ann_accuracy(self) -> float:
        """A fraction."""
        return self.evaluation.accuracy

    @property
    def quanta_per_image(self) -> float:
        """The sum of all activations in quanta: the fewest spikes of one quantum that carry them from 0."""
        return self.evaluation.quanta_per_image


def run_both(
    opened: OpenedRun,
    time_steps: int,
    options: CodingOptions,
    steps_per_chunk: int | None,
    seed: int,
    slices: int | None = None,
    early_exit: ExitRule | None = None,
    exit_options: ExitOptions = ExitOptions(),
    must_be_priced: bool = False,
) -> Simulated:
    """Evaluate the ANN, convert it, simulate the SNN on the same images, or on slices of the same recordings.

    Args:
        must_be_priced: refuse at once a network whose operations are not all known.
    """
    check_steps(time_steps, slices, options.input_steps)
    calibration, rule = None, None
    if early_exit is None and exit_options != ExitOptions():
        raise ValueError("options of early exit have no effect without --early-exit margin or stability")
    if early_exit is not None and slices is not None:
        raise ValueError("early exit is for still images: a recording that is cut short has not been seen whole")
    if early_exit is not None and steps_per_chunk not in (None, 1):
        raise ValueError("with early exit steps are computed one at a time; leave --steps-per-chunk out")
    if early_exit is not None and exit_options.value is not None:
        rule = EarlyExit(early_exit, exit_options.value, exit_options.first_step)
        rule.check(time_steps)
    snn = converted(opened, options)
    if must_be_priced:
        check_can_be_priced(snn, opened.images[0][0][None])
    if early_exit is not None and rule is None:
        opened, validation = set_aside(opened, exit_options.validation_images)
        seen = simulated(opened, snn, validation, time_steps, options, None, seed, "validating", keep_step_logits=True)
        calibration = calibrate_early_exit(
            seen, early_exit, (DEFAULT_LOSS if exit_options.loss is None else exit_options.loss) / 100
        )
        rule = calibration.chosen.early_exit
        console.print(_about(calibration), highlight=False, soft_wrap=True)
    images = opened.images
    if slices is not None:
        images = Subset(opened.data.test_in_slices(slices), range(opened.num_images))
    evaluation = evaluate(
        opened.model, opened.images, seed=seed, batch_size=opened.batch_size, num_workers=opened.num_workers
    )
    result = simulated(
        opened, snn, images, time_steps, options, steps_per_chunk, seed, "simulating", in_slices=slices is not None,
        early_exit=rule, record_operations=True,
    )  # fmt: skip
    if result.num_images < opened.num_images:
        remark(f"{opened.num_images - result.num_images} of {opened.num_images} test images could not be read and are "
               "not counted")  # fmt: skip
    return Simulated(result, evaluation, calibration, snn.longest_settling if snn.is_lossless else None)


def check_steps(time_steps: int, slices: int | None = None, input_steps: int = 1) -> None:
    """See that T is at least 1, and that slices, if any, and the steps of the input are no more than T.

    Raises:
        ValueError: otherwise.
    """
    if time_steps < 1:
        raise ValueError(f"time_steps (T) must be at least 1, got {time_steps}")
    if slices is not None and not 1 <= slices <= time_steps:
        raise ValueError(f"slices must be from 1 to the {time_steps} time steps, got {slices}")
    if not 1 <= input_steps <= time_steps:
        raise ValueError(f"input_steps must be from 1 to the {time_steps} time steps, got {input_steps}")


def converted(opened: OpenedRun, options: CodingOptions) -> SpikingNetwork:
    """The SNN of a checkpoint; says what `convert` remarked."""
    resting = None
    if options.resting_images:
        resting = torch.split(training_images(opened.data, options.resting_images), opened.batch_size)
    snn = convert(
        opened.model, options.coding, opened.images[0][0][None], burst=options.burst, schedule=options.schedule,
        resting_images=resting,
    )  # fmt: skip
    for said in snn.remarks:
        remark(said)
    return snn


def set_aside(opened: OpenedRun, count: int | None) -> tuple[OpenedRun, Dataset[tuple[Tensor, int]]]:
    """The run without `count` test images, evenly taken from all there are, and these.

    Raises:
        ValueError: none would be left to report on.
    """
    total = len(opened.data.test)
    count = min(MOST_VALIDATION_IMAGES, total // 5) if count is None else count
    if not 1 <= count < total:
        raise ValueError(f"{total} test images cannot be parted into {count} for validation and some to report on")
    aside = {index * total // count for index in range(count)}  # data sets are often in order, of classes or of writers
    left = [index for index in range(total) if index not in aside][: opened.num_images]
    remark(f"{count} of {total} test images, evenly taken, are for validation; {len(left)} others are reported on")
    reported = replace(opened, images=Subset(opened.data.test, left), num_images=len(left))
    return reported, Subset(opened.data.test, sorted(aside))


def simulated(
    opened: OpenedRun,
    snn: SpikingNetwork,
    images: Dataset[tuple[Tensor, int]],
    time_steps: int,
    options: CodingOptions,
    steps_per_chunk: int | None,
    seed: int,
    doing: str,
    *,
    record_operations: bool = False,
    **how: Any,
) -> SimulationResult:
    """`simulate_dataset` with a progress bar."""
    own_image_steps = len(share_of(len(images))) * time_steps  # type: ignore[arg-type]
    with progress_bar(f"{doing} {time_steps} steps", own_image_steps, "image-steps") as advance:
        return simulate_dataset(
            snn, images, time_steps, opened.batch_size, num_workers=opened.num_workers, steps_per_chunk=steps_per_chunk,
            seed=seed, progress=advance, record_operations=record_operations, input_steps=options.input_steps, **how,
        )  # fmt: skip


def _about(calibration: ExitCalibration) -> str:
    chosen, full = calibration.chosen, calibration.full
    few = too_few_to_tell(calibration.num_images, 100 * calibration.accuracy_loss)
    return (
        f"Early exit: {chosen.early_exit}. On {calibration.num_images} validation images: mean T "
        f"{chosen.mean_steps:.1f} instead of {full.mean_steps:.1f}, accuracy {100 * chosen.accuracy:.2f} % instead of "
        f"{100 * full.accuracy:.2f} % (allowed loss {100 * calibration.accuracy_loss:g} points{few and '; ' + few})"
    )


def too_few_to_tell(num_images: int, loss: float) -> str:
    """A remark where one of so many images is more than a loss in points, else nothing."""
    one = 100 / num_images
    if one <= loss + 1e-9:
        return ""
    return f"{num_images} validation images are too few to tell that: one of them is {one:.2g} points"


def _agreement(simulated: Simulated) -> str:
    result, evaluation = simulated.result, simulated.evaluation
    assert result.settled_at is not None
    settled = result.settled_at > 0
    ours, theirs = result.logits[settled], evaluation.logits.to(result.logits)[settled]
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    return f"{same} of {len(ours)} equal; a logit differs by {float((ours - theirs).abs().max()):.1e} at most"


def about_steps(simulated: Simulated) -> list[str]:
    """What is to be said of settling, of early exit, and of the spikes that are the least."""
    result, lines = simulated.result, []
    if result.settled_at is not None and result.early_exit is None:
        settled = result.settled_at[result.settled_at > 0]
        if len(settled):
            lines.append(
                f"{len(settled)} of {result.num_images} images have settled: their logits are the ANN's, after "
                f"{settled.double().mean():.1f} steps on average and {settled.max()} at most"
            )
            lines.append(f"Their answers and their ANN's: {_agreement(simulated)}")
        if len(settled) < result.num_images:
            lines.append(
                f"{result.num_images - len(settled)} of {result.num_images} images have not settled in "
                f"{result.num_steps} steps; give them more with --time-steps (the proof allows up to "
                f"{simulated.longest_settling}, most need far fewer), or a larger --burst"
            )
    if result.early_exit is not None:
        lines.append(f"Steps per image with early exit ({result.early_exit}): {result.mean_steps:.2f}")
    least = simulated.quanta_per_image
    lines.append(
        f"Spikes per image: {result.spikes_per_image:,.0f}, {result.spikes_per_image / max(1.0, least):.2f} times the "
        f"{least:,.0f} quanta of the ANN's activations"
    )
    return lines
