"""Groups of options, and how they are laid flat: as options of a parser, as keys of YAML, as settings in a record.

A group is a frozen dataclass. A field that is itself a dataclass becomes a prefix ("train.epochs"), unless it carries
the metadata `FLAT`: then its fields stand beside the group's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from mst.errors import InputError
from mst.text import suggestion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FLAT: Mapping[str, Any] = {"flat": True}
"""Metadata of a field whose options carry no prefix."""

Group = TypeVar("Group", bound="DataclassInstance")


def add_group(parser: Any, group: type, skip: Collection[str] = ()) -> None:
    """Add the options of `group` to a jsonargparse parser; required fields become positional arguments.

    Args:
        parser: a jsonargparse.ArgumentParser.
        group: a dataclass. An option of its own hides one of the same name in a flat group within it.
        skip: options to leave out.
    """
    typed = _typed_fields(group)
    inner = {each.name: kind for each, kind in typed if each.metadata.get("flat")}
    own = {each.name for each, _ in typed} - set(inner)
    parser.add_class_arguments(group, None, instantiate=False, as_positional=True, skip=set(skip) | set(inner))
    for kind in inner.values():
        add_group(parser, kind, {*skip, *own})


def gather(group: type[Group], values: Mapping[str, Any], hidden: Collection[str] = ()) -> Group:
    """Build `group` from parsed values, as `add_group` has named them. Options that have no value keep their default.

    Args:
        group: a dataclass.
        values: option name -> value.
        hidden: options that keep their default whatever `values` say.

    Raises:
        InputError: values out of range or that do not go together.
    """
    arguments: dict[str, Any] = {}
    typed = _typed_fields(group)
    own = {each.name for each, _ in typed if not each.metadata.get("flat")}
    for each, kind in typed:
        if each.metadata.get("flat"):
            arguments[each.name] = gather(kind, values, {*hidden, *own})
        elif each.name in hidden or each.name not in values:
            continue
        elif is_dataclass(kind) and not is_dataclass(values[each.name]):
            arguments[each.name] = gather(kind, _mapping(values[each.name]))  # type: ignore[arg-type]
        else:
            arguments[each.name] = values[each.name]
    return group(**arguments)


def flatten(*groups: Any) -> dict[str, Any]:
    """Settings of the groups by option name; groups with a prefix become nested dictionaries."""
    flat: dict[str, Any] = {}
    for group in groups:
        inner: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for each in fields(group):
            value = getattr(group, each.name)
            if each.metadata.get("flat"):
                inner |= flatten(value)
            else:
                own[each.name] = flatten(value) if is_dataclass(value) else value
        flat |= inner | own
    return flat


def option_types(group: type, prefix: str = "") -> dict[str, str]:
    """Option name -> its type as text ("train.trackers" -> "tuple[str, ...]")."""
    types: dict[str, str] = {}
    for each, kind in _typed_fields(group):
        if is_dataclass(kind):
            inner = prefix if each.metadata.get("flat") else f"{prefix}{each.name}."
            types |= option_types(kind, inner)  # type: ignore[arg-type]
        else:
            types[prefix + each.name] = kind.__name__ if isinstance(kind, type) else str(kind)
    return types


def with_changes(options: Group, changes: Mapping[str, Any]) -> Group:
    """The same options with some of them changed, by their flat names ("train.epochs").

    Args:
        options: a group.
        changes: flat name -> new value.

    Raises:
        InputError: a name that is not an option (suggests the nearest), or a value out of range.
    """
    known = list(option_types(type(options)))
    for name in changes:
        if not _has(type(options), name):
            raise InputError(f"unknown option {name!r}", remedy=suggestion(name, known, f"known: {', '.join(known)}"))
    own: dict[str, Any] = {}
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in changes:
            own[each.name] = changes[each.name]
        elif is_dataclass(value) and not isinstance(value, type):
            prefix = "" if each.metadata.get("flat") else f"{each.name}."
            inner = {name.removeprefix(prefix): new for name, new in changes.items() if name.startswith(prefix)}
            inner = {name: new for name, new in inner.items() if _has(type(value), name)}
            own |= {each.name: with_changes(value, inner)} if inner else {}
    return replace(options, **own)


def _has(group: type, name: str) -> bool:
    known = option_types(group)
    return name in known or any(each.startswith(f"{name}.") for each in known)


def _typed_fields(group: type) -> list[tuple[Any, Any]]:
    hints = get_type_hints(group)
    return [(each, hints[each.name]) for each in fields(group)]


def _mapping(values: Any) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else vars(values)
