"""Number of threads that share one operation on a CPU.

PyTorch uses all cores for every operation. If an operation is small, the threads mostly wait for each other; if another
program keeps a core busy, all threads wait for the one that is not running, and a small network becomes many times
slower. So the number of threads follows from the work: one thread for every `MACS_PER_THREAD` of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mst.errors import InputError
from mst.text import note

MACS_PER_THREAD = 125_000_000
"""Multiply-accumulate operations of a forward pass that are worth one more thread.

With 250 million in a batch two threads were 1.5 times as fast as one on a machine without other work, with 60 million
1.3 times, with 15 million not at all; beside another busy process they were up to 17 times slower than one
(benchmarks/threads.py).
"""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which users set the number of threads."""


def choose_threads(model: nn.Module, image_shape: Sequence[int], batch_size: int, requested: int | None = None) -> int:
    """Number of threads for a network: min(present number, max(1, MACs of a batch / `MACS_PER_THREAD`)).

    A choice of the user is kept: `requested`, the environment variables OMP_NUM_THREADS and MKL_NUM_THREADS, or a
    number that the program has set with `torch.set_num_threads`. A number below PyTorch's is reported as a note. This
    function changes nothing; `intra_op_threads` does.

    Args:
        model: [B, *image_shape] -> anything. It is run once on one image of zeros.
        image_shape: shape of one image.
        batch_size: images per forward pass. For a spiking network, images times the steps computed at once.
        requested: the user's choice, at least 1; None leaves the choice to this function.

    Returns:
        A number of threads, at least 1.

    Raises:
        InputError: `requested` is below 1.

    Limits: a program that has set exactly the number of cores looks like one that has set nothing; it should pass
        `requested`. On an accelerator the present number is returned.
    """
    present = torch.get_num_threads()
    if requested is not None:
        if requested < 1:
            raise InputError(f"threads must be at least 1, got {requested}")
        return requested
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    if present == 1 or device != "cpu" or _set_by_user(present):
        return present
    macs = batch_size * count_macs(model, image_shape)
    chosen = min(present, max(1, macs // MACS_PER_THREAD))
    if chosen < present:
        note(
            f"computing on {chosen} of {present} threads: a batch has only {macs / 1e6:,.0f} million multiplications, "
            "and more threads would wait for each other; --threads or OMP_NUM_THREADS sets another number"
        )
    return chosen


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Use `count` threads within the block; the former number is restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_macs(model: nn.Module, image_shape: Sequence[int]) -> int:
    """Multiply-accumulate operations of a forward pass with one image of zeros, in evaluation mode.

    Counts linear maps, convolutions and products of activations. Returns the number of parameters if the model cannot
    be run on such an image.
    """
    modes = [(module, module.training) for module in model.modules()]
    like = next(model.parameters(), torch.zeros(()))
    counter = FlopCounterMode(display=False)
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), counter:
            model(torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device))
        return counter.get_total_flops() // 2
    except Exception:  # the run itself will report the error
        return sum(parameter.numel() for parameter in model.parameters())
    finally:
        for module, training in modes:
            module.training = training


def _set_by_user(present: int) -> bool:
    return any(os.environ.get(name) for name in VARIABLES) or present not in _default_numbers()


def _default_numbers() -> set[int]:
    """Numbers that PyTorch chooses by itself, depending on its build: logical or physical cores."""
    logical = os.cpu_count() or 1
    siblings = {path.read_text() for path in Path("/sys/devices/system/cpu").glob("cpu*/topology/thread_siblings_list")}
    return {logical, usable_cores(), len(siblings) or logical}


def usable_cores() -> int:
    """Number of logical cores on which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
