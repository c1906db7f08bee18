"""`mst evaluate`: the accuracy of an ANN checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mst.data import BadImages
from mst.distributed import is_main_process
from mst.files import write_json
from mst.report import run_record, write_run_record
from mst.training import evaluate as evaluate_network

from .common import OpenedRun, console, open_run, prepare_output, print_files


def evaluate(
    checkpoint: Path,
    dataset: str | None = None,
    data_path: Path | None = None,
    output: Path = Path("runs/evaluate"),
    batch_size: int = 256,
    max_images: int | None = None,
    masking_ratio: float | None = None,
    mask_sites: tuple[str, ...] | None = None,
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
) -> None:
    """Measure the accuracy of a checkpoint as an ANN, masks acting as they were trained.

    Writes evaluation.json and run_record.json.

    Example: mst evaluate runs/masked/last.safetensors

    Args:
        checkpoint: a .safetensors file of `mst train` or `mst import`.
        dataset: name; the checkpoint's own by default.
        data_path: folder with the data set's files.
        output: folder for the results.
        batch_size: images at once.
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
    report_evaluation(opened, output, settings, seed)


def report_evaluation(opened: OpenedRun, output: Path, settings: Mapping[str, Any], seed: int) -> None:
    """Evaluate, print the accuracy, write the files."""
    prepare_output(output)
    began = time.perf_counter()
    result = evaluate_network(
        opened.model, opened.images, batch_size=opened.batch_size, num_workers=opened.num_workers, seed=seed
    )
    seconds = time.perf_counter() - began
    if not is_main_process():
        return
    figures = {
        "ann_accuracy": result.accuracy,
        "ann_top5_accuracy": result.top5_accuracy,
        "num_images": result.num_images,
        "quanta_per_neuron": result.quanta_per_neuron,
        "quanta_per_image": result.quanta_per_image,
        "images_per_second": result.num_images / seconds,
    }
    top1, top5 = 100 * result.accuracy, 100 * result.top5_accuracy
    console.print(
        f"ANN on {opened.data.info.name}: top-1 {top1:.2f} %, top-5 {top5:.2f} %, {result.num_images} images, "
        f"{result.num_images / seconds:,.0f} images/s; its activations are {result.quanta_per_image:,.0f} quanta per "
        f"image, {result.quanta_per_neuron:.2f} per neuron",
        highlight=False,
    )
    record = run_record("evaluate", settings, figures, seed=seed, **opened.facts())
    print_files(write_json(output / "evaluation.json", {**opened.facts(), **figures}), write_run_record(output, record))
