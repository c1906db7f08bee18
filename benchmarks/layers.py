"""Time QCFS and BatchNorm over tokens, forward and backward, against their plain forms in one run.

python benchmarks/layers.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import mst
from mst.models import TokenBatchNorm
from training_step import PlainQCFS, TransposingBatchNorm

SHAPES = ((128, 196, 48), (128, 49, 192), (64, 16, 48))


def seconds(module: nn.Module, shape: tuple[int, ...]) -> Callable[[], float]:
    """Return a function that times one forward and backward pass of `module`."""
    x, grad = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def once() -> float:
        began = time.perf_counter()
        module(x).backward(grad)
        return time.perf_counter() - began

    return once


def main() -> None:
    """Time each layer in its two forms and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="repetitions per layer and shape")
    rounds = parser.parse_args().rounds
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; milliseconds are medians of {rounds} rounds")
    for shape in SHAPES:
        channels = shape[-1]
        site = mst.QCFS()
        pairs = {
            "QCFS": (site, PlainQCFS(site)),
            "BatchNorm": (TokenBatchNorm(channels), TransposingBatchNorm(channels)),
        }
        for name, modules in pairs.items():
            timers = [seconds(module, shape) for module in modules]
            for timer in timers:
                timer()
            times = [[timer() for timer in timers] for _ in range(rounds)]
            fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            print(f"{name:>9} {shape!s:>15}: ours {1e3 * fast:7.3f} ms, plain {1e3 * slow:7.3f} ms, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
