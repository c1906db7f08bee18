"""The page: sections become HTML, charts become figures, everything in one file that loads nothing."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from .charts import Chart
from .interactive import plotly_figure
from .markup import Markup, Table, element, folded, joined
from .pictures import NARROW, WIDE, svg_picture
from .section import Block, Gallery, Section
from .theme import THEME, custom_properties

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""Nothing is loaded, whatever a record holds: the browser refuses."""


@dataclass(frozen=True)
class Page:
    """What the page says."""

    title: str
    """The heading of the whole."""

    lead: str
    """A sentence below it."""

    sections: Sequence[Section]
    """In order."""

    foot: str
    """The last line."""


def html_page(page: Page, library: str) -> str:
    """The whole page.

    Args:
        page: its content.
        library: plotly.js; it is embedded once, compressed.
    """
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", page.title),
        Markup(f"<style>{custom_properties(':root')}{_file('style.css')}</style>"),
    )
    links = (element("li", element("a", each.title, href=f"#{each.name}")) for each in page.sections)
    body = joined(
        element("a", "Skip to the results", href="#main", class_="skip"),
        element("header", element("h1", page.title), element("p", page.lead, class_="lead")),
        element("nav", element("ul", *links), aria_label="Contents"),
        element("main", *(_section(each) for each in page.sections), id="main"),
        element("footer", element("p", page.foot)),
        element("script", _packed(library), type="application/gzip", id="plotly"),
        element(
            "script", _json({name: list(values) for name, values in THEME.items()}), type="application/json", id="theme"
        ),
        Markup(f"<script>{_file('script.js')}</script>"),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def plotly_library() -> str:
    """plotly.js of the installed plotly.

    Raises:
        ModuleNotFoundError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _packed(text: str) -> Markup:
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def _json(value: object) -> Markup:
    """JSON that may stand in a script: no end of the script, no comment in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _section(section: Section) -> Markup:
    heading = element("h2", section.title, id=f"{section.name}-title")
    blocks = (_block(block) for block in section.blocks)
    return element("section", heading, *blocks, id=section.name, aria_labelledby=f"{section.name}-title")


def _block(block: Block) -> Markup:
    if isinstance(block, Chart):
        return _figure(block)
    if isinstance(block, Gallery):
        return element("div", *(_figure(chart, NARROW) for chart in block.charts), class_="gallery")
    return block.markup() if isinstance(block, Table) else block


def _figure(chart: Chart, width: float = WIDE) -> Markup:
    picture = base64.b64encode(svg_picture(chart, True, width).encode()).decode()
    table = chart.table()
    return element(
        "figure",
        element("h3", chart.title, id=f"{chart.name}-title"),
        element(
            "img", class_="still", src=f"data:image/svg+xml;base64,{picture}", alt=f"{chart.title}. {chart.caption}"
        ),
        element("div", class_="plot", role="img", aria_label=f"{chart.title}. {chart.caption}"),
        element("script", _json(plotly_figure(chart)), type="application/json"),
        element("figcaption", chart.caption),
        folded("Values as a table", table.markup()) if table is not None else None,
        class_="chart",
        id=chart.name,
        aria_labelledby=f"{chart.name}-title",
    )
