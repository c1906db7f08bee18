"""Option groups: laid flat on a parser, gathered from values, changed by name."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from jsonargparse import ArgumentParser

from mst.errors import InputError
from mst.options import FLAT, add_group, flatten, gather, option_types, with_changes


@dataclass(frozen=True)
class Inner:
    size: int = 3
    """Size."""

    name: str = "inner"
    """Name."""


@dataclass(frozen=True)
class Outer:
    place: str
    """Place."""

    name: str = "outer"
    """Hides the inner group's name."""

    beside: Inner = field(default=Inner(), metadata=FLAT)
    """Laid beside the outer options."""

    within: Inner = Inner()
    """With a prefix."""

    def __post_init__(self) -> None:
        if not self.place:
            raise InputError("place must not be empty")


def parsed(*words: str) -> Outer:
    parser = ArgumentParser(exit_on_error=False)
    add_group(parser, Outer)
    return gather(Outer, vars(parser.parse_args(list(words))))


def test_add_group_and_gather_give_the_group_back() -> None:
    assert parsed("here") == Outer("here")
    outer = parsed("here", "--size", "5", "--within.size", "7", "--name", "n", "--within.name", "w")
    assert outer == Outer("here", "n", Inner(5), Inner(7, "w"))


def test_gather_checks_values() -> None:
    with pytest.raises(InputError, match="place must not be empty"):
        parsed("")


def test_flatten_keeps_prefixes_and_lets_own_options_win() -> None:
    flat = flatten(Outer("here", "n", Inner(5, "hidden")))
    assert flat == {"place": "here", "name": "n", "size": 5, "within": {"size": 3, "name": "inner"}}


def test_option_types_name_every_option() -> None:
    assert option_types(Outer) == {
        "place": "str", "name": "str", "size": "int", "within.size": "int", "within.name": "str",
    }  # fmt: skip


def test_with_changes_reaches_flat_and_prefixed_options() -> None:
    changed = with_changes(Outer("here"), {"size": 9, "within.size": 8, "place": "there"})
    assert changed == Outer("there", beside=Inner(9), within=Inner(8))


def test_with_changes_refuses_unknown_names_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown option 'within\.sise'; did you mean within\.size"):
        with_changes(Outer("here"), {"within.sise": 8})
