"""Diagnosis of a quantised network: where quantisation costs accuracy, and which bits and time steps are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Subset

from mst.conversion import CODINGS, ConversionError, convert, default_schedule
from mst.data import ImageData, batches_of
from mst.errors import InputError
from mst.models import NetworkInput, ann_of, check_answers
from mst.neurons import find_sites
from mst.progress import ProgressCallback, Stage
from mst.quantization import in_evaluation
from mst.quantization.site_errors import Diagnoser, OutputError, SiteErrors, beside_reference, with_levels
from mst.simulation import SimulationResult, simulate
from mst.threads import intra_op_threads

from .diagnosis_options import DiagnosedCheckpoint, DiagnosisOptions
from .diagnosis_results import Change, CodingTrial, Diagnosis, LevelTrial, SiteRemedy
from .opening import OpenedRun, open_checkpoint, training_images
from .options import CodingOptions
from .spiking_run import coding_label

ADVISED = 5
"""Sites that are looked at more closely: those with the largest effects on the output."""


@dataclass(frozen=True)
class DiagnosisRun:
    """Diagnosis of a checkpoint."""

    opened: OpenedRun
    """The network and its images."""

    options: DiagnosisOptions
    """Trials that were asked for."""

    diagnosis: Diagnosis
    """Result."""


def diagnose(
    model: nn.Module,
    data: ImageData,
    options: DiagnosisOptions = DiagnosisOptions(),  # noqa: B008  frozen
    *,
    calibration: ImageData | None = None,
    batch_size: int = 16,
    progress: ProgressCallback | None = None,
) -> Diagnosis:
    """Find out where quantisation costs accuracy in a network, and which bits and time steps would be enough.

    Errors are relative to the same network without quantisation, on the same images. For each site: the error that it
    adds by itself and its effect on the output, the error that arrives and the one that is passed on, the levels it
    uses, what it clips and what it rounds to 0. Then other levels are tried at all sites, and the sites with the
    largest effects one by one with one more bit and with a threshold for each channel. Then the spiking network is
    simulated on a few of the images. The network takes one pass for each site and a few more; it does not change.

    Args:
        model: an ANN with QCFS sites at activations or products, of `mst.quantize`, `mst.create_model`, ...
        data: a few dozen images, in any form of `mst.data.ImageData`; labels add accuracies.
        options: what to try.
        calibration: images to set levels from, a few hundred; none of `data`. None tries no other levels, unless
            thresholds are kept because training has chosen them (the clipped reference).
        batch_size: images at once; the outputs of all sites are kept for a batch.
        progress: called after each pass.

    Raises:
        InputError: no QCFS site, a spiking network, no images; NaN or infinity in weights or images; images that the
            network does not take.
    """
    model = ann_of(model, "mst.diagnose", "diagnose the ANN")
    with in_evaluation(model):
        diagnoser, output = _on_images(model, data, options, batch_size)
        total = sum(len(batch.images) for batch in diagnoser.batches)
        sites = diagnoser.site_errors(Stage(progress, "sites", total * (2 + len(diagnoser.sites)), "images"))
        trials, remedies = _try_levels(diagnoser, sites, options, calibration, progress)
        codings = _try_codings(diagnoser, options, progress)
    return Diagnosis(
        num_images=total,
        reference=diagnoser.reference,
        reference_accuracy=diagnoser.output_error(()).accuracy,
        output=output,
        sites=sites,
        unused=tuple(name for name in diagnoser.sites if name not in {site.site for site in sites}),
        trials=trials,
        remedies=remedies,
        codings=codings,
    )


def _on_images(
    model: nn.Module, data: ImageData, options: DiagnosisOptions, batch_size: int
) -> tuple[Diagnoser, OutputError]:
    """The network with its reference on the images, and the error of its output."""
    intake = NetworkInput(model)
    reading = [
        (intake.take(images), labels)
        for images, labels in batches_of(data, batch_size).batches
        if len(images)
    ]  # fmt: skip
    if not reading:
        raise InputError("there are no images to diagnose with")
    chosen = beside_reference(model, reading, options.reference, options.seed)
    check_answers(torch.cat([batch.output for batch in chosen[0].batches]))
    return chosen


def _try_levels(
    diagnoser: Diagnoser,
    sites: Sequence[SiteErrors],
    options: DiagnosisOptions,
    calibration: ImageData | None,
    progress: ProgressCallback | None,
) -> tuple[tuple[LevelTrial, ...], tuple[SiteRemedy, ...]]:
    """Other levels at all sites, and one by one at the sites with the largest effects."""
    total = sum(site.own_effect**2 for site in sites)
    worst = sorted(sites, key=lambda site: -site.own_effect)[:ADVISED] if total else []
    has_many = any(site.num_thresholds > 1 for site in sites)
    keeps_ranges = diagnoser.reference == "clipped"
    plans: list[Change | int] = [2**bits - 1 for bits in options.bits]
    plans += ["one more bit"] if worst else []
    plans += ["per channel"] if worst and not keeps_ranges and not has_many else []
    images = None if calibration is None or keeps_ranges else list(batches_of(calibration).batches)
    if images is None and not keeps_ranges:
        plans = []
    stage = Stage(progress, "other levels", len(plans), "networks")
    trials: list[LevelTrial] = []
    alone: dict[tuple[str, Change | int], float] = {}
    for plan in plans:
        copy = with_levels(
            diagnoser.model,
            plan if isinstance(plan, int) else None,
            images,
            add_bit=plan == "one more bit",
            per_channel=has_many or plan == "per channel",
        )
        changed = find_sites(copy)
        for site in worst if isinstance(plan, str) else ():
            if plan != "per channel" or changed[site.site].threshold.numel() > 1:
                alone[site.site, plan] = diagnoser.output_error((site.site,), copy).error
        change: Change = plan if isinstance(plan, str) else "levels"
        num_levels = plan if isinstance(plan, int) else None
        trials.append(LevelTrial(change, num_levels, diagnoser.output_error(diagnoser.sites, copy)))
        stage.advance()
    remedies = (
        SiteRemedy(
            site.site, site.own_effect**2 / total, site.own_effect, alone.get((site.site, "one more bit")),
            alone.get((site.site, "per channel")),
        )
        for site in worst
    )  # fmt: skip
    return tuple(trials), tuple(remedies)


def _try_codings(
    diagnoser: Diagnoser, options: DiagnosisOptions, progress: ProgressCallback | None
) -> tuple[CodingTrial, ...]:
    """The spiking network on the first images of the first batch, under each coding."""
    if not options.simulated_images:
        return ()
    images = diagnoser.batches[0].images[: options.simulated_images]
    output = diagnoser.run(images, 0, diagnoser.sites)
    trials = []
    for coding in options.codings:
        chosen = CodingOptions(coding)
        if CODINGS[coding].has_schedule:
            schedule = options.schedule or default_schedule(diagnoser.model)
            chosen = CodingOptions(coding, options.burst, schedule)
        label = coding_label(chosen)
        try:
            snn = convert(diagnoser.model, coding, images[:1], burst=chosen.burst, schedule=chosen.schedule)
        except ConversionError as error:
            trials.append(CodingTrial(label, tuple(str(obstacle) for obstacle in error.obstacles)))
            continue
        labels = output.argmax(dim=1).cpu() if output.dim() == 2 else None
        stage = Stage(progress, f"simulating {coding} coding", len(images) * options.time_steps, "image-steps")
        result = simulate(
            snn, (images, labels), options.time_steps, seed=options.seed, record_operations=False,
            progress=stage.advance,
        )  # fmt: skip
        trials.append(_coding_trial(label, result))
    return tuple(trials)


def _coding_trial(label: str, result: SimulationResult) -> CodingTrial:
    trial = CodingTrial(
        label,
        num_images=result.num_images,
        agreement=() if result.accuracy is None else tuple(result.accuracy.tolist()),
    )
    if result.settled_at is None:
        return trial
    settled = result.settled_at[result.settled_at > 0]
    mean, most = (float(settled.double().mean()), int(settled.max())) if len(settled) else (None, None)
    return replace(trial, num_settled=len(settled), mean_steps=mean, most_steps=most)


def run_diagnosis(
    checkpoint: DiagnosedCheckpoint | OpenedRun | str | Path,
    options: DiagnosisOptions = DiagnosisOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> DiagnosisRun:
    """Diagnose a checkpoint on test images; levels are tried with thresholds from training images (see `diagnose`).

    Args:
        checkpoint: the checkpoint and how to open it, its path alone, or an opened run, all of whose images are used.
        options: what to try.
        progress: called after each pass.

    Raises:
        MissingFileError, InputError: as `open_checkpoint` and `diagnose`.
    """
    count = DiagnosedCheckpoint.calibration_images
    if not isinstance(checkpoint, OpenedRun):
        chosen = checkpoint if isinstance(checkpoint, DiagnosedCheckpoint) else DiagnosedCheckpoint(Path(checkpoint))
        count = chosen.calibration_images
        checkpoint = _evenly_spaced(open_checkpoint(replace(chosen, max_images=None)), chosen.max_images)
    with intra_op_threads(checkpoint.threads):
        diagnosis = diagnose(
            checkpoint.model,
            checkpoint.images,
            options,
            calibration=training_images(checkpoint.data, count),
            batch_size=checkpoint.batch_size,
            progress=progress,
        )
    return DiagnosisRun(checkpoint, options, diagnosis)


def _evenly_spaced(opened: OpenedRun, count: int | None) -> OpenedRun:
    """The run with this many of its images, which may be in the order of their classes."""
    total = opened.num_images
    count = total if count is None else min(count, total)
    images = Subset(opened.images, [index * total // count for index in range(count)])
    return replace(opened, images=images, num_images=count)
