"""`mst compare`: codings of one checkpoint side by side, on the same images in one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.experiments.options import CheckpointOptions, ComparisonOptions
from mst.options import flatten

from .display import print_files, print_line, progress_bar

if TYPE_CHECKING:
    from mst.experiments import ComparisonRun


def compare(checkpoint: CheckpointOptions, codings: ComparisonOptions, output: Path = Path("runs/compare")) -> None:
    """Run a checkpoint under rate coding and under several kinds of lossless coding, on the same images.

    Prints for each the accuracy, time steps, spikes, operations, energy and time; what it needs to come within 1, 0.5
    and 0.1 points of the ANN; and early exit that costs at most 1 and 0.5 points, each with 95 % confidence over the
    draw of the validation images. Writes codings.md, codings.json, codings.png (accuracy against time steps and
    against spikes), early_exit.png and run_record.json.

    Example: mst compare runs/fashion/last.safetensors --max-images 2000

    Args:
        checkpoint: the network and the images.
        codings: the codings to compare.
        output: Folder for the results.
    """
    from mst.distributed import is_main_process
    from mst.experiments import run_comparison
    from mst.files import prepare_folder

    prepare_folder(output)
    settings = {**flatten(checkpoint, codings), "output": output}
    written: list[Path] = []

    def keep(run: ComparisonRun) -> None:  # a comparison that is cut short leaves what it has
        if is_main_process():
            written[:] = _write(run, output, settings, codings.seed)

    with progress_bar() as progress:
        run_comparison(checkpoint, codings, progress=progress, on_coding=keep)
    if is_main_process():
        print_line(written[0].read_text(encoding="utf-8"))
        print_files(*written)


def _write(run: ComparisonRun, output: Path, settings: Mapping[str, Any], seed: int) -> list[Path]:
    from mst.experiments import coding_rows, run_record, write_run_record
    from mst.files import write_json, write_text
    from mst.report import codings_against_cost, codings_markdown, early_exit_curves

    facts = run.opened.facts()
    rows = coding_rows(run.ann, run.runs)
    title = f"{facts['dataset']}, {run.ann.num_images} test images"
    heading = f"Codings of {run.opened.checkpoint.name} on {title}"
    record = run_record("compare", settings, {row["coding"]: row["within"] for row in rows}, seed=seed, **facts)
    return [
        write_text(output / "codings.md", codings_markdown(run.ann, rows, heading)),
        write_json(output / "codings.json", {"ann": run.ann, "rows": rows, **facts}),
        codings_against_cost(run.ann, run.runs, output / "codings.png", title),
        early_exit_curves(run.ann, run.runs, output / "early_exit.png", title),
        write_run_record(output, record),
    ]
