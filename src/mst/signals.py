"""SIGTERM and Ctrl-C: the main process answers them when nothing can be lost, its worker processes never do.

A launcher or a terminal signals the whole group of processes. A worker that prepares images and dies of such a signal
takes the main process down, which still needs it to finish its step and to write its state.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

Batch = TypeVar("Batch")

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
    """Ignore the stop signals in a worker process, those included that are pending since its start.

    SIGTERM of the parent still ends the worker: PyTorch and Python send it to workers that do not answer, and then wait
    for them. On a system that does not reveal the sender of a signal (macOS), any SIGTERM ends the worker.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # for the thread to wait for
        threading.Thread(target=_end_when_parent_asks, daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _end_when_parent_asks() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)  # as PyTorch's own handler does


class SteadyLoader(DataLoader[Batch]):
    """A DataLoader whose worker processes never react to a stop signal that others send to the whole group.

    They are protected from their first moment: PyTorch installs its own handlers in a new worker before
    `worker_init_fn` runs, so a worker inherits the signals blocked. A signal that reaches the main process while it
    starts workers is delivered right after.

    Args:
        dataset, options: as for `DataLoader`; `worker_init_fn` is taken.
    """

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=leave_stop_signals_to_parent, **options)

    def __iter__(self) -> _BaseDataLoaderIter:
        with stop_signals_held():
            return super().__iter__()
