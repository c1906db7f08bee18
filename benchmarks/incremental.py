"""Lossless runs of a checkpoint, whole and incremental, in passes of its ANN over the same images, in turns.

python benchmarks/incremental.py CHECKPOINT [--data-path DIR] [--images 2000] [--batch-size 100] [--bursts 4 1]
                                 [--schedules weighted free] [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import mst


def seconds_in_turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Label -> median seconds of its work; one round before the first is not counted."""
    seconds: dict[str, list[float]] = {label: [] for label in work}
    for _ in range(rounds + 1):
        for label, do in work.items():
            began = time.perf_counter()
            do()
            seconds[label].append(time.perf_counter() - began)
    return {label: statistics.median(each[1:]) for label, each in seconds.items()}


def main() -> None:
    """Print a row for each schedule and burst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-path", type=Path, help="folder with the files of the data set")
    parser.add_argument("--images", type=int, default=2000, help="first test images")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--bursts", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--schedules", nargs="+", default=["weighted", "free"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    network = mst.load_checkpoint(wanted.checkpoint).eval()
    test = mst.load_dataset(mst.DataOptions("fashion-mnist", wanted.data_path)).test
    images = torch.stack([test[number][0] for number in range(wanted.images)])

    @torch.no_grad()
    def ann() -> None:
        for batch in images.split(wanted.batch_size):
            network(batch)

    print(f"{wanted.images:,} images, batches of {wanted.batch_size}, {wanted.threads} threads, operations counted\n")
    print(
        "| schedule | burst | steps | whole | incremental | incremental, nothing counted |\n|---|---|---|---|---|---|"
    )
    for schedule in wanted.schedules:
        for burst in wanted.bursts:
            snn = mst.convert(network, "lossless", images[:1], schedule=schedule, burst=burst)

            def run(**options: bool) -> mst.SimulationResult:
                return mst.simulate(snn, images, 200, batch_size=wanted.batch_size, **options)  # noqa: B023

            work: dict[str, Callable[[], object]] = {
                "ann": ann,
                "whole": run,
                "incremental": lambda: run(incremental=True),
                "nothing": lambda: run(incremental=True, record_operations=False),
            }
            took, steps = seconds_in_turns(work, wanted.rounds), run(incremental=True).mean_steps
            ratios = " | ".join(f"{took[label] / took['ann']:.1f}x" for label in list(work)[1:])
            print(f"| {schedule} | {burst} | {steps:.1f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
