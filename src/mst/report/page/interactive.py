"""Charts -> what plotly.js draws. Colours stay names of the theme, which the page resolves, light or dark."""

from __future__ import annotations

from typing import Any

from .charts import Bars, Chart, Line

_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}
_SYMBOLS = {"points": "diamond", "ticks": "line-ns-open"}


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """Data and layout of a chart for `Plotly.newPlot`."""
    data = [_line(line) for line in chart.lines]
    data += [_bars(bars, chart.categories) for bars in chart.bars]
    if chart.values:
        data.append({
            "type": "heatmap", "z": [list(row) for row in chart.values], "xgap": 0, "hoverongaps": False,
            "colorscale": [[0, "--wash"], [1, "--c0"]], "colorbar": {"thickness": 10, "outlinewidth": 0},
            "hovertemplate": "%{z:.3g}<extra></extra>",
        })  # fmt: skip
    return {"data": data, "layout": _layout(chart)}


def _line(line: Line) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter", "name": line.label, "x": list(line.x), "y": list(line.y), "showlegend": bool(line.label),
        "hovertemplate": f"%{{x:.6~g}}: %{{y:.4~g}}<extra>{_plain(line.label)}</extra>",
    }  # fmt: skip
    if line.style in _SYMBOLS:
        size, stroke = (9, 1.5) if line.style == "points" else (2 * line.width, 2)
        marker = {"color": line.colour, "symbol": _SYMBOLS[line.style], "size": size, "line": {"width": stroke}}
        return trace | {"mode": "markers", "marker": marker}
    return trace | {
        "mode": "lines",
        "line": {"color": line.colour, "width": line.width, "dash": _DASHES[line.style]},
    }


def _bars(bars: Bars, categories: Any) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "name": bars.label, "x": list(bars.values),
        "y": list(range(len(categories))), "marker": {"color": bars.colour},
        "text": [_plain(name) for name in categories], "textposition": "none",
        "hovertemplate": f"%{{text}}: %{{x:.4~g}}<extra>{_plain(bars.label)}</extra>",
    }  # fmt: skip


def _layout(chart: Chart) -> dict[str, Any]:
    x: dict[str, Any] = {"title": {"text": _plain(chart.x_label)}}
    y: dict[str, Any] = {"title": {"text": _plain(chart.y_label)}}
    for axis, ticks in ((x, chart.x_ticks), (y, chart.y_ticks)):
        if ticks:
            axis |= {"tickvals": [place for place, _ in ticks], "ticktext": [_plain(text) for _, text in ticks]}
    if chart.log_x:
        x["type"] = "log"
    for axis, limits in ((x, chart.x_range), (y, chart.y_range)):
        if limits is not None:
            axis["range"] = list(limits)
    if chart.bars:
        places = list(range(len(chart.categories)))
        y |= {"tickvals": places, "ticktext": [_plain(name) for name in chart.categories], "showgrid": False}
        y |= {"range": [len(places) - 0.5, -0.5]}
    if chart.values:
        x |= {"showgrid": False, "constrain": "domain"}
        y |= {"showgrid": False, "scaleanchor": "x", "autorange": "reversed", "constrain": "domain"}
    return {"height": chart.height, "barmode": "stack" if chart.stacked else "group", "xaxis": x, "yaxis": y}


def _plain(text: str) -> str:
    """A text without the marks that plotly would read as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
