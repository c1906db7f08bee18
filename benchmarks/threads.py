"""Speed of networks on all threads against one. Forward passes and training steps of several sizes.

python benchmarks/threads.py            # on a machine that does nothing else
python benchmarks/threads.py --busy 1   # while another process keeps one core busy
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import mst
from mst.threads import count_macs, intra_op_threads

NETWORKS = {
    "mst_nano_patch2_window2_8": (1, 8, 8),
    "mst_mini_patch2_window7_28": (1, 28, 28),
    "resnet18_small": (3, 32, 32),
    "resnet18": (3, 64, 64),
}
BATCH_SIZES = (1, 4, 16, 64, 256)


def seconds(run: Callable[[], object], budget: float) -> float:
    """Median time of `run`."""
    run()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < budget and len(times) < 200):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def training_step(model: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    def step() -> None:
        model.train()
        model(images).square().mean().backward()

    return step


def forward(model: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    return run


def spin() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="other processes that compute all the time")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each figure")
    options = parser.parse_args()
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(options.busy)]
    for other in others:
        other.start()
    threads = torch.get_num_threads()
    print(f"{threads} threads, torch {torch.__version__}, {options.busy} busy processes; ms on 1 and on {threads}")
    for name, shape in NETWORKS.items():
        torch.manual_seed(0)
        model = mst.create_model(name, num_classes=10, in_chans=shape[0])
        macs = count_macs(model, shape)
        for batch_size in BATCH_SIZES:
            if macs * batch_size > 3e10:
                break
            images = torch.randn(max(2, batch_size), *shape)
            for kind, make in (("forward", forward), ("train", training_step)):
                figures = []
                for count in (1, threads):
                    with intra_op_threads(count):
                        figures.append(1e3 * seconds(make(model, images), options.budget))
                print(
                    f"{name:<28} {kind:<8} batch {len(images):>4} {macs * len(images) / 1e6:>10,.1f} M  "
                    f"{figures[0]:>9.2f} {figures[1]:>9.2f}  x{figures[0] / figures[1]:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
