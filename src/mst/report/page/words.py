"""Figures as text."""

from __future__ import annotations


def per_cent(fraction: float | None) -> str:
    """A fraction in per cent, without the sign; empty for None."""
    return "" if fraction is None else f"{100 * fraction:.2f}"


def count(number: float | None) -> str:
    """A whole number, or the nearest one; empty for None."""
    return "" if number is None else f"{number:,.0f}"


def ratio(number: float | None) -> str:
    """A multiple; empty for None."""
    return "" if number is None else f"{number:.2f}x" if number >= 0.1 else f"{number:.2g}x"


def microjoules(picojoules: float | None) -> str:
    """An energy in µJ, without the unit; empty for None."""
    return "" if picojoules is None else f"{picojoules * 1e-6:,.4g}"
