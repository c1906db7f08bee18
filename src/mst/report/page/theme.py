"""Colours of the page and of its charts, light and dark. They stay apart for colour-blind readers (after Okabe and Ito,
2008, darker on white and lighter on black, so that each has a contrast of 4.5 or more to the paper)."""

from __future__ import annotations

THEME: dict[str, tuple[str, str]] = {
    "--paper": ("#ffffff", "#14181d"),
    "--ink": ("#1c2128", "#e4e7eb"),
    "--soft": ("#57606a", "#a3adb8"),
    "--line": ("#d7dce2", "#39414b"),
    "--wash": ("#f4f6f8", "#1d232a"),
    "--c0": ("#0069a6", "#56b4e9"),
    "--c1": ("#c1440e", "#f28e5c"),
    "--c2": ("#00755a", "#42c79b"),
    "--c3": ("#9a3f88", "#e094cf"),
    "--c4": ("#866000", "#e0b04a"),
    "--c5": ("#4f5d9c", "#a9b4f0"),
}
"""Name of a custom property of CSS -> its value on a light and on a dark page."""

SERIES = tuple(name for name in THEME if name.startswith("--c"))
"""Colours of series, in the order in which they are used."""

FIRST, SECOND, NEUTRAL = SERIES[0], SERIES[1], "--soft"


def series_colour(number: int) -> str:
    """The colour of the series with this number."""
    return SERIES[number % len(SERIES)]


def custom_properties(selector: str) -> str:
    """CSS that sets the colours, dark where the reader's system is."""
    light, dark = ("".join(f"{name}:{values[side]};" for name, values in THEME.items()) for side in (0, 1))
    return f"{selector}{{{light}}}@media screen and (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def light(name: str) -> str:
    """The value of a colour on white."""
    return THEME[name][0]
