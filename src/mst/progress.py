"""Reports of long computations, for whoever wants to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of one stage of a computation.

    Within one run each stage reports with a `done` that grows up to `total`.
    """

    stage: str
    """Name of the stage, for people ("training digits-mst", "simulating 64 steps")."""

    done: int
    """Units done so far in this stage."""

    total: int
    """Units in this stage."""

    unit: str
    """Unit of the counts ("steps", "image-steps", "images")."""

    detail: str = ""
    """The latest figure, if there is one ("loss 0.123")."""


ProgressCallback = Callable[[Progress], None]
"""Called from time to time with the state of the stage at hand. Must return quickly."""


class Stage:
    """Counts what is done in one stage and reports it.

    Args:
        report: the caller's callback; None: no reports.
        name, total, unit: see `Progress`.
    """

    def __init__(self, report: ProgressCallback | None, name: str, total: int, unit: str) -> None:
        self._report = report
        self._name, self._total, self._unit = name, total, unit
        self._done = 0
        self.advance(0)

    def advance(self, amount: int = 1, detail: str = "") -> None:
        """Report that `amount` more units are done."""
        self._done += amount
        if self._report is not None:
            self._report(Progress(self._name, self._done, self._total, self._unit, detail))
