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

_NUMBERED_IN = "_numbered_in"
"""Attribute of a module that is called several times: mark of the module in whose forward its calls are numbered."""

_MARK = "_numbers_calls"
"""Attribute of that module: its mark, which is its path."""

Calls = Counter[Any]
"""Number of calls so far."""


class _Running(threading.local):
    def __init__(self) -> None:
        self.forwards: list[tuple[str, dict[nn.Module, Calls]]] = []


_RUNNING = _Running()


def number_calls(module: nn.Module, within: nn.Module, path: str) -> None:
    """From now on, number the calls of `module`, or those that its forward makes, in each forward of `within`.

    Args:
        module: a module that is called several times.
        within: the module whose one forward makes all these calls.
        path: of `within` in the network.
    """
    module.__dict__[_NUMBERED_IN] = path
    if _MARK not in within.__dict__:
        within.__dict__[_MARK] = path
        within.register_forward_pre_hook(_begin)
        within.register_forward_hook(_end, always_call=True)


def calls_of(module: nn.Module) -> Calls:
    """Calls so far; a new record for a module whose calls are not numbered beyond one forward of its own.

    Raises:
        InputError: the module is called outside the forward that numbers its calls.
    """
    path = module.__dict__.get(_NUMBERED_IN)
    if path is None:
        return Counter()
    for mark, records in reversed(_RUNNING.forwards):
        if mark == path:
            return records.setdefault(module, Counter())
    raise InputError(
        f"a {type(module).__name__} with sites of its own for each call is called outside the forward of "
        f"{path or 'the network'}, which numbers its calls",
        remedy="call the network itself; do not run parts of it alone, nor again in torch.utils.checkpoint",
    )


def _begin(module: nn.Module, *_: Any) -> None:
    _RUNNING.forwards.append((module.__dict__[_MARK], {}))


def _end(module: nn.Module, *_: Any) -> None:
    if _RUNNING.forwards and _RUNNING.forwards[-1][0] == module.__dict__[_MARK]:  # else another hook failed before
        _RUNNING.forwards.pop()
