"""Rate at which early exit keeps its promise: one run for each coding, its images split at random many times.

In each split a rule is chosen on validation images, to cost at most a stated accuracy with a stated confidence, and its
loss is measured on the others. The logits of each coding are kept in the output folder and used again.

python benchmarks/early_exit_splits.py digits --validation-images 120 --losses 5 2.5   (trains a small MST; 1 minute)
python benchmarks/early_exit_splits.py zoo:fashion-mnist-mst --max-images 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

import mst
from mst.data import first_readable
from mst.experiments import OpenedRun
from mst.files import write_json
from mst.neurons import SCHEDULES
from mst.simulation import DEFAULT_CONFIDENCE, EXIT_RULES, SimulationResult, calibrate_early_exits, exit_point

CODINGS = ("rate", *(f"lossless, {schedule}" for schedule in SCHEDULES))


@dataclass(frozen=True)
class Splits:
    """The choices on each split."""

    losses: Sequence[float]
    """Points of accuracy that early exit may cost."""

    confidence: float
    """Of each promise."""

    num_validation: int
    """Images that a rule is chosen on; the others measure its loss."""

    number: int
    """Splits."""


def main() -> None:
    """Simulate each coding once, split, print a table and write it as early_exit_splits.json."""
    options = parse()
    torch.manual_seed(0)
    opened = open_network(options)
    splits = Splits(options.losses, options.confidence, options.validation_images, options.splits)
    print(
        f"{splits.number} splits of {opened.num_images} images, {splits.num_validation} for validation; "
        f"confidence {100 * splits.confidence:g} %; accuracies in points, T: mean steps per image"
    )
    print(
        f"{'coding':<20}{'all T':>7}  {'rule':<10}{'allowed':>8}{'kept':>8}{'lost, mean':>12}{'max':>7}{'T':>7}"
        f"{'saved':>8}"
    )
    rows = []
    for coding in options.codings:
        result = simulated(opened, coding, options)
        for rule in EXIT_RULES:
            for row in outcomes(result, rule, splits):
                rows.append({"coding": coding, **row})
                print(
                    f"{coding:<20}{row['all_steps']:>7.2f}  {rule:<10}{row['allowed']:>8g}{100 * row['kept']:>7.1f}%"
                    f"{row['mean_loss']:>12.2f}{row['largest_loss']:>7.2f}{row['mean_steps']:>7.2f}"
                    f"{100 * row['steps_saved']:>7.1f}%",
                    flush=True,
                )
        facts = {"checkpoint": str(options.checkpoint), "num_images": opened.num_images, **splits.__dict__}
        write_json(options.output / "early_exit_splits.json", {**facts, "rows": rows})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="trained network, or the word digits, to train one")
    parser.add_argument("--data-path", type=Path, help="folder with the data set's files")
    parser.add_argument("--max-images", type=int, help="number of test images that are split; by default all")
    parser.add_argument("--validation-images", type=int, default=1000, help="number of them that a rule is chosen on")
    parser.add_argument("--splits", type=int, default=200, help="number of random splits")
    parser.add_argument("--losses", type=float, nargs="+", default=[1.0, 0.5], help="points that early exit may cost")
    parser.add_argument("--confidence", type=float, default=DEFAULT_CONFIDENCE, help="confidence of each promise")
    parser.add_argument("--codings", nargs="+", default=CODINGS, choices=CODINGS, help="codings to run")
    parser.add_argument("--burst", type=int, default=4, help="maximum spikes per neuron per step, lossless coding")
    parser.add_argument("--time-steps", type=int, default=64, help="T; lossless runs end once all images have settled")
    parser.add_argument("--output", type=Path, default=Path("runs/early-exit-splits"), help="folder for the results")
    return parser.parse_args()


def open_network(options: argparse.Namespace) -> OpenedRun:
    """The checkpoint, or a small MST trained on digits for a few epochs."""
    checkpoint = Path(options.checkpoint)
    if options.checkpoint == "digits":
        checkpoint = options.output / "digits" / "last.safetensors"
        if not checkpoint.exists():
            short = mst.TrainConfig(epochs=8, learning_rate=1e-2)
            mst.run_training(mst.TrainingOptions(train=short), options.output / "digits")
    return mst.open_checkpoint(
        mst.CheckpointOptions(checkpoint, data_path=options.data_path, max_images=options.max_images, device="cpu")
    )


def simulated(opened: OpenedRun, coding: str, options: argparse.Namespace) -> SimulationResult:
    """The run of a coding without early exit, from the output folder if it is there."""
    name = f"{options.checkpoint}-{coding}-{opened.num_images}".replace("/", "_").replace(", ", "-")
    file = options.output / f"{name}.pt"
    kind, _, schedule = coding.partition(", ")
    how: dict[str, Any] = {"schedule": schedule, "burst": options.burst} if schedule else {}
    snn = mst.convert(opened.model, kind, first_readable(opened.images)[0][None], **how)
    if not file.exists():
        result = mst.simulate(
            snn, opened.images, options.time_steps, keep_step_logits=True, record_operations=False, batch_size=32
        )
        kept = {field: getattr(result, field) for field in ("logits", "step_logits", "labels", "steps_taken")}
        options.output.mkdir(parents=True, exist_ok=True)
        torch.save(kept, file)
    kept = torch.load(file)
    return SimulationResult(
        kind, len(kept["step_logits"]), len(kept["labels"]), 0, accuracy=None, top5_accuracy=None, sites={},
        operations=(), seconds=0.0, uncounted=(), **kept,
    )  # fmt: skip


def outcomes(result: SimulationResult, rule: Any, splits: Splits) -> list[dict[str, Any]]:
    """One row for each loss allowed: how often it was kept on the other images, the losses and the steps."""
    generator = torch.Generator().manual_seed(0)
    points: list[list[tuple[float, float, float]]] = [[] for _ in splits.losses]
    for _ in range(splits.number):
        drawn = torch.randperm(result.num_images, generator=generator)
        seen, others = (of_images(result, part) for part in drawn.tensor_split([splits.num_validation]))
        found = calibrate_early_exits(seen, rule, [loss / 100 for loss in splits.losses], splits.confidence)
        for of_loss, calibration in zip(points, found, strict=True):
            point = exit_point(others, calibration.chosen.early_exit)
            of_loss.append((100 * point.loss, point.mean_steps, others.mean_steps))
    rows = []
    for allowed, of_loss in zip(splits.losses, points, strict=True):
        losses, steps, all_steps = zip(*of_loss, strict=True)
        rows.append({
            "rule": rule,
            "allowed": allowed,
            "kept": mean(loss <= allowed + 1e-9 for loss in losses),
            "mean_loss": mean(losses),
            "largest_loss": max(losses),
            "mean_steps": mean(steps),
            "all_steps": mean(all_steps),
            "steps_saved": 1 - mean(steps) / mean(all_steps),
        })  # fmt: skip
    return rows


def of_images(result: SimulationResult, which: Tensor) -> SimulationResult:
    """The part of a result that calibration reads, for these images only."""
    assert result.step_logits is not None
    assert result.labels is not None
    return replace(
        result, num_images=len(which), step_logits=result.step_logits[:, which], labels=result.labels[which],
        steps_taken=result.steps_taken[which],
    )  # fmt: skip


if __name__ == "__main__":
    main()
