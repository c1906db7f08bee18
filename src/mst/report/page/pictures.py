"""Charts -> pictures by matplotlib: SVG, for readers without JavaScript, for print and as files, and PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.files import write_atomically

from ..drawing import drawing
from .charts import Chart, Line
from .theme import THEME, custom_properties, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}
_MARKERS = {"points": "D", "ticks": "|"}
_PIXELS_PER_INCH = 90
WIDE, NARROW = 8.0, 4.8
"""Widths of pictures in inches: alone, and side by side."""


def svg_picture(chart: Chart, follows_theme: bool, width: float = WIDE) -> str:
    """The chart as SVG.

    Args:
        chart: the chart.
        follows_theme: dark where the reader's system is, by custom properties of CSS, which browsers know; otherwise
            plain colours on nothing, for other programs.
        width: in inches.
    """
    content = io.BytesIO()
    with drawing(width, chart.height / _PIXELS_PER_INCH) as figure:
        import matplotlib as mpl

        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.name, "font.family": "sans-serif"}):
            _draw(figure, chart)
            figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    if not follows_theme:
        return text
    for name, (colour, _) in THEME.items():
        text = text.replace(colour, f"var({name})")
    return text.replace("<defs>", f"<style>{custom_properties(':root')}</style><defs>", 1)


def write_pictures(chart: Chart, folder: Path) -> list[Path]:
    """Write NAME.svg and NAME.png into a folder."""
    svg, png = (folder / f"{chart.name}.{kind}" for kind in ("svg", "png"))
    text = svg_picture(chart, follows_theme=False)
    write_atomically(svg, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    with drawing(WIDE, chart.height / _PIXELS_PER_INCH) as figure:
        _draw(figure, chart)
        figure.suptitle(chart.title, fontsize=11)
        write_atomically(png, lambda temporary: figure.savefig(temporary, format="png", dpi=150))
    return [svg, png]


def _draw(figure: Figure, chart: Chart) -> None:
    axes = figure.subplots()
    if chart.values:
        _draw_map(figure, axes, chart)
    for line in chart.lines:
        _draw_line(axes, line)
    if chart.bars:
        _draw_bars(axes, chart)
    if chart.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
    for ticks, place in ((chart.x_ticks, axes.set_xticks), (chart.y_ticks, axes.set_yticks)):
        if ticks:
            place([at for at, _ in ticks], [_literal(text) for _, text in ticks])
    if chart.x_range is not None:
        axes.set_xlim(*chart.x_range)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    axes.set_xlabel(_literal(chart.x_label))
    axes.set_ylabel(_literal(chart.y_label))
    axes.grid(visible=False) if chart.values else axes.grid(color=light("--line"))
    if chart.bars:
        axes.grid(visible=False, axis="y")
    _colour_axes(axes)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2 if max(map(len, labels)) > 24 else 4, fontsize=8,
            labelcolor=light("--ink"),
        )  # fmt: skip


def _draw_line(axes: Axes, line: Line) -> None:
    how: dict[str, Any] = {"color": light(line.colour), "label": _literal(line.label) or "_"}
    if line.style in _MARKERS:
        how |= {"linestyle": "", "marker": _MARKERS[line.style], "markersize": 1.5 * line.width}
        how |= {"markeredgewidth": 1.4} if line.style == "ticks" else {}
    else:
        how |= {"linestyle": _DASHES[line.style], "linewidth": 0.8 * line.width}
    axes.plot(line.x, line.y, **how)


def _draw_bars(axes: Axes, chart: Chart) -> None:
    places = range(len(chart.categories))
    left = [0.0] * len(chart.categories)
    thickness = 0.7 if chart.stacked else 0.8 / len(chart.bars)
    for number, bars in enumerate(chart.bars):
        shift = 0.0 if chart.stacked else thickness * (number - (len(chart.bars) - 1) / 2)
        axes.barh(
            [place + shift for place in places], bars.values, left=left if chart.stacked else None, height=thickness,
            color=light(bars.colour), label=_literal(bars.label),
        )  # fmt: skip
        if chart.stacked:
            left = [end + value for end, value in zip(left, bars.values, strict=True)]
    axes.set_yticks(places, [_literal(name) for name in chart.categories], fontsize=8)
    axes.set_ylim(len(chart.categories) - 0.4, -0.6)


def _draw_map(figure: Figure, axes: Axes, chart: Chart) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours: Sequence[str] = [light("--wash"), light("--c0")]
    rows = [[float("nan") if value is None else value for value in row] for row in chart.values]
    drawn = axes.imshow(rows, cmap=LinearSegmentedColormap.from_list("map", colours), interpolation="nearest")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.ax.tick_params(colors=light("--ink"))
    bar.outline.set_visible(False)


def _colour_axes(axes: Axes) -> None:
    ink = light("--ink")
    axes.tick_params(colors=ink)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(ink)
    for spine in axes.spines.values():
        spine.set_color(light("--soft"))


def _literal(text: str) -> str:
    """A text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
