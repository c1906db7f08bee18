"""Threads for compiled loops, as many as torch uses for its own operations.

They are threads of Python, not those of numba (`prange`). numba has a second OpenMP beside torch's, and each keeps its
idle threads turning for a while. On 2 cores with 10 busy processes, minima of 60 rounds: 131,072 neuron-steps took
0.10 ms on one thread, 0.20 ms on two of these, and 2.0 ms with `prange`, which waits for every thread; 20 million took
50, 42 and 45 ms. numba's layer for threads without OpenMP must not be entered by two threads of a program at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch

ELEMENTS_PER_THREAD = 1 << 17
"""Elements that are worth one more thread: a thread needs some 50 µs to wake up, and takes a neuron in 1 to 2 ns."""

PIECES_PER_THREAD = 4
"""A loop is cut into this many pieces per thread, which the threads take in turn, so that one that another program
keeps from its core holds the others up for one piece only."""

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()


def run_in_threads(loop: Callable[[int, int], object], units: int, elements: int) -> None:
    """Call `loop` for parts [begin, end) of the units, which together are all of them.

    Args:
        loop: must not hold the interpreter's lock, and parts must not touch the same memory.
        units: number of units.
        elements: neurons times steps of all units.
    """
    threads = min(torch.get_num_threads(), units, 1 + elements // ELEMENTS_PER_THREAD)
    if threads <= 1:
        loop(0, units)
        return
    pieces = min(units, threads * PIECES_PER_THREAD)
    bounds = [units * i // pieces for i in range(pieces + 1)]
    turn = count()

    def work() -> None:
        while (piece := next(turn)) < pieces:
            loop(bounds[piece], bounds[piece + 1])

    others = [_executor(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():  # one that has not begun finds nothing left to do
            other.result()


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="mst-neurons"), size
        return _pool


def _forget_pool() -> None:
    """In a process that has just been forked the threads are gone."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
