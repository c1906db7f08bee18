"""Time of compiled neurons against operations of torch, interleaved in one process; minima of several rounds.

python benchmarks/neurons.py [--rounds N] [--threads 1 2] [--shapes 0 1 ...]

Freed memory is kept as by the command (`mst.heap`); --fresh-memory lets every output be zeroed again by the system.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mst.heap import keep_freed_memory
from mst.neurons import kernels
from mst.neurons.chunks import Chunk, SignedRule
from mst.threads import intra_op_threads

SHAPES = {
    "MST-tiny 224 px, T 8, batch 8": (8, 8, 3136, 96),
    "MST-tiny 224 px, T 2, batch 8, MLP": (2, 8, 3136, 384),
    "MST-tiny 224 px, T 1, batch 8, MLP": (1, 8, 3136, 384),
    "MST 28 px, T 4, batch 64": (4, 64, 196, 48),
    "MST 28 px, T 1, batch 64": (1, 64, 196, 48),
    "MST 8 px, T 8, batch 32": (8, 32, 16, 48),
}
"""[T, B, N, C]."""

RULES = {
    "signed, plain": (1, (1,), False),
    "signed, weighted": (1, (8, 4, 2, 1, 1), False),
    "signed, weighted, burst 4": (4, (8, 4, 2, 1, 1), False),
    "signed, free": (1, (1,), True),
    "signed, free, burst 4": (4, (1,), True),
}


def kinds(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Each kind of neuron as a function that computes a chunk of this shape, from the same state each time."""
    steps, images, _, channels = shape
    x, lam = torch.randn(shape) * 0.4, torch.tensor([1.0])
    per_channel = torch.rand(channels) + 0.5
    v = torch.full(shape[1:], 0.5)
    keep = torch.rand(shape) < 0.25
    levels = torch.randint(0, 17, shape[1:]).float()
    count = levels.clone()

    def rate(threshold: Tensor, mask: Tensor | None = None, by_neuron: bool = False) -> Callable[[], Chunk]:
        keeps = None if mask is None else mask.__getitem__
        return lambda: kernels.rate_chunk(x, v, threshold, images, keeps, by_neuron)

    def signed(burst: int, weights: tuple[int, ...], is_free: bool) -> Callable[[], Chunk]:
        in_chunk = (weights * steps)[:steps]
        rule = SignedRule(lam, 16, 0, None, burst, in_chunk, is_free)
        return lambda: kernels.signed_chunk(x, count.copy_(levels), rule, images)

    found: dict[str, Callable[[], object]] = {
        "rate": rate(lam),
        "rate, per channel": rate(per_channel),
        "rate, masked": rate(lam, keep),
        "rate, by neuron": rate(lam, by_neuron=True),
    }
    indices, number = torch.arange(images), shape[2] * channels
    found["masks of one step"] = lambda: kernels.keep_mask(indices, number, 0.75, seed=0, site="site", step=0)
    return found | {name: signed(*rule) for name, rule in RULES.items()}


def seconds(run: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Time every kind of neuron and print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="repetitions, of which the fastest counts")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--shapes", type=int, nargs="+", default=list(range(len(SHAPES))), help="numbers of shapes")
    parser.add_argument("--fresh-memory", action="store_true", help="give freed memory back to the system")
    options = parser.parse_args()
    if not options.fresh_memory:
        keep_freed_memory()
    kernels.MIN_NEURON_STEPS = 0
    print(f"numba {kernels.numba_version()}, torch {torch.__version__}; ms are minima of {options.rounds} rounds")
    for number in options.shapes:
        title, shape = list(SHAPES.items())[number]
        print(f"\n{title}: {shape}\n{'kind':<28}{'threads':>8}{'torch':>10}{'kernel':>10}{'ratio':>8}{'ns each':>9}")
        for name, run in kinds(shape).items():
            for threads in options.threads:
                with intra_op_threads(threads):
                    run()
                    plain, compiled = [], []
                    for _ in range(options.rounds):
                        with kernels.without_kernels():
                            plain.append(seconds(run))
                        compiled.append(seconds(run))
                slow, fast = min(plain), min(compiled)
                each = 1e9 * fast / torch.Size(shape).numel()
                print(
                    f"{name:<28}{threads:>8}{1e3 * slow:>10.2f}{1e3 * fast:>10.2f}{slow / fast:>8.2f}{each:>9.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
