"""How tables are written, and where their functions are registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .records import Records

Table = Callable[[Records], list[str]]
"""Lines of a table."""

TABLES: dict[str, Table] = {}
"""Name in a marker -> the function that writes the table."""

NETWORKS = {
    "digits-mst": "MST, digits",
    "digits-dvs-mst": "MST, digits as events",
    "fashion-mnist-mst": "MST",
    "fashion-mnist-mst-masked": "MST, p = 0.75",
    "fashion-mnist-mst-4-bits": "MST, sites at products, 4 bits",
    "fashion-mnist-resnet18": "ResNet-18",
    "fashion-mnist-resnet18-masked": "ResNet-18, p = 0.75",
    "fashion-mnist-resnet18-few-spikes": "ResNet-18, few spikes",
    "fashion-mnist-vit-6-bits": "ViT, sites at products, 6 bits",
}
"""Network of the zoo -> what it is called in tables."""

FASHION_MNIST = [name for name in NETWORKS if name.startswith("fashion-mnist")]


def named(name: str) -> Callable[[Table], Table]:
    """Register the function of a table."""

    def register(function: Table) -> Table:
        TABLES[name] = function
        return function

    return register


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in Markdown, line by line."""
    lines = [columns, ["---"] * len(columns), *rows]
    assert all(len(line) == len(columns) for line in lines)
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def short_percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def times(ratio: float | None) -> str:
    """A multiple of an ANN's energy."""
    return "" if ratio is None else f"{ratio:.2f}x"


def million(number: float) -> str:
    """A number of spikes in a few digits."""
    if number < 1e5:
        return f"{number:,.0f}"
    return f"{number / 1e6:.2f} M" if number < 1e7 else f"{number / 1e6:.1f} M"


def at_steps(accuracy: Sequence[float], steps: Sequence[int]) -> list[str]:
    """Accuracy after each of the steps; after the last one it stays."""
    return [percent(accuracy[min(step, len(accuracy)) - 1]) for step in steps]
