"""The command that makes a run again, from the settings in its record."""

from __future__ import annotations

import shlex
from typing import Any

from mst.experiments.run_files import RunFiles, flat_settings

from .parser import POSITIONAL, verb_parser
from .verbs import VERBS


def command_of(files: RunFiles) -> str:
    """`mst VERB ...` with every option that differs from its default; the verb alone where it is not known here."""
    settings = files.record.part("settings")
    if files.verb not in VERBS or VERBS[files.verb].has_subcommands or settings is None:
        return f"mst {files.verb}"
    defaults = _flat(vars(verb_parser(files.verb, VERBS[files.verb].load()).get_defaults()))
    words = ["mst", files.verb]
    for name, value in flat_settings(settings):
        if name == "checkpoint" or name == POSITIONAL.get(files.verb):
            words.insert(2, str(value))
        elif value is not None and _text(value) != _text(defaults.get(name)):
            words += [f"--{name.replace('_', '-')}", _text(value)]
    return shlex.join(words)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value if isinstance(value, dict) else vars(value) if type(value).__name__ == "Namespace" else None
        flat |= {prefix + name: value} if inner is None else _flat(inner, f"{prefix}{name}.")
    return flat


def _text(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
