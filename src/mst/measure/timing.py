"""Times of several computations that take turns in one run, rates of the machine, peak memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from mst.heap import give_back_freed_memory

_PRODUCT, _COPY = 1024, 2**24
"""Rows of the square matrices, and elements of the copy, that the rates of a machine are measured with."""


@dataclass(frozen=True)
class MachineRates:
    """Measured rates of one device."""

    macs_per_second: float
    """Multiply-accumulates of a product of two large float32 matrices."""

    bytes_per_second: float
    """Bytes read and written by a copy larger than the caches."""

    def floor_seconds(self, macs: float, num_bytes: float) -> float:
        """Duration of these operations and this traffic at the measured rates, one after the other."""
        return macs / self.macs_per_second + num_bytes / self.bytes_per_second


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, tuple[float, ...]]:
    """Seconds of each run in each round, in which all take turns, so that other load meets all alike.

    A first round is not timed.

    Args:
        runs: name -> computation.
        rounds: >= 1.
        device: where they compute.
        advance: called after each computation, (rounds + 1)·len(runs) times.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            wait_for(device)
            began = time.perf_counter()
            run()
            wait_for(device)
            if number:
                seconds[name].append(time.perf_counter() - began)
            advance()
    return {name: tuple(values) for name, values in seconds.items()}


def measure_machine(device: torch.device, rounds: int = 5) -> MachineRates:
    """The rates of a device with the present number of threads, medians of some rounds."""
    a, b = (torch.randn(_PRODUCT, _PRODUCT, device=device) for _ in range(2))
    source = torch.randn(_COPY, device=device)
    target = torch.empty_like(source)
    seconds = interleaved({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, rounds, device)
    return MachineRates(_PRODUCT**3 / median(seconds["product"]), 8 * _COPY / median(seconds["copy"]))


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory in bytes while `run` runs: resident memory of this process, or memory in use on a CUDA device. None
    where the system does not say."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        wait_for(device)
        return torch.cuda.max_memory_allocated(device)
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    gc.collect()
    give_back_freed_memory()  # of the computations before
    try:
        reset.write_text("5")
        run()
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return 1024 * int(line.split()[1])
