"""Modules that a network calls several times in one pass: the number of the call that is running.

Weights may be shared over depth or time, so one module stands for several populations of neurons. Its calls are
numbered from 0 within one forward of the innermost module that is itself called once and makes all of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from torch import nn

from mst.errors import InputError

_NUMBERED = "_numbered"
"""Attribute of a module that is called several times: path of the module in whose forward its calls are numbered, and
its own. A tracer of torch may stand another object in the module's place, but with the attributes of the module."""

_NUMBERS = "_numbers"
"""Attribute of the module in whose forward calls are numbered: its path."""

Calls = Counter[Any]
"""Number of calls so far."""


class _Running(threading.local):
    def __init__(self) -> None:
        self.forwards: list[tuple[str, dict[str, Calls]]] = []


_RUNNING = _Running()


def number_calls(network: nn.Module, path: str, within: str) -> None:
    """From now on, number the calls of a module, or those that its forward makes, in each forward of another.

    Args:
        network: holds both.
        path: of a module that is called several times.
        within: path of the module whose one forward makes all these calls.
    """
    network.get_submodule(path).__dict__[_NUMBERED] = (within, path)
    outer = network.get_submodule(within)
    if _NUMBERS not in outer.__dict__:
        outer.__dict__[_NUMBERS] = within
        outer.register_forward_pre_hook(_begin)
        outer.register_forward_hook(_end, always_call=True)


def calls_of(module: nn.Module) -> Calls:
    """Calls so far; a new record for a module whose calls are not numbered beyond one forward of its own.

    Raises:
        InputError: the module is called outside the forward that numbers its calls.
    """
    if _NUMBERED not in module.__dict__:
        return Counter()
    within, path = module.__dict__[_NUMBERED]
    for outer, records in reversed(_RUNNING.forwards):
        if outer == within:
            return records.setdefault(path, Counter())
    raise InputError(
        f"a module with sites of its own for each call is called outside the forward of {within or 'the network'}, "
        "which numbers its calls",
        where=path,
        remedy="call the network itself; do not run parts of it alone, nor again in torch.utils.checkpoint",
    )


def _begin(module: nn.Module, *_: Any) -> None:
    _RUNNING.forwards.append((module.__dict__[_NUMBERS], {}))


def _end(module: nn.Module, *_: Any) -> None:
    if _RUNNING.forwards and _RUNNING.forwards[-1][0] == module.__dict__[_NUMBERS]:  # else another hook failed before
        _RUNNING.forwards.pop()
