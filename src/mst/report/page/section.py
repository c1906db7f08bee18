"""A section of the page, before it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .charts import Chart
from .markup import Markup, Table


@dataclass(frozen=True)
class Gallery:
    """Charts side by side where there is room."""

    charts: Sequence[Chart]
    """At least one."""


Block = Markup | Chart | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    name: str
    """Of its place in the page."""

    title: str
    """The heading."""

    blocks: Sequence[Block]
    """From above."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts of the section."""
        found: list[Chart] = []
        for block in self.blocks:
            found += [block] if isinstance(block, Chart) else block.charts if isinstance(block, Gallery) else []
        return tuple(found)
