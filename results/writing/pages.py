"""Pages of Markdown whose tables stand between markers: <!-- table: NAME --> ... <!-- end -->."""

from __future__ import annotations

import re
from pathlib import Path

from .records import Records
from .tables import TABLES

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/results.md", "docs/zoo.md")
"""Pages that may hold markers."""

_BETWEEN = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class UnknownTableError(ValueError):
    """A marker that no function writes, or whose record is not there."""


def markers(text: str) -> list[str]:
    """Names of the tables in a page."""
    return [found[2] for found in _BETWEEN.finditer(text)]


def filled(text: str, records: Records) -> str:
    """The page with every table written from the records.

    Raises:
        UnknownTableError: a marker that no function writes, or whose record is not there.
    """

    def lines(found: re.Match[str]) -> str:
        name = found[2]
        if name not in TABLES:
            raise UnknownTableError(f"no function writes the table {name}; there are {', '.join(sorted(TABLES))}")
        try:
            rows = TABLES[name](records)
        except KeyError as error:
            raise UnknownTableError(f"the table {name} needs {error}: python results/run.py makes records") from error
        return "\n".join([found[1], *rows, "", found[4]])

    return _BETWEEN.sub(lines, text)
