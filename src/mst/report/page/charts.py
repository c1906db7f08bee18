"""Charts as data: what is drawn, whichever way it is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .markup import Table

Style = Literal["solid", "dashed", "dotted", "points", "ticks"]
"""A line; a marker at each value; a short upright stroke at each value, as in a raster of spikes."""

MOST_ROWS = 400
"""Rows of the table beside a chart; a chart with more has none."""


@dataclass(frozen=True)
class Line:
    """Values against values."""

    label: str
    """Name in the legend; empty for a line that is explained elsewhere."""

    x: Sequence[float]
    y: Sequence[float]

    colour: str
    """A name of `THEME`."""

    style: Style = "solid"

    width: float = 2.0
    """In pixels; of markers, half of their size."""


@dataclass(frozen=True)
class Bars:
    """One bar for each category of the chart."""

    label: str
    """Name in the legend."""

    values: Sequence[float]

    colour: str
    """A name of `THEME`."""


@dataclass(frozen=True)
class Chart:
    """One figure: lines, horizontal bars, or a map of values."""

    name: str
    """Of its files and of its place in the page: letters, digits and dashes."""

    title: str

    caption: str
    """What to look at."""

    x_label: str
    """With unit."""

    y_label: str = ""
    """With unit."""

    lines: Sequence[Line] = ()

    categories: Sequence[str] = ()
    """Of bars, from above."""

    bars: Sequence[Bars] = ()

    stacked: bool = False
    """Bars of a category end to end instead of side by side."""

    values: Sequence[Sequence[float | None]] = ()
    """Of a map, row by row from above; None: a gap."""

    x_ticks: Sequence[tuple[float, str]] = ()
    """Places and texts on the x axis; by default chosen by the renderer."""

    y_ticks: Sequence[tuple[float, str]] = ()

    log_x: bool = False

    x_range: tuple[float, float] | None = None

    y_range: tuple[float, float] | None = None

    height: int = 360
    """In pixels."""

    def table(self) -> Table | None:
        """The values as a table; None for a map, a raster or too many values."""
        if self.bars:
            rows = [
                [name, *(_figure(bars.values[number]) for bars in self.bars)]
                for number, name in enumerate(self.categories)
            ]
            return Table(f"{self.title}: {self.x_label}", ["", *(bars.label for bars in self.bars)], rows)
        lines = [line for line in self.lines if line.label and line.style != "ticks"]
        places = sorted({x for line in lines for x in line.x})
        if not lines or not 0 < len(places) <= MOST_ROWS:
            return None
        known = [dict(zip(line.x, line.y, strict=True)) for line in lines]
        rows = [[_figure(x), *(_figure(each.get(x)) for each in known)] for x in places]
        return Table(f"{self.title}: {self.y_label}", [self.x_label, *(line.label for line in lines)], rows)


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def steps_axis(num_steps: int) -> tuple[bool, list[tuple[float, str]]]:
    """`log_x` and `x_ticks` of an axis of time steps: powers of two where there are many."""
    if num_steps <= 10:
        return False, [(t, str(t)) for t in range(1, num_steps + 1)]
    return True, [(2**k, str(2**k)) for k in range(num_steps.bit_length()) if 2**k <= num_steps]
