"""Threads for compiled loops, as many as torch uses for its own operations.

Where torch uses GNU's OpenMP (its packages for Linux do), they are torch's own threads. After each operation these wait
for the next one without letting go of their cores, for some milliseconds, so other threads have to share the cores with
them. On 2 cores, in a simulation of the MST at 224 px, neurons took 22 to 26 ms per image and step on threads of Python
and 13 to 16 on those of torch.

Elsewhere they are threads of Python, not those of numba (`prange`), which has an OpenMP of its own, whose idle threads
wait in the same way. With 10 busy processes on 2 cores, minima of 60 rounds: 131,072 neuron-steps took 0.10 ms on one
thread, 0.20 ms on two of Python and 2.0 ms with `prange`; 20 million took 50, 42 and 45 ms. numba's layer for threads
without OpenMP must not be entered by two threads of a program at once.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path

import torch

ELEMENTS_PER_TORCH_THREAD = 1 << 16
"""Elements for each of torch's threads that are worth a call of all of them: it takes 25 µs and more, a neuron takes a
thread 1 to 2 ns."""

ELEMENTS_PER_THREAD = 1 << 17
"""Elements that are worth one more thread of Python, which needs some 50 µs to wake up."""

PIECES_PER_THREAD = 4
"""A loop is cut into this many pieces per thread, which the threads take in turn, so that one that another program
keeps from its core holds the others up for one piece only."""

Work = Callable[[], None]

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()
_is_forked = False


def run_in_threads(loop: Callable[[int, int], object], units: int, elements: int) -> None:
    """Call `loop` for parts [begin, end) of the units, which together are all of them.

    Args:
        loop: must not hold the interpreter's lock, and parts must not touch the same memory.
        units: number of units.
        elements: neurons times steps of all units.
    """
    most = min(torch.get_num_threads(), units)
    is_worth_all = most > 1 and elements >= most * ELEMENTS_PER_TORCH_THREAD
    takes_torch = is_worth_all and not _is_forked and _torch_threads() is not None
    threads = most if takes_torch else min(most, 1 + elements // ELEMENTS_PER_THREAD)
    if threads <= 1:
        loop(0, units)
        return
    pieces = min(units, threads * PIECES_PER_THREAD)
    bounds = [units * i // pieces for i in range(pieces + 1)]
    turn = count()

    def work() -> None:
        while (piece := next(turn)) < pieces:
            loop(bounds[piece], bounds[piece + 1])

    if takes_torch:
        _run_in_torch_threads(work)
        return
    others = [_executor(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():  # one that has not begun finds nothing left to do
            other.result()


# --------------------------------------------------------------------------------- threads of torch

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_works: dict[int, Work] = {}
_errors: dict[int, BaseException] = {}
_numbers = count(1)


def _run_work(number: int) -> None:
    """Called by each thread of OpenMP. An error would be lost here, so it is kept for `_run_in_torch_threads`."""
    try:
        _works[number]()
    except BaseException as error:
        _errors[number] = error


_callback = _Callback(_run_work)
"""Kept for as long as the program runs, because OpenMP calls it."""


def _run_in_torch_threads(work: Work) -> None:
    """Call `work` once in each of torch's threads.

    It is always all of them: OpenMP ends those that one call does not use, and starts them again for the next.
    """
    start = _torch_threads()
    assert start is not None
    number = next(_numbers)
    _works[number] = work
    try:
        start(_callback, number, torch.get_num_threads(), 0)
    finally:
        del _works[number]
        error = _errors.pop(number, None)
    if error is not None:
        raise error


@cache
def _torch_threads() -> Callable[..., None] | None:
    """The function of GNU's OpenMP that starts a parallel region, from the copy that torch uses; None without one."""
    if sys.platform != "linux" or not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return None
    path = _openmp_of_torch(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace"))
    if path is None:
        return None
    start = ctypes.CDLL(path).GOMP_parallel
    start.argtypes, start.restype = (_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return start


def _openmp_of_torch(maps: str) -> str | None:
    """The path of the GNU OpenMP that torch has loaded, from the memory map of the process; None if it is not certain.

    A package may bring a copy of its own (scikit-learn does): that of torch lies beside torch, or is the only one. Nor
    is it certain where another OpenMP is loaded, which torch may have been built for.
    """
    files = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/" in line and len(line.split(maxsplit=5)) > 5}
    gnu = [each for each in files if Path(each).name.startswith("libgomp")]
    beside_torch = [each for each in gnu if Path(each).is_relative_to(Path(torch.__file__).parent)]
    others = [each for each in files if Path(each).name.startswith(("libiomp", "libomp"))]
    if len(beside_torch) == 1:
        return beside_torch[0]
    return gnu[0] if len(gnu) == 1 and not beside_torch and not others else None


# -------------------------------------------------------------------------------- threads of Python


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="mst-neurons"), size
        return _pool


def _forget_pool() -> None:
    """In a process that has just been forked the threads are gone, and GNU's OpenMP would wait for its own for ever."""
    global _pool, _lock, _is_forked
    _pool, _lock, _is_forked = None, threading.Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
