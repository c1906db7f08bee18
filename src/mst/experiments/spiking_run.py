"""A checkpoint as a spiking network beside its ANN, on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from mst.conversion import CODINGS, Coding, SpikingNetwork, coding_of, convert, default_schedule
from mst.conversion.codings import no_effect
from mst.data import first_readable
from mst.distributed import is_main_process, share_of
from mst.errors import InputError
from mst.measure import (
    AC,
    HOROWITZ_45NM_FP32,
    MAC,
    CostModel,
    EnergyEstimate,
    Verdict,
    check_can_be_priced,
    cost_model_named,
    count_effective_macs,
    estimate_energy,
    neurobench_fields,
    read_cost_model,
    verdict_on,
)
from mst.measure.cost_model_files import SUFFIXES
from mst.neurons import DEFAULT_SCHEDULE
from mst.progress import ProgressCallback, Stage
from mst.simulation import (
    DEFAULT_CONFIDENCE,
    EarlyExit,
    ExitCalibration,
    SimulationResult,
    calibrate_early_exit,
    images_needed_to_calibrate,
    least_loss,
    simulate,
    too_few_images,
)
from mst.text import note
from mst.threads import intra_op_threads
from mst.training import Evaluation, evaluate

from .opening import OpenedRun, open_checkpoint, training_images
from .options import CheckpointOptions, CodingOptions, EnergyOptions, ExitOptions, StepOptions, check_steps
from .trace_options import TraceOptions
from .traces import RunTraces, one_by_one, record_traces, sites_to_trace

MOST_VALIDATION_IMAGES = 1000
"""Test images set aside for early exit by default: a fifth, but no more than this."""

DEFAULT_LOSS = 0.5
"""Points of accuracy that early exit may cost by default; 1,000 validation images can show that, and not 0.1."""


@dataclass(frozen=True)
class SimulationRun:
    """An SNN's run, and its ANN's on the same images with masks of the same seed."""

    opened: OpenedRun
    """The network and the images that are reported on."""

    steps: StepOptions
    """Length of the run, early exit, slices."""

    coding: CodingOptions
    """The coding."""

    result: SimulationResult
    """Result of the SNN."""

    evaluation: Evaluation
    """Result of its ANN."""

    calibration: ExitCalibration | None = None
    """Choice of the rule of early exit, if it was chosen."""

    longest_settling: int | None = None
    """If runs settle: steps after which any image has settled that is shown whole at once."""

    snn: SpikingNetwork | None = None
    """The converted network."""

    traces: RunTraces | None = None
    """Some images step by step, if they were asked for; of several processes the first has them."""

    @property
    def ann_accuracy(self) -> float:
        """Accuracy of the ANN, a fraction."""
        return self.evaluation.accuracy

    @property
    def snn_accuracy(self) -> float:
        """Accuracy of the SNN after the last step, a fraction."""
        assert self.result.accuracy is not None
        return float(self.result.accuracy[-1])

    @property
    def quanta_per_image(self) -> float:
        """Sum of all activations in quanta: the fewest spikes of one quantum that carry them from 0."""
        return self.evaluation.quanta_per_image

    def facts(self) -> dict[str, Any]:
        """Entries of a record that identify the run."""
        return self.opened.facts() | {
            "slices": self.steps.slices,
            "options": asdict(self.coding),
            "early_exit_calibration": self.calibration,
        }

    def figures(self) -> dict[str, Any]:
        """The main results as plain values; accuracies are fractions."""
        return {
            "ann_accuracy": self.ann_accuracy,
            "snn_accuracy": self.snn_accuracy,
            "firing_rate": self.result.firing_rate,
            "spikes_per_image": self.result.spikes_per_image,
            "mean_steps": self.result.mean_steps,
            "num_images": self.result.num_images,
            "seconds": self.result.seconds,
        }


@dataclass(frozen=True)
class MeasurementRun:
    """A simulation and what its operations cost."""

    simulation: SimulationRun
    """The run whose operations were counted."""

    estimate: EnergyEstimate
    """Operations and energy per image, of the SNN and of its ANN."""

    verdict: Verdict | None = None
    """The SNN beside its ANNs and the published thresholds; None where the cost model lacks an energy, see
    `EnergyEstimate.unpriced`."""

    neurobench: Mapping[str, Any] = field(default_factory=dict)
    """Metrics under NeuroBench's field names, see `mst.measure.neurobench_fields`."""


def coding_label(options: CodingOptions) -> str:
    """Name of a coding for tables and figures: "rate", "lossless, weighted, burst 4"."""
    return coding_family(options) + (f", burst {options.burst}" if CODINGS[options.coding].has_schedule else "")


def coding_family(options: CodingOptions) -> str:
    """The label without the burst."""
    words: list[str] = [options.coding]
    if CODINGS[options.coding].has_schedule:
        words.append(options.schedule or DEFAULT_SCHEDULE)
    words += ["from rest"] if options.resting_images else []
    words += [f"input over {options.input_steps} steps"] if options.input_steps > 1 else []
    return ", ".join(words)


def check_coding(options: CodingOptions) -> None:
    """Check that the coding exists and that every option given has an effect under it.

    Raises:
        InputError: otherwise.
    """
    given = {
        "burst": options.burst != 1,
        "schedule": options.schedule is not None,
        "resting_images": options.resting_images > 0,
        "input_steps": options.input_steps > 1,
    }
    check_effects([name for name, is_given in given.items() if is_given], [coding_of(options.coding)])


_BELONGS_TO: dict[str, Callable[[Coding], bool]] = {
    **dict.fromkeys(("burst", "bursts", "schedule", "schedules"), lambda coding: coding.has_schedule),
    "resting_images": lambda coding: coding.takes_initial_levels,
    "input_steps": lambda coding: coding.sends_changes,
}


def check_effects(given: Iterable[str], codings: Sequence[Coding]) -> None:
    """Check that every option given has an effect under at least one of the codings.

    Raises:
        InputError: otherwise.
    """
    for name in given:
        if not any(map(_BELONGS_TO[name], codings)):
            raise no_effect(name, codings[0], _BELONGS_TO[name])


def run_simulation(
    checkpoint: CheckpointOptions | OpenedRun | str | Path,
    steps: StepOptions = StepOptions(),  # noqa: B008  frozen
    coding: CodingOptions = CodingOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
    must_be_priced: bool | CostModel = False,
    tracing: TraceOptions = TraceOptions(),  # noqa: B008  frozen
) -> SimulationRun:
    """Evaluate an ANN, convert it, and simulate the SNN on the same images, or on slices of the same recordings.

    Of several processes each simulates its share, and all return the whole result.

    Args:
        checkpoint: the checkpoint and how to open it, its path alone, or an opened run.
        steps: how long to simulate, early exit, masks' seed.
        coding: how spikes carry activations.
        progress: called with the image-steps done.
        must_be_priced: refuse at once a network with operations whose cost is unknown, at all or to this model.
        tracing: neurons and images to record step by step.

    Raises:
        MissingFileError, InputError: as `open_checkpoint`; options that do not go together.
        ConversionError: the coding cannot carry the network.
    """
    check_coding(coding)
    check_steps(steps.time_steps, steps.slices, coding.input_steps)
    rule = fixed_rule(steps)
    opened = open_run(checkpoint)
    coding = _with_schedule(opened, coding)
    chooses_rule = steps.early_exit is not None and rule is None
    if chooses_rule:
        check_enough_images(len(opened.data.test), steps.exit)
    snn = converted(opened, coding)
    if must_be_priced:
        model = must_be_priced if isinstance(must_be_priced, CostModel) else HOROWITZ_45NM_FP32
        check_can_be_priced(snn, first_readable(opened.images)[0][None], model)
    calibration = None
    if chooses_rule:
        opened, calibration = _choose_rule(opened, snn, steps, coding, progress)
        rule = calibration.chosen.early_exit
    sites_to_trace(opened, tracing)
    images = opened.images
    if steps.slices is not None:
        images = Subset(opened.data.test_in_slices(steps.slices), range(opened.num_images))
    evaluation = evaluate_opened(opened, steps.seed)
    result = simulate_images(
        opened, snn, images, steps, coding, f"simulating {steps.time_steps} steps", progress,
        in_slices=steps.slices is not None, early_exit=rule, record_operations=True,
    )  # fmt: skip
    if result.num_images < opened.num_images:
        note(
            f"{opened.num_images - result.num_images} of {opened.num_images} test images could not be read and are not "
            "counted"
        )
    traces = None
    if tracing.is_on and is_main_process():
        traces = record_traces(opened, snn, images, one_by_one(steps, coding), tracing, result, evaluation)
    return SimulationRun(opened, steps, coding, result, evaluation, calibration, snn.longest_settling, snn, traces)


def run_measurement(
    checkpoint: CheckpointOptions | OpenedRun | str | Path,
    steps: StepOptions = StepOptions(),  # noqa: B008  frozen
    coding: CodingOptions = CodingOptions(),  # noqa: B008  frozen
    energy: EnergyOptions = EnergyOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> MeasurementRun:
    """Simulate as `run_simulation` does, count operations from the recorded spikes, and price them.

    Args:
        checkpoint, steps, coding, progress: see `run_simulation`.
        energy: what an operation costs.

    Raises:
        MissingFileError, InputError, ConversionError: as `run_simulation`; an unknown cost model.
    """
    model = cost_model_of(energy)
    simulation = run_simulation(checkpoint, steps, coding, progress=progress, must_be_priced=model)
    result, opened = simulation.result, simulation.opened
    estimate = estimate_energy(result, model)
    assert simulation.snn is not None
    with intra_op_threads(opened.threads):
        effective = count_effective_macs(
            opened.model, [count.operation for count in result.operations], opened.images,
            batch_size=opened.batch_size, num_workers=opened.num_workers, seed=steps.seed,
        )  # fmt: skip
    names = neurobench_fields(simulation.snn.network, result, effective)
    verdict = None if estimate.unpriced else verdict_on(estimate, result, effective)
    return MeasurementRun(simulation, estimate, verdict, names)


def cost_model_of(options: EnergyOptions) -> CostModel:
    """The cost model asked for, with the constants that were given in place of its own.

    Raises:
        MissingFileError: no such YAML file.
        InputError: an unknown model, a file that is not one, or an energy that is not above 0.
    """
    given = {MAC: options.mac_pj, AC: options.ac_pj}
    is_file = Path(options.cost_model).suffix in SUFFIXES
    model = read_cost_model(options.cost_model) if is_file else cost_model_named(options.cost_model)
    return model.with_constants({kind: pj for kind, pj in given.items() if pj is not None})


def open_run(checkpoint: CheckpointOptions | OpenedRun | str | Path) -> OpenedRun:
    """An opened run as it is, or the checkpoint opened."""
    return checkpoint if isinstance(checkpoint, OpenedRun) else open_checkpoint(checkpoint)


def evaluate_opened(opened: OpenedRun, seed: int) -> Evaluation:
    """The ANN of an opened run on its images."""
    with intra_op_threads(opened.threads):
        return evaluate(
            opened.model, opened.images, seed=seed, batch_size=opened.batch_size, num_workers=opened.num_workers
        )


def converted(opened: OpenedRun, options: CodingOptions) -> SpikingNetwork:
    """The SNN of an opened checkpoint; reports the conversion's notes."""
    initial = None
    if options.resting_images:
        initial = torch.split(training_images(opened.data, options.resting_images), opened.batch_size)
    snn = convert(
        opened.model, options.coding, first_readable(opened.images)[0][None], burst=options.burst,
        schedule=options.schedule, initial_images=initial,
    )  # fmt: skip
    for text in snn.notes:
        note(text)
    return snn


def _with_schedule(opened: OpenedRun, options: CodingOptions) -> CodingOptions:
    """The options with the schedule by name where it is not the usual one, so that labels and records say it."""
    usual = default_schedule(opened.model)
    if options.schedule is None and usual != DEFAULT_SCHEDULE and CODINGS[options.coding].has_schedule:
        return replace(options, schedule=usual)
    return options


def simulate_images(
    opened: OpenedRun,
    snn: SpikingNetwork,
    images: Dataset[tuple[Tensor, int]],
    steps: StepOptions,
    coding: CodingOptions,
    stage: str,
    progress: ProgressCallback | None,
    **how: Any,
) -> SimulationResult:
    """`mst.simulate` on some images of an opened run, with reports of its progress."""
    total = len(share_of(len(images))) * steps.time_steps  # type: ignore[arg-type]
    done = Stage(progress, stage, total, "image-steps")
    how = {"record_operations": False, "incremental": None} | how
    with intra_op_threads(opened.threads):
        return simulate(
            snn, images, steps.time_steps, batch_size=opened.batch_size, num_workers=opened.num_workers,
            steps_per_chunk=steps.steps_per_chunk, seed=steps.seed, progress=done.advance,
            input_steps=coding.input_steps, **how,
        )  # fmt: skip


def set_aside(opened: OpenedRun, count: int | None) -> tuple[OpenedRun, Dataset[tuple[Tensor, int]]]:
    """Draw test images for validation at random, always the same ones for a number of images.

    Returns:
        The run without these images, and these images.

    Raises:
        InputError: no image would be left to report on.
    """
    total = len(opened.data.test)
    count = _num_validation_images(total, count)
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))  # data sets are often in order
    aside, left = sorted(drawn[:count].tolist()), sorted(drawn[count:].tolist())[: opened.num_images]
    note(f"{count} of {total} test images, drawn at random, are for validation; {len(left)} others are reported on")
    reported = replace(opened, images=Subset(opened.data.test, left), num_images=len(left))
    return reported, Subset(opened.data.test, aside)


def _num_validation_images(total: int, count: int | None) -> int:
    count = min(MOST_VALIDATION_IMAGES, total // 5) if count is None else count
    if not 1 <= count < total:
        raise InputError(f"{total} test images cannot be split into {count} for validation and some to report on")
    return count


def _promise(options: ExitOptions) -> tuple[float, float]:
    """Accuracy that early exit may cost, a fraction, and the confidence."""
    loss = DEFAULT_LOSS if options.loss is None else options.loss
    return loss / 100, DEFAULT_CONFIDENCE if options.confidence is None else options.confidence


def check_enough_images(total: int, options: ExitOptions) -> None:
    """Refuse a promise that the validation images cannot show, whatever the rule.

    Args:
        total: test images.
        options: of early exit.

    Raises:
        InputError: too few images for the loss and the confidence, or none left to report on.
    """
    count = _num_validation_images(total, options.validation_images)
    loss, confidence = _promise(options)
    few, needed = too_few_images(count, loss, confidence), images_needed_to_calibrate(loss, confidence)
    if not few:
        return
    remedies = []
    if needed is not None and needed < total:
        remedies.append(f"give --exit.validation-images {needed} or more of the {total} test images")
    if count > 1:
        points = 100 * least_loss(count, confidence)
        digits = 1 - math.floor(math.log10(points))
        remedies.append(f"allow --exit.loss {math.ceil(points * 10**digits) / 10**digits:g} or more")
    raise InputError(few, where="early exit", remedy=", or ".join(remedies))


def fixed_rule(steps: StepOptions) -> EarlyExit | None:
    """The rule of early exit, if it is given and not chosen on images.

    Raises:
        InputError: it can never trigger within T steps.
    """
    if steps.early_exit is None or steps.exit.value is None:
        return None
    rule = EarlyExit(steps.early_exit, steps.exit.value, steps.exit.first_step)
    rule.check(steps.time_steps)
    return rule


def _choose_rule(
    opened: OpenedRun,
    snn: SpikingNetwork,
    steps: StepOptions,
    coding: CodingOptions,
    progress: ProgressCallback | None,
) -> tuple[OpenedRun, ExitCalibration]:
    """Choose the rule of early exit on validation images; returns the run without them."""
    assert steps.early_exit is not None
    opened, validation = set_aside(opened, steps.exit.validation_images)
    plain = replace(steps, steps_per_chunk=None)
    seen = simulate_images(
        opened, snn, validation, plain, coding, f"validating {steps.time_steps} steps", progress, keep_step_logits=True
    )
    return opened, calibrate_early_exit(seen, steps.early_exit, *_promise(steps.exit))
