"""The style of all figures, and what they share. matplotlib is loaded when a figure is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANN_COLOUR, SNN_COLOUR, AC_COLOUR = "#444444", "#c1440e", "#2a6f97"
CURVE_COLOURS = ("#c1440e", "#2a6f97", "#2d7d46", "#7b4fa3", "#b8860b")

FIGURE_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def drawing(width: float, height: float, grid: bool = True) -> Iterator[Figure]:
    """An empty figure in the style of all figures, for the block.

    Args:
        width, height: in inches.
        grid: draw lines at the ticks.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({**FIGURE_STYLE, "axes.grid": grid}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def shade(fraction: float) -> Any:
    """A colour from dark to light for a number in [0, 1]."""
    import matplotlib as mpl

    return mpl.colormaps["viridis"](fraction)


def label_time_axis(axes: Any, longest: int) -> None:
    """Mark steps 1...T at powers of two."""
    if longest > 1:
        axes.set_xscale("log", base=2)
        ticks = [2**k for k in range(longest.bit_length()) if 2**k <= longest]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.set_xlim(1, longest)
    axes.set_xlabel("time steps T")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a .png, whole or not at all."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=150))
    return path
