"""Time until the ANN's accuracy is reached to 0.1 points: lossless coding against the plain loop under rate coding.

Both are timed for the steps that they need, in turns. The plain loop (`mst.measure.plain_loop`) sends the spikes that
`mst.simulate` sends, which therefore gives its accuracy at each step. 0.1 points of 1,000 images are one image.

python benchmarks/time_to_accuracy.py CHECKPOINT [--data-path DIR] [--images 1000] [--batch-size 100] [--time-steps 256]
                                      [--burst 4] [--schedule free] [--points 0.1] [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import mst
from mst.experiments import steps_to_within
from mst.measure.plain_loop import plain_copy, plain_loop


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print the steps that each needs, and their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-path", type=Path, help="folder with the files of Fashion-MNIST")
    parser.add_argument("--images", type=int, default=1000, help="first test images")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--time-steps", type=int, default=256, help="steps of rate coding to look at")
    parser.add_argument("--burst", type=int, default=4)
    parser.add_argument("--schedule", default="free")
    parser.add_argument("--points", type=float, default=0.1, help="points of accuracy below the ANN")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    network = mst.load_checkpoint(wanted.checkpoint).eval()
    test = mst.load_dataset(mst.DataOptions("fashion-mnist", wanted.data_path)).test
    pairs = [test[number] for number in range(wanted.images)]
    images, labels = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
    batches = images.split(wanted.batch_size)
    labelled = list(zip(batches, labels.split(wanted.batch_size), strict=True))
    ann = mst.evaluate(network, (images, labels)).accuracy
    rate = mst.convert(network, "rate", images[:1])
    lossless = mst.convert(network, "lossless", images[:1], schedule=wanted.schedule, burst=wanted.burst)

    def steps(snn: mst.SpikingNetwork, most: int) -> int | None:
        result = mst.simulate(snn, labelled, most, record_operations=False)
        return steps_to_within(result, ann, wanted.points)

    of_rate, of_lossless = steps(rate, wanted.time_steps), steps(lossless, wanted.time_steps)
    print(f"ANN {ann:.2%} of {len(images):,} images; within {wanted.points} points from step {of_rate} on under rate "
          f"coding, {of_lossless} under lossless coding ({wanted.schedule}, burst {wanted.burst})")  # fmt: skip
    if of_rate is None:
        print(f"rate coding does not get there in {wanted.time_steps} steps; the times are those of all of them")
    assert of_lossless is not None
    plain, last = plain_copy(rate), of_rate or wanted.time_steps
    work: dict[str, Callable[[], object]] = {
        "plain loop, rate coding": lambda: [plain_loop(plain, batch, last) for batch in batches],
        "lossless coding": lambda: mst.simulate(lossless, list(batches), of_lossless, incremental=True),
    }
    seconds: dict[str, list[float]] = {label: [] for label in work}
    for _ in range(wanted.rounds):
        for label, each in work.items():
            seconds[label].append(seconds_of(each))
    medians = {label: statistics.median(each) for label, each in seconds.items()}
    for label, median in medians.items():
        print(f"{label}: {median:.1f} s")
    first, second = medians.values()
    print(f"ratio: {first / second:.1f}x")


if __name__ == "__main__":
    main()
