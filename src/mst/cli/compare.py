"""`mst compare`: codings of one checkpoint side by side, on the same images in one run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mst.convert import ConversionError, SpikingNetwork
from mst.data import BadImages, in_order
from mst.measure import check_can_be_priced, estimate_energy
from mst.neurons import ScheduleName, full_precision
from mst.report import (
    EXIT_LOSSES,
    AnnRun,
    CodingRun,
    Exit,
    coding_rows,
    codings_against_cost,
    codings_markdown,
    early_exit_curves,
    run_record,
    write_json,
    write_run_record,
    write_text,
)
from mst.simulate import EXIT_RULES, SimulationResult, calibrate_early_exits, exit_point, simulate
from mst.train import Evaluation, evaluate_dataset, is_main_process

from .common import OpenedRun, check_counts, console, open_run, prepare_output, print_files, remark
from .spiking_run import CodingOptions, check_steps, converted, set_aside, simulated, too_few_to_tell

IMAGES_TIMED = 64
"""On which a simulation is timed with nothing recorded, beside the ANN."""


def compare(
    checkpoint: Path,
    dataset: str | None = None,
    data_path: Path | None = None,
    time_steps: int = 128,
    output: Path = Path("runs/compare"),
    bursts: tuple[int, ...] = (1, 2, 4),
    schedules: tuple[ScheduleName, ...] = ("staggered", "weighted"),
    resting_images: int = 0,
    input_steps: tuple[int, ...] = (1,),
    rate: bool = True,
    validation_images: int | None = None,
    batch_size: int = 32,
    max_images: int | None = None,
    masking_ratio: float | None = None,
    mask_sites: tuple[str, ...] | None = None,
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
) -> None:
    """Run a checkpoint under rate coding and under several kinds of lossless coding, on the same images.

    Prints for each the accuracy, time steps, spikes, operations, energy and time; what it needs to come within 1, 0.5
    and 0.1 points of the ANN; and early exit at losses of 0.5 and 0.1 points. Writes codings.md, codings.json,
    codings.png (accuracy against time steps and against spikes), early_exit.png and run_record.json.

    Example: mst compare runs/fashion/last.safetensors --max-images 2000

    Args:
        checkpoint: a .safetensors file of `mst train` or `mst import`.
        dataset: name; the checkpoint's own by default.
        data_path: folder with the data set's files.
        time_steps: T; lossless runs end before it, once all images have settled.
        output: folder for the results.
        bursts: most spikes of a neuron in one step, one lossless run each.
        schedules: plain, staggered, weighted; for each burst.
        resting_images: above 0: every lossless run again, from the median levels over so many training images.
        input_steps: steps over which the image is spread, one lossless run each.
        rate: run rate coding too.
        validation_images: so many test images, evenly taken, are set aside for early exit and not reported on; by
            default a fifth of them, 1,000 at most.
        batch_size: images at once.
        max_images: use the first so many test images only.
        masking_ratio: other than the checkpoint's.
        mask_sites: where that ratio acts, and nowhere else.
        seed: of the masks.
        device: auto, cpu, cuda, cuda:1, mps, ...
        num_workers: processes that prepare images.
        on_bad_image: at an image file that cannot be read: fail, or skip it and say so.
    """
    settings = dict(locals())
    check_counts(validation_images=validation_images)
    variants = list(_variants(rate, bursts, schedules, resting_images, input_steps))
    for options in variants:
        check_steps(time_steps, input_steps=options.input_steps)
    if not variants:
        raise ValueError("there is nothing to compare: no rate coding, and no burst, schedule or input_steps")
    prepare_output(output)
    opened = open_run(
        checkpoint, dataset, data_path, batch_size, max_images, masking_ratio, device, num_workers, on_bad_image,
        mask_sites,
    )  # fmt: skip
    opened, validation = set_aside(opened, validation_images)
    few = too_few_to_tell(len(validation), min(EXIT_LOSSES))  # type: ignore[arg-type]
    if few:
        remark(f"early exit at a loss of {min(EXIT_LOSSES)} points: {few}")
    evaluation = evaluate_dataset(
        opened.model, opened.images, seed=seed, batch_size=opened.batch_size, num_workers=opened.num_workers
    )
    timed = next(iter(in_order(opened.images, range(opened.num_images), IMAGES_TIMED, 0)))[0]
    ann = AnnRun(evaluation.accuracy, evaluation.quanta_per_image, _seconds(opened, timed), evaluation.num_images)
    runs: list[CodingRun] = []
    for options, snn in _convertible(opened, variants):
        runs.append(_run(opened, snn, validation, options, time_steps, seed, evaluation, timed))
        if is_main_process():  # a comparison that is cut short leaves what it has
            written = _write(opened, output, settings, seed, ann, runs)
    if is_main_process():
        console.print(written[0].read_text(encoding="utf-8"), highlight=False, soft_wrap=True)
        print_files(*written)


def _write(
    opened: OpenedRun, output: Path, settings: Mapping[str, Any], seed: int, ann: AnnRun, runs: list[CodingRun]
) -> list[Path]:
    rows = coding_rows(ann, runs)
    title = f"{opened.data.info.name}, {ann.num_images} test images"
    results = {row["coding"]: row["within"] for row in rows}
    return [
        write_text(
            output / "codings.md", codings_markdown(ann, rows, f"Codings of {opened.checkpoint.name} on {title}")
        ),
        write_json(output / "codings.json", {"ann": ann, "rows": rows, **opened.facts()}),
        codings_against_cost(ann, runs, output / "codings.png", title),
        early_exit_curves(ann, runs, output / "early_exit.png", title),
        write_run_record(output, run_record("compare", settings, results, seed=seed, **opened.facts())),
    ]


def _variants(
    rate: bool,
    bursts: tuple[int, ...],
    schedules: tuple[ScheduleName, ...],
    resting_images: int,
    input_steps: tuple[int, ...],
) -> Iterator[CodingOptions]:
    if rate:
        yield CodingOptions()
    starts = (0, resting_images) if resting_images else (0,)
    for resting, schedule, spread, burst in product(starts, schedules, input_steps, bursts):
        yield CodingOptions("lossless", burst, schedule, resting, spread)


def _convertible(opened: OpenedRun, variants: list[CodingOptions]) -> Iterator[tuple[CodingOptions, SpikingNetwork]]:
    """The variants that the network can be converted to; of the others it is said why, if any are left.

    Raises:
        ConversionError: there are none.
        ValueError: operations whose cost is not known.
    """
    refused: ConversionError | None = None
    for number, options in enumerate(variants):
        try:
            snn = converted(opened, options)
        except ConversionError as error:
            if number == len(variants) - 1:
                raise
            if refused is None:
                remark(f"{options.label}: left out. {error}")
            refused = error
            continue
        check_can_be_priced(snn, opened.images[0][0][None])
        yield options, snn


def _run(
    opened: OpenedRun,
    snn: SpikingNetwork,
    validation: Dataset[tuple[Tensor, int]],
    options: CodingOptions,
    time_steps: int,
    seed: int,
    evaluation: Evaluation,
    timed: Tensor,
) -> CodingRun:
    """One coding: its run, the time it takes, and what early exit makes of it."""
    result = simulated(
        opened, snn, opened.images, time_steps, options, None, seed, options.label, record_operations=True,
        keep_step_logits=True,
    )  # fmt: skip
    seen = simulated(opened, snn, validation, time_steps, options, None, seed, "validating", keep_step_logits=True)
    exits, frontier = _exits(result, seen)
    agree = (result.logits.argmax(dim=1) == evaluation.logits.argmax(dim=1)).double().mean()
    seconds = _seconds_snn(snn, timed, time_steps, options, seed, opened.batch_size)
    result = replace(result, step_logits=None)  # large, and no longer needed
    return CodingRun(
        options.label, options.family, result, estimate_energy(result), float(agree), seconds, exits, frontier
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
    with torch.no_grad(), full_precision():  # as in the runs that it is compared with
        for _ in range(4):
            began = time.perf_counter()
            for batch in torch.split(images, opened.batch_size):
                opened.model(batch).cpu()
            times.append(time.perf_counter() - began)
    return min(times[1:]) / len(images)


def _seconds_snn(
    snn: SpikingNetwork, images: Tensor, time_steps: int, options: CodingOptions, seed: int, batch_size: int
) -> float:
    """Seconds per image of the simulation, nothing recorded; it has been warmed up by the run before."""
    seconds = [
        simulate(
            snn, torch.split(images, batch_size), time_steps, record_operations=False, seed=seed,
            input_steps=options.input_steps,
        ).seconds
        for _ in range(2)
    ]  # fmt: skip
    return min(seconds) / len(images)
