"""Option dataclasses: change some of their fields by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from mst.errors import InputError
from mst.text import nearest_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def with_changes(options: Options, changes: Mapping[str, Any]) -> Options:
    """The same options with some fields changed.

    Args:
        options: a dataclass.
        changes: field name -> new value.

    Raises:
        InputError: a name that is not a field; suggests the nearest.
    """
    known = [field.name for field in fields(options) if field.init]
    for name in changes:
        if name not in known:
            raise InputError(f"unknown option {name!r}{nearest_name(name, known)} Known: {', '.join(known)}")
    return replace(options, **changes)
