"""A training in a process of its own, on a core that a small network leaves idle."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mst.experiments import TrainingOptions
    from mst.training import EpochRecord


def has_idle_core() -> bool:
    """True if a second training on one thread would not slow down the first: on a CPU, with a core for each."""
    from mst.distributed import runs_on_cpu
    from mst.threads import VARIABLES, usable_cores

    numbers = {os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return usable_cores() > 1 and numbers <= {"1"} and "WORLD_SIZE" not in os.environ and runs_on_cpu("auto")


class TrainingBeside:
    """A training that runs in another process from now on, with the results that it would have in this one.

    Args:
        options: the network, the images and how to train.
        folder: for everything that the training writes.
    """

    def __init__(self, options: TrainingOptions, folder: Path) -> None:
        self._folder = folder
        context = multiprocessing.get_context("spawn")  # a fork would take over locks of torch's threads
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_train, args=(options, folder, sender), daemon=True)
        self._process.start()
        sender.close()  # so that the end of the process is seen here

    def finish(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        """Wait for the end of the training; `on_epoch` is called with the record of each epoch.

        Raises:
            Exception: the error that ended the training.
            RuntimeError: the process was killed.
        """
        try:
            while (message := self._receiver.recv()) is not None:
                if isinstance(message, Exception):
                    raise message
                on_epoch(message)
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the process that trained {self._folder} ended early (exit code {self._process.exitcode})"
            ) from None
        self._process.join()

    def stop(self) -> None:
        """End the process if it still runs; its training state is written first."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()


def _train(options: TrainingOptions, folder: Path, sender: Connection) -> None:
    from mst.experiments import run_training
    from mst.heap import keep_freed_memory

    keep_freed_memory()
    try:
        # An epoch's record takes some 250 bytes and a pipe holds 64 KiB, so the training need not wait for the reader.
        run_training(options, folder, on_epoch=sender.send)
        _send(sender, None)
    except KeyboardInterrupt:
        sender.close()
    except Exception as error:
        _send(sender, error)


def _send(sender: Connection, message: Any) -> None:
    """Send the last message; there may be no reader left."""
    try:
        sender.send(message)
    except OSError:
        pass
    finally:
        sender.close()
