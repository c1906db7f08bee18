"""The module at a site, whether QCFS or spiking neuron: which of them answers a call of an activation.

An activation that is called several times in one forward has a site for each call. The forward of the module around it
then runs inside a redirection (`mst.quantization.redirection`), which tells the calls apart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn


class Redirection(Protocol):
    """Something that knows which site answers a call in the forward that is running."""

    def answering(self, called: Site) -> Site:
        """The site that answers this call of `called`."""


class _Running(threading.local):
    def __init__(self) -> None:
        self.redirections: list[Redirection] = []
        self.noted: list[Site] | None = None


_RUNNING = _Running()


def running_redirections() -> list[Redirection]:
    """The redirections of the forwards that run in this thread, the innermost last; to be pushed to and popped from."""
    return _RUNNING.redirections


@contextmanager
def noting_sites() -> Iterator[list[Site]]:
    """Within the block the sites that this thread reaches are appended to the list, without hooks: torch computes some
    layers otherwise where there are hooks."""
    before, _RUNNING.noted = _RUNNING.noted, []
    try:
        yield _RUNNING.noted
    finally:
        _RUNNING.noted = before


class Site(nn.Module):
    """Base class of the modules that stand at sites.

    Attributes:
        overwrites_input: True if the site stands for an activation in place whose input is read again later: the
            output is then written over the input too.
    """

    overwrites_input: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The output for one tensor, which may be given by whatever keyword the activation of before had."""
        (x,) = (*args, *kwargs.values())
        redirections = _RUNNING.redirections
        site = redirections[-1].answering(self) if redirections else self
        return answer(site, x)


def answer(site: Site, x: Tensor) -> Tensor:
    """The output of `site` for x, any shape; x itself, overwritten, if the site overwrites its input."""
    if _RUNNING.noted is not None:
        _RUNNING.noted.append(site)
    if not site.overwrites_input:
        y: Tensor = nn.Module.__call__(site, x)
        return y
    return x.copy_(nn.Module.__call__(site, x.clone()))
