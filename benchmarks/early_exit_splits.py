"""Accuracy lost by early exit against the loss allowed: one run, its images split at random many times.

Each split has a validation half, on which the rule is chosen, and a test half, on which its loss is measured.

python benchmarks/early_exit_splits.py runs/fashion/last.safetensors [--max-images 2000] [--splits 20]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import mst
from mst.experiments import EXIT_LOSSES
from mst.simulation import EXIT_RULES, SimulationResult, calibrate_early_exits, exit_point


def of_images(result: SimulationResult, which: Tensor) -> SimulationResult:
    """The part of a result that calibration reads, for these images only."""
    assert result.step_logits is not None
    assert result.labels is not None
    return replace(
        result, num_images=len(which), step_logits=result.step_logits[:, which], labels=result.labels[which],
        steps_taken=result.steps_taken[which],
    )  # fmt: skip


def main() -> None:
    """Simulate each coding once and print the losses of early exit over the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="trained network")
    parser.add_argument("--max-images", type=int, default=2000, help="number of test images that are split")
    parser.add_argument("--splits", type=int, default=20, help="number of random splits")
    parser.add_argument("--time-steps", type=int, default=96, help="T of the simulation")
    parser.add_argument("--rate", action="store_true", help="run rate coding too; it takes longest")
    options = parser.parse_args()
    opened = mst.open_checkpoint(
        mst.CheckpointOptions(options.checkpoint, batch_size=32, max_images=options.max_images, device="cpu")
    )
    example, half = opened.images[0][0][None], opened.num_images // 2
    kinds = {
        f"lossless, {schedule}, burst {burst}": mst.convert(
            opened.model, "lossless", example, schedule=schedule, burst=burst
        )
        for schedule in ("staggered", "weighted")
        for burst in (1, 4)
    }
    if options.rate:
        kinds["rate"] = mst.convert(opened.model, "rate", example)
    print(
        f"{options.splits} splits into {half} validation and {opened.num_images - half} test images; points of accuracy"
    )
    print(f"{'coding':<32}{'rule':<11}{'allowed':>8}{'lost, mean':>12}{'max':>7}{'exceeded':>10}{'mean T':>8}")
    for name, snn in kinds.items():
        result = mst.simulate(snn, opened.images, options.time_steps, keep_step_logits=True, record_operations=False)
        generator = torch.Generator().manual_seed(0)
        parts = [torch.randperm(opened.num_images, generator=generator).split(half) for _ in range(options.splits)]
        for rule in EXIT_RULES:
            outcomes: list[list[tuple[float, float]]] = [[] for _ in EXIT_LOSSES]
            for validation, *test in parts:
                chosen = calibrate_early_exits(of_images(result, validation), rule, [p / 100 for p in EXIT_LOSSES])
                seen = of_images(result, torch.cat(test))
                for outcome, calibration in zip(outcomes, chosen, strict=True):
                    point = exit_point(seen, calibration.chosen.early_exit)
                    outcome.append((100 * point.loss, point.mean_steps))
            for allowed, outcome in zip(EXIT_LOSSES, outcomes, strict=True):
                lost = [points for points, _ in outcome]
                exceeded = sum(points > allowed + 1e-9 for points in lost)
                steps = mean(steps for _, steps in outcome)
                print(
                    f"{name:<32}{rule:<11}{allowed:>8g}{mean(lost):>12.2f}{max(lost):>7.2f}"
                    f"{exceeded:>5} of {len(lost):<2}{steps:>8.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
