"""`mst evaluate`: the accuracy of an ANN checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.experiments.options import EvaluationOptions
from mst.options import flatten

from .display import print_files, print_line

if TYPE_CHECKING:
    from mst.experiments import EvaluationRun


def evaluate(options: EvaluationOptions, output: Path = Path("runs/evaluate")) -> None:
    """Measure the accuracy of a checkpoint as an ANN, masks acting as they were trained.

    Writes evaluation.json and run_record.json.

    Example: mst evaluate runs/masked/last.safetensors

    Args:
        options: the network and the images.
        output: Folder for the results.
    """
    from mst.experiments import run_evaluation
    from mst.files import prepare_folder

    prepare_folder(output)
    report_evaluation(run_evaluation(options), output, {**flatten(options), "output": output}, options.seed)


def report_evaluation(run: EvaluationRun, output: Path, settings: Mapping[str, Any], seed: int) -> None:
    """Print the accuracy and write the files. Of several processes the first does."""
    from mst.distributed import is_main_process
    from mst.experiments import run_record, write_run_record
    from mst.files import write_json

    if not is_main_process():
        return
    result, facts = run.evaluation, run.opened.facts()
    print_line(
        f"ANN on {facts['dataset']}: top-1 {100 * result.accuracy:.2f} %, top-5 {100 * result.top5_accuracy:.2f} %, "
        f"{result.num_images} images, {run.images_per_second:,.0f} images/s; its activations are "
        f"{result.quanta_per_image:,.0f} quanta per image, {result.quanta_per_neuron:.2f} per neuron"
    )
    record = run_record("evaluate", settings, run.figures(), seed=seed, **facts)
    print_files(write_json(output / "evaluation.json", {**facts, **run.figures()}), write_run_record(output, record))
