"""HTML from texts. What is not markup already is escaped, so that no name in a record becomes a part of the page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


_VOID = ("img", "meta")


def element(tag: str, *children: str | None, **attributes: str | None) -> Markup:
    """An HTML element.

    Args:
        tag: its name.
        children: markup, or texts that are escaped; None is left out.
        attributes: underscores become dashes and one at the end is dropped (`class_`, `aria_label`); None is left out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{shown}>")
    return Markup(f"<{tag}{shown}>{joined(*children)}</{tag}>")


def joined(*children: str | None) -> Markup:
    """Markup and escaped texts one after another."""
    return Markup(
        "".join(
            each if isinstance(each, Markup) else html.escape(each, quote=False)
            for each in children
            if each is not None
        )
    )


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    caption: str
    """What the table shows, with units."""

    headings: Sequence[str]
    """Of the columns."""

    rows: Sequence[Sequence[str]]
    """Texts."""

    words: frozenset[int] = frozenset()
    """Numbers of the columns that hold words rather than figures."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headings) for row in self.rows), self.caption

    def markup(self) -> Markup:
        """The table, in a frame that scrolls sideways where it is too narrow."""
        head = (
            element("th", text, scope="col", class_=self._kind(column)) for column, text in enumerate(self.headings)
        )
        table = element(
            "table",
            element("caption", self.caption),
            element("thead", element("tr", *head)),
            element("tbody", *(self._row(row) for row in self.rows)),
        )
        return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=self.caption)

    def _row(self, row: Sequence[str]) -> Markup:
        cells = (element("td", text, class_=self._kind(column)) for column, text in enumerate(row) if column)
        return element("tr", element("th", row[0], scope="row"), *cells)

    def _kind(self, column: int) -> str | None:
        return None if column == 0 or column in self.words else "figure"


def paragraphs(*texts: str) -> Markup:
    """Each text as a paragraph."""
    return joined(*(element("p", text) for text in texts))


def bullets(texts: Sequence[str]) -> Markup:
    """An unordered list."""
    return element("ul", *(element("li", text) for text in texts))


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """A list of terms and what they are; pairs without a value are left out."""
    entries = (element("div", element("dt", term), element("dd", value)) for term, value in pairs if value)
    return element("dl", *entries, class_="facts")


def folded(summary: str, *children: str) -> Markup:
    """Content that opens at a click."""
    return element("details", element("summary", summary), *children)
