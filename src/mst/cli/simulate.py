"""`mst simulate`: a checkpoint as a spiking network, accuracy at every time step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from mst.convert import Coding, convert
from mst.data import BadImages
from mst.report import (
    accuracy_table,
    accuracy_vs_time,
    firing_rates,
    run_record,
    simulation_record,
    site_table,
    write_json,
    write_run_record,
)
from mst.simulate import SimulationResult, simulate_dataset
from mst.train import Evaluation, evaluate_dataset, is_main_process, share_of

from .common import OpenedRun, console, masking_ratio_of, open_run, prepare_output, print_files, progress_bar, remark
from .recordings import draw_first_recording


def simulate(
    checkpoint: Path,
    dataset: str | None = None,
    data_path: Path | None = None,
    time_steps: int = 64,
    output: Path = Path("runs/simulate"),
    coding: Coding = "rate",
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
    time, and as an animation.

    On several devices: torchrun --nproc_per_node 8 -m mst simulate ...

    Example: mst simulate runs/masked/last.safetensors --time-steps 128

    Args:
        checkpoint: a .safetensors file of `mst train` or `mst import`.
        dataset: name; the checkpoint's own by default.
        data_path: folder with the data set's files.
        time_steps: T; the one run gives the accuracy at every t <= T.
        output: folder for the results.
        coding: how spikes carry activations.
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
    report_simulation(opened, output, settings, time_steps, coding, steps_per_chunk, seed, slices)


def report_simulation(
    opened: OpenedRun,
    output: Path,
    settings: Mapping[str, Any],
    time_steps: int,
    coding: Coding,
    steps_per_chunk: int | None,
    seed: int,
    slices: int | None = None,
) -> SimulationResult:
    """Simulate, print the tables, write the files. Of several processes all get the result and the first reports."""
    prepare_output(output)
    simulated = run_both(opened, time_steps, coding, steps_per_chunk, seed, slices)
    if not is_main_process():
        return simulated.result
    result, ann_accuracy = simulated.result, simulated.ann_accuracy
    label = f"p = {masking_ratio_of(opened.model):g}"
    console.print(accuracy_table({label: result}, {label: ann_accuracy}))
    console.print(site_table(result))
    assert result.accuracy is not None
    shown = "" if slices is None else f", {slices} slices over time"
    title = f"{opened.data.info.name}, {result.num_images} test images, {coding} coding{shown}"
    written = [
        write_json(
            output / "simulation.json", simulation_record(result, ann_accuracy, slices=slices, **opened.facts())
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
        "num_images": result.num_images,
        "seconds": result.seconds,
    }
    record = run_record("simulate", settings, results, seed=seed, **opened.facts())
    print_files(*written, write_run_record(output, record))
    return result


@dataclass(frozen=True)
class Simulated:
    """An SNN's run, and its ANN's on the same images with masks of the same seed."""

    result: SimulationResult
    evaluation: Evaluation

    @property
    def ann_accuracy(self) -> float:
        """A fraction."""
        return self.evaluation.accuracy


def run_both(
    opened: OpenedRun,
    time_steps: int,
    coding: Coding,
    steps_per_chunk: int | None,
    seed: int,
    slices: int | None = None,
) -> Simulated:
    """Evaluate the ANN, convert it, simulate the SNN on the same images, or on slices of the same recordings."""
    if time_steps < 1:
        raise ValueError(f"time_steps (T) must be at least 1, got {time_steps}")
    if slices is not None and not 1 <= slices <= time_steps:
        raise ValueError(f"slices must be from 1 to the {time_steps} time steps, got {slices}")
    seen = opened.images
    if slices is not None:
        seen = Subset(opened.data.test_in_slices(slices), range(opened.num_images))
    snn = convert(opened.model, coding, opened.images[0][0][None])
    for said in snn.remarks:
        remark(said)
    batches: dict[str, Any] = {"batch_size": opened.batch_size, "num_workers": opened.num_workers}
    evaluation = evaluate_dataset(opened.model, opened.images, seed=seed, **batches)
    own_image_steps = len(share_of(opened.num_images)) * time_steps
    with progress_bar(f"simulating {time_steps} steps", own_image_steps, "image-steps") as advance:
        result = simulate_dataset(
            snn, seen, time_steps, steps_per_chunk=steps_per_chunk, seed=seed, progress=advance,
            in_slices=slices is not None, **batches,
        )  # fmt: skip
    if result.num_images < opened.num_images:
        remark(f"{opened.num_images - result.num_images} of {opened.num_images} test images could not be read and are "
               "not counted")  # fmt: skip
    return Simulated(result, evaluation)
