"""`mst simulate`: a checkpoint as a spiking network, accuracy at every time step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mst.conversion import Coding
from mst.data import BadImages
from mst.distributed import is_main_process
from mst.files import write_json
from mst.neurons import ScheduleName
from mst.report import (
    accuracy_table,
    accuracy_vs_time,
    firing_rates,
    run_record,
    simulation_record,
    site_table,
    write_run_record,
)
from mst.simulation import ExitRule, SimulationResult

from .common import OpenedRun, console, masking_ratio_of, open_run, prepare_output, print_files
from .recordings import draw_first_recording
from .spiking_run import CodingOptions, ExitOptions, about_steps, run_both


def simulate(
    checkpoint: Path,
    dataset: str | None = None,
    data_path: Path | None = None,
    time_steps: int = 64,
    output: Path = Path("runs/simulate"),
    coding: Coding = "rate",
    burst: int = 1,
    schedule: ScheduleName | None = None,
    resting_images: int = 0,
    input_steps: int = 1,
    early_exit: ExitRule | None = None,
    exit: ExitOptions = ExitOptions(),  # noqa: B008  --exit.loss; frozen
    slices: int | None = None,
    batch_size: int = 32,
    steps_per_chunk: int | None = None,
    max_images: int | None = None,
    masking_ratio: float | None = None,
    mask_sites: tuple[str, ...] | None = None,
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
) -> None:
    """Convert a checkpoint to a spiking network and run it on test images.

    Prints accuracy against time steps and the firing rate of every site. Writes simulation.json,
    accuracy_vs_time.png, firing_rates.png and run_record.json; of event data also a recording as frames, in space and
    time, and as an animation. With --coding lossless the SNN's answer becomes the ANN's after some steps, and the run
    ends there. `mst compare` puts both codings side by side.

    On several devices: torchrun --nproc_per_node 8 -m mst simulate ...

    Example: mst simulate runs/masked/last.safetensors --time-steps 128

    Example: mst simulate runs/masked/last.safetensors --coding lossless --burst 4

    Args:
        checkpoint: a .safetensors file of `mst train` or `mst import`.
        dataset: name; the checkpoint's own by default.
        data_path: folder with the data set's files.
        time_steps: T; the one run gives the accuracy at every t <= T.
        output: folder for the results.
        coding: how spikes carry activations: rate, by their mean over time; lossless, by signed spikes that send what
            has changed, until the answer equals the ANN's.
        burst: lossless: most spikes of a neuron in one step; more need fewer steps.
        schedule: lossless: weighted (the default), where a spike is worth 8, 4, 2, 1, 1 quanta in turn (for L = 16) and
            the fewest are needed; with spikes of one quantum: staggered, deeper sites start later; plain, all at once.
        resting_images: lossless: neurons start from their median level over so many training images; 0: from nothing.
        input_steps: lossless: spread the image over so many steps.
        early_exit: let an image leave once its answer is safe: margin, the largest logit is far above the next;
            stability, the prediction has not changed for some steps. The value is chosen on validation images.
        exit: what early exit may cost.
        slices: cut each recording of an event camera into so many parts over time and show them one after another, as
            many steps each as T allows; T of them give each step its own. By default every step sees the whole
            recording. For networks that were trained with --events.num-bins 1.
        batch_size: images at once; more may pay on a GPU, fewer need less memory.
        steps_per_chunk: time steps computed at once; changes the speed, and the result by float32 rounding only.
        max_images: use the first so many test images only.
        masking_ratio: other than the checkpoint's.
        mask_sites: where that ratio acts, and nowhere else: all, attention, mlp, a role or a glob of site names; by
            default where the checkpoint masks.
        seed: of the masks.
        device: auto, cpu, cuda, cuda:1, mps, ...
        num_workers: processes that prepare images.
        on_bad_image: at an image file or a recording that cannot be read: fail, or skip it and say so.
    """
    settings = dict(locals())
    options = CodingOptions(coding, burst, schedule, resting_images, input_steps)
    prepare_output(output)
    opened = open_run(
        checkpoint,
        dataset,
        data_path,
        batch_size,
        max_images,
        masking_ratio,
        device,
        num_workers,
        on_bad_image,
        mask_sites,
    )
    report_simulation(opened, output, settings, time_steps, options, steps_per_chunk, seed, slices, early_exit, exit)


def report_simulation(
    opened: OpenedRun,
    output: Path,
    settings: Mapping[str, Any],
    time_steps: int,
    options: CodingOptions,
    steps_per_chunk: int | None,
    seed: int,
    slices: int | None = None,
    early_exit: ExitRule | None = None,
    exit_options: ExitOptions = ExitOptions(),  # noqa: B008  frozen
) -> SimulationResult:
    """Simulate, print the tables, write the files. Of several processes all get the result and the first reports."""
    prepare_output(output)
    simulated = run_both(opened, time_steps, options, steps_per_chunk, seed, slices, early_exit, exit_options)
    if not is_main_process():
        return simulated.result
    result, ann_accuracy = simulated.result, simulated.ann_accuracy
    label = f"p = {masking_ratio_of(opened.model):g}"
    console.print(accuracy_table({label: result}, {label: ann_accuracy}))
    console.print(site_table(result))
    for line in about_steps(simulated):
        console.print(line, highlight=False, soft_wrap=True)
    assert result.accuracy is not None
    shown = "" if slices is None else f", {slices} slices over time"
    title = f"{opened.data.info.name}, {result.num_images} test images, {options.coding} coding{shown}"
    written = [
        write_json(
            output / "simulation.json",
            simulation_record(
                result,
                ann_accuracy,
                slices=slices,
                options=asdict(options),
                quanta_per_image=simulated.quanta_per_image,
                early_exit_calibration=simulated.calibration,
                **opened.facts(),
            ),
        ),
        accuracy_vs_time(
            {label: result.accuracy.tolist()}, {label: ann_accuracy}, output / "accuracy_vs_time.png", title
        ),
        firing_rates(result.firing_rates, result.firing_rate, output / "firing_rates.png"),
        *draw_first_recording(opened.data, output),
    ]
    results = {
        "ann_accuracy": ann_accuracy,
        "snn_accuracy": float(result.accuracy[-1]),
        "firing_rate": result.firing_rate,
        "spikes_per_image": result.spikes_per_image,
        "mean_steps": result.mean_steps,
        "num_images": result.num_images,
        "seconds": result.seconds,
    }
    record = run_record("simulate", settings, results, seed=seed, **opened.facts())
    print_files(*written, write_run_record(output, record))
    return result
