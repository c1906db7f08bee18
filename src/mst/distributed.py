"""Several processes as one: which images each of them takes, and how their results come together.

Processes are started from outside (torchrun, accelerate launch) and joined by torch.distributed. Each takes one
unbroken share of the images, none twice, and results meet once, at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")

PATIENCE = timedelta(days=1)
"""Limit of the wait for the other processes: equal shares of a long simulation do not end at the same minute."""


def num_processes() -> int:
    """Number of processes that work together; 1 if none were joined."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_index() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if num_processes() > 1 else 0


def is_main_process() -> bool:
    """True in the process that prints and writes."""
    return (process_index() if num_processes() > 1 else int(os.environ.get("RANK", 0))) == 0


def join_processes(device: str = "auto") -> torch.device | None:
    """Join the processes that torchrun or accelerate launch started; does nothing in a process started alone.

    Args:
        device: "cpu" joins by gloo, also where there are accelerators.

    Returns:
        The device of this process, or None if it was started alone.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    from accelerate import PartialState

    state = PartialState(cpu=runs_on_cpu(device), timeout=PATIENCE)
    return torch.device(state.device)


def leave_processes() -> None:
    """Part from the other processes, if any were joined."""
    if num_processes() > 1:
        distributed.destroy_process_group()


@contextmanager
def one_process_first() -> Iterator[None]:
    """On each machine one process does what stands in the block, then the others do: for downloads."""
    if num_processes() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().local_main_process_first():
        yield


def runs_on_cpu(device: str) -> bool:
    """True if "cpu" is asked for, or if the machine has no accelerator."""
    return device == "cpu" or not torch.accelerator.is_available()


def share_of(count: int) -> range:
    """Indices of this process's share of `count` images: contiguous, and each image in exactly one share."""
    index, total = process_index(), num_processes()
    return range(index * count // total, (index + 1) * count // total)


def gather_values(value: Value) -> list[Value]:
    """`value` of every process, in order; every process gets the list."""
    total = num_processes()
    if total == 1:
        return [value]
    values: list[Value | None] = [None] * total
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def largest_of(number: int, device: torch.device) -> int:
    """The largest `number` of any process."""
    if num_processes() == 1:
        return number
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)
