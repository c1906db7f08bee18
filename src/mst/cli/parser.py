"""From an argument list to a call of a verb's function, whose signature defines its options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from jsonargparse import CLI, ArgumentParser

from mst.recipes import recipe_names, recipe_path
from mst.text import nearest_name

FREE_OPTIONS = "model_kwargs."
"""Options whose types the signature does not show: what has a comma is a list, and so are these."""

LIST_KWARGS = ("model_kwargs.depths", "model_kwargs.num_heads")

OPTIONS_FILE = "options.json"
"""What `mst train` was called with, in its output folder; `--resume` reads it."""

POSITIONAL = {"import": "weights"}
"""Verb -> the option that a first word without dashes is taken for."""

ACTIONS = {"datasets": ("check", "show", "events-from", "download")}
"""Verb -> first words that are options in disguise: `datasets events-from FOLDER`."""

Verbs = Mapping[str, Callable[..., None]]

DESCRIPTION = (
    "Train a Transformer with quantised activations, mask its spikes, convert it to a spiking neural network, "
    "simulate it over time steps and measure what it costs. `mst VERB --help` explains a verb."
)


class VerbParser(ArgumentParser):  # type: ignore[misc]
    """Shows options with dashes, as they are typed; underscores are understood too. No abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help text."""
        return _with_dashes(super().format_help(*args, **kwargs))

    def format_usage(self, *args: Any, **kwargs: Any) -> str:
        """The line of usage."""
        return _with_dashes(super().format_usage(*args, **kwargs))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line instead of the whole usage, then exit code 2.

        Raises:
            SystemExit: always.
        """
        parser = getattr(ex, "subcommand_parser", None) or self
        verb = parser.prog.replace(" [options]", "")
        unknown = re.match(r"unrecognized arguments: --([\w.]+)", message.strip())
        if unknown:
            known = [o[2:] for action in parser._actions for o in action.option_strings if o.startswith("--")]
            message = f"unknown option --{unknown[1]}{nearest_name(unknown[1], known)}"
        self.exit(2, f"mst: error: {_with_dashes(' '.join(message.split()))} (see {verb} --help)\n")
        raise AssertionError("exit returned")


def _with_dashes(text: str) -> str:
    return re.sub(r"--[\w.]+", lambda match: match[0].replace("_", "-"), text)


def run_verb(verbs: Verbs, argv: Sequence[str]) -> None:
    """Parse `argv` and call the verb it names.

    Raises:
        SystemExit: with 0 after --help, with 2 after a usage error, which is printed.
    """
    CLI(
        dict(verbs),
        args=normalise(verbs, argv),
        parser_class=VerbParser,
        prog="mst",
        description=DESCRIPTION,
    )


def normalise(verbs: Verbs, argv: Sequence[str]) -> list[str]:
    """Options with underscores, switches with their value, lists in brackets, and recipe names as paths.

    `--time-steps 64` -> `--time_steps 64`; `--resume` -> `--resume true`; `--mask-sites query,key` ->
    `--mask_sites=["query", "key"]`; `--config NAME` -> the packaged file, if there is no file NAME here; `-o` ->
    `--output`; `import FILE` -> `import --weights FILE`; `datasets show NAME` -> `datasets --show NAME`.
    """
    verb = verbs.get(argv[0]) if argv else None
    types = {} if verb is None else _option_types(verb)
    out: list[str] = []
    rest = ["--output" if word == "-o" else word for word in argv]
    if len(rest) > 1 and rest[0] in POSITIONAL and not rest[1].startswith("-"):
        rest.insert(1, f"--{POSITIONAL[rest[0]]}")
    if len(rest) > 1 and rest[1] in ACTIONS.get(rest[0], ()):
        rest[1] = f"--{rest[1]}"
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            out.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if types.get(name) == "bool" and not equals and (not rest or rest[0].lower() not in ("true", "false")):
            rest.insert(0, "true")
        if types.get(name, "").startswith("tuple[str") and (equals or rest):
            value, equals = json.dumps(_entries(value if equals else rest.pop(0))), "="
            out.append(f"--{name}{equals}{value}")
            continue
        if "tuple[int, int]" in types.get(name, "") and (equals or rest):
            value, equals = value if equals else rest.pop(0), "="
            value = f"[{value}]" if "," in value and not value.startswith("[") else value
            out.append(f"--{name}{equals}{value}")
            continue
        is_free = name.startswith(FREE_OPTIONS)
        if (types.get(name, "").startswith("tuple[") or is_free) and (equals or rest):
            value, equals = value if equals else rest.pop(0), "="
            is_list = not is_free or "," in value or name in LIST_KWARGS
            if is_list and not value.startswith("["):
                value = f"[{value}]"
        if name == "config" and (equals or rest):
            value = _config(value if equals else rest.pop(0))
            equals = "="
        out.append(f"--{name}{equals}{value}")
    return _with_resumed_options(out)


def _entries(value: str) -> list[str]:
    """The texts of a list: `a,b` or `[a, b]`; a comma within brackets belongs to a text, as in `layer[1,2].*`."""
    if value.startswith("[") and value.endswith("]") and "[" not in value[1:]:
        value = value[1:-1]
    entries = [entry.strip().strip("'\"") for entry in re.split(r",(?![^\[]*\])", value)]
    return [entry for entry in entries if entry]


def _option_types(verb: Callable[..., None]) -> dict[str, str]:
    """Option -> its annotation as text; the fields of a dataclass option are options of their own."""
    types: dict[str, str] = {}
    for name, kind in get_type_hints(verb).items():
        types[name] = kind.__name__ if isinstance(kind, type) else str(kind)
        if is_dataclass(kind):
            types |= {f"{name}.{field.name}": str(field.type) for field in fields(kind)}
    return types


def _with_resumed_options(words: list[str]) -> list[str]:
    """`mst train --resume` without --config takes the options that the run in the output folder was begun with."""
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--") and "=" in word)
    given |= {word[2:]: after for word, after in pairwise(words) if word.startswith("--") and "=" not in word}
    if words[:1] != ["train"] or given.get("resume", "").lower() != "true" or "config" in given:
        return words
    options = Path(given.get("output", "runs/train")) / OPTIONS_FILE
    return [*words[:1], f"--config={options}", *words[1:]] if options.is_file() else words


def _config(name: str) -> str:
    if not Path(name).is_file():
        if name in recipe_names():
            return str(recipe_path(name))
        if not Path(name).suffix:
            raise ValueError(
                f"no configuration file {name!r}, and no recipe of that name. Recipes: {', '.join(recipe_names())}"
            )
        raise FileNotFoundError(f"no configuration file: {name}")
    return name
