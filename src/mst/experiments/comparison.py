"""Codings of one checkpoint side by side, on the same images in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mst.conversion import ConversionError, SpikingNetwork
from mst.data import first_readable, in_order
from mst.errors import InputError
from mst.measure import check_can_be_priced, estimate_energy
from mst.neurons import full_precision
from mst.progress import ProgressCallback
from mst.simulation import (
    EXIT_RULES,
    SimulationResult,
    calibrate_early_exits,
    exit_point,
    simulate,
    too_few_images,
)
from mst.text import note
from mst.threads import intra_op_threads
from mst.training import Evaluation

from .comparison_results import EXIT_LOSSES, AnnRun, CodingRun, Exit
from .opening import OpenedRun
from .options import CheckpointOptions, CodingOptions, ComparisonOptions, StepOptions
from .spiking_run import (
    coding_family,
    coding_label,
    converted,
    evaluate_opened,
    open_run,
    set_aside,
    simulate_images,
)

IMAGES_TIMED = 64
"""Images on which a simulation is timed with nothing recorded, beside the ANN."""


@dataclass(frozen=True)
class ComparisonRun:
    """The codings that have been run so far."""

    opened: OpenedRun
    """The network and the images that are reported on."""

    ann: AnnRun
    """The ANN on these images."""

    runs: tuple[CodingRun, ...]
    """The codings, in the order in which they ran."""

    def __repr__(self) -> str:
        return f"ComparisonRun({self.ann.num_images} images, {', '.join(run.label for run in self.runs)})"


@dataclass(frozen=True)
class _Comparison:
    """Images, ANN and settings shared by all codings of one comparison."""

    opened: OpenedRun
    validation: Dataset[tuple[Tensor, int]]
    evaluation: Evaluation
    timed: Tensor
    steps: StepOptions
    progress: ProgressCallback | None


def run_comparison(
    checkpoint: CheckpointOptions | OpenedRun | str | Path,
    options: ComparisonOptions = ComparisonOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
    on_coding: Callable[[ComparisonRun], None] | None = None,
) -> ComparisonRun:
    """Run a checkpoint under rate coding and under several kinds of lossless coding, on the same images.

    Args:
        checkpoint: the checkpoint and how to open it, its path alone, or an opened run.
        options: the codings.
        progress: called with the image-steps done.
        on_coding: called after each coding with what there is so far, so that a comparison that is cut short leaves
            its results.

    Raises:
        MissingFileError, InputError: as `open_checkpoint`; nothing to compare; operations whose cost is unknown.
        ConversionError: no coding can carry the network.
    """
    variants = list(_variants(options))
    if not variants:
        raise InputError("there is nothing to compare: no rate coding, and no burst, schedule or input_steps")
    opened, validation = set_aside(open_run(checkpoint), options.validation_images)
    for loss in EXIT_LOSSES:
        few = too_few_images(len(validation), loss / 100)  # type: ignore[arg-type]
        if few:
            note(f"early exit: {few}; every image takes all its steps")
    evaluation = evaluate_opened(opened, options.seed)
    timed = next(iter(in_order(opened.images, range(opened.num_images), IMAGES_TIMED, 0)))[0]
    ann = AnnRun(evaluation.accuracy, evaluation.quanta_per_image, _seconds(opened, timed), evaluation.num_images)
    steps = StepOptions(options.time_steps, seed=options.seed)
    comparison = _Comparison(opened, validation, evaluation, timed, steps, progress)
    found = ComparisonRun(opened, ann, ())
    for coding, snn in _convertible(opened, variants):
        found = replace(found, runs=(*found.runs, _run(comparison, coding, snn)))
        if on_coding is not None:
            on_coding(found)
    return found


def _variants(options: ComparisonOptions) -> Iterator[CodingOptions]:
    if options.rate:
        yield CodingOptions()
    starts = (0, options.resting_images) if options.resting_images else (0,)
    for resting, schedule, spread, burst in product(starts, options.schedules, options.input_steps, options.bursts):
        yield CodingOptions("lossless", burst, schedule, resting, spread)


def _convertible(opened: OpenedRun, variants: list[CodingOptions]) -> Iterator[tuple[CodingOptions, SpikingNetwork]]:
    """The variants that the network can be converted to; reports why others are left out, if any variant remains."""
    refused: ConversionError | None = None
    for number, options in enumerate(variants):
        try:
            snn = converted(opened, options)
        except ConversionError as error:
            if number == len(variants) - 1:
                raise
            if refused is None:
                note(f"{coding_label(options)}: left out. {error}")
            refused = error
            continue
        check_can_be_priced(snn, first_readable(opened.images)[0][None])
        yield options, snn


def _run(comparison: _Comparison, coding: CodingOptions, snn: SpikingNetwork) -> CodingRun:
    """One coding: its run, the time it takes, and what early exit makes of it."""
    opened, steps, label = comparison.opened, comparison.steps, coding_label(coding)
    result = simulate_images(
        opened, snn, opened.images, steps, coding, label, comparison.progress, record_operations=True,
        keep_step_logits=True,
    )  # fmt: skip
    seen = simulate_images(
        opened, snn, comparison.validation, steps, coding, f"{label}: validating", comparison.progress,
        keep_step_logits=True,
    )  # fmt: skip
    exits, frontier = _exits(result, seen)
    agree = (result.logits.argmax(dim=1) == comparison.evaluation.logits.argmax(dim=1)).double().mean()
    seconds = _seconds_snn(comparison, coding, snn)
    result = replace(result, step_logits=None)  # large, and no longer needed
    return CodingRun(
        label, coding_family(coding), result, estimate_energy(result), float(agree), seconds, exits, frontier
    )


def _exits(
    result: SimulationResult, validation: SimulationResult
) -> tuple[tuple[Exit, ...], dict[str, list[tuple[float, float]]]]:
    """Early exit as chosen on the validation images, applied to the test images of `result`."""
    exits: list[Exit] = []
    frontier: dict[str, list[tuple[float, float]]] = {}
    for rule in EXIT_RULES:
        calibrations = calibrate_early_exits(validation, rule, [loss / 100 for loss in EXIT_LOSSES])
        for loss, calibration in zip(EXIT_LOSSES, calibrations, strict=True):
            point = exit_point(result, calibration.chosen.early_exit)
            exits.append(Exit(rule, loss, point.mean_steps, point.accuracy))
        points = [exit_point(result, each.early_exit) for each in calibrations[0].frontier]
        frontier[rule] = sorted((point.mean_steps, point.accuracy) for point in points)
    return tuple(exits), frontier


def _seconds(opened: OpenedRun, images: Tensor) -> float:
    """Seconds per image of the ANN."""
    like = next(opened.model.parameters())
    images = images.to(like.device, like.dtype)
    times = []
    with torch.no_grad(), full_precision(), intra_op_threads(opened.threads):  # as in the runs that it is compared with
        for _ in range(4):
            began = time.perf_counter()
            for batch in torch.split(images, opened.batch_size):
                opened.model(batch).cpu()
            times.append(time.perf_counter() - began)
    return min(times[1:]) / len(images)


def _seconds_snn(comparison: _Comparison, coding: CodingOptions, snn: SpikingNetwork) -> float:
    """Seconds per image of the simulation, nothing recorded; the run before has warmed it up."""
    images, steps = comparison.timed, comparison.steps
    with intra_op_threads(comparison.opened.threads):
        seconds = [
            simulate(
                snn, torch.split(images, comparison.opened.batch_size), steps.time_steps, record_operations=False,
                seed=steps.seed, input_steps=coding.input_steps,
            ).seconds
            for _ in range(2)
        ]  # fmt: skip
    return min(seconds) / len(images)
