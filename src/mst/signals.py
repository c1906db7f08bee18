"""SIGTERM and Ctrl-C: the main process answers them when nothing can be lost, its worker processes never do.

A launcher or a terminal signals the whole group of processes. A worker that prepares images and dies of such a signal
takes the main process down, which still needs it to finish its step and to write its state.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar
from weakref import WeakSet

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

Batch = TypeVar("Batch")

_iterators: WeakSet[Any] = WeakSet()
"""Iterators whose workers may be alive."""

_workers: WeakSet[Any] = WeakSet()
"""Worker processes that may be alive, also those whose iterator is gone."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask a program to end."""


class StopRequest:
    """While active, SIGTERM and a first Ctrl-C are noted in `signal`; a second Ctrl-C interrupts at once.

    Python handles signals in the main thread only; in another thread this context changes nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Keep the stop signals of this thread pending; they are delivered when the block ends.

    Processes and threads that start within the block inherit the mask: they are never without protection.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows has neither fork nor these signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_stop_signals_to_parent(worker: int) -> None:
    """Ignore the stop signals in a worker process, those included that are pending since its start."""
    del worker
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class SteadyLoader(DataLoader[Batch]):
    """A DataLoader whose worker processes never react to SIGTERM or Ctrl-C, from their first moment to their last.

    PyTorch gives a new worker handlers of its own before `worker_init_fn` runs; until then the worker has the signals
    blocked, as it inherited them. A signal that reaches the main process while it starts workers is delivered right
    after.

    Args:
        dataset, options: as for `DataLoader`; `worker_init_fn` is taken.
    """

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=leave_stop_signals_to_parent, **options)

    def __iter__(self) -> _BaseDataLoaderIter:
        with stop_signals_held():
            batches = super().__iter__()
        if self.num_workers:
            _iterators.add(batches)
            _workers.update(batches._workers)  # type: ignore[attr-defined]
        return batches


@atexit.register
def _end_workers() -> None:
    """At the end of the program, end the workers that an unfinished iterator has left.

    Python's multiprocessing would send them SIGTERM, which they ignore, and wait for them without limit. This function
    runs before that, because it is registered later.
    """
    for batches in list(_iterators):
        batches._shutdown_workers()  # asks them to end, and waits some seconds
    for worker in list(_workers):  # an iterator that is gone may have waited in vain
        if worker.is_alive():
            worker.kill()
