"""From an argument list to a call of a verb's function, whose signature defines the options.

A parameter that is an option group (a frozen dataclass) is laid flat; every other parameter is an option of its own.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser, set_parsing_settings

from mst.errors import InputError, MissingFileError
from mst.options import add_group, gather, option_types
from mst.recipes import recipe_names, recipe_path
from mst.text import suggestion

from .launcher import print_error
from .verbs import VERBS

FREE_OPTIONS = "model_kwargs."
"""Options whose types no signature shows: a value with a comma is a list."""

OPTIONS_FILE = "options.json"
"""The options of a training, in its output folder; `--resume` reads it."""

POSITIONAL = {"import": "weights", "zoo": "network"}
"""Verb -> the option that a first word without dashes is taken for."""

SWITCHES = ("true", "false")

Function = Callable[..., None]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


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
        """Print one line instead of the whole usage, then exit with code 2.

        Raises:
            SystemExit: always.
        """
        unknown = re.match(r"unrecognized arguments: --([\w.]+)", message.strip())
        if unknown:
            options = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
            known = [o[2:].replace("_", "-") for o in options]
            self.unknown(f"option --{unknown[1]}", suggestion(unknown[1].replace("_", "-"), known))
        print_error(f"mst: error: {_with_dashes(' '.join(message.split()))} (see {self.prog} --help)")
        self.exit(2)
        raise AssertionError("exit returned")

    def unknown(self, what: str, remedy: str) -> NoReturn:
        """Print one line about an unknown word, then exit with code 2.

        Raises:
            SystemExit: always.
        """
        self.error(str(InputError(f"unknown {what}", remedy=remedy)))


def _with_dashes(text: str) -> str:
    return re.sub(r"--[\w.]+", lambda match: match[0].replace("_", "-"), text)


def run_verb(argv: Sequence[str]) -> None:
    """Parse `argv` and call the verb that it names.

    Raises:
        SystemExit: with 0 after --help, with 2 after a usage error, which is printed.
    """
    name, *words = argv
    if name not in VERBS:
        remedy = suggestion(name, list(VERBS), f"verbs: {', '.join(VERBS)}")
        VerbParser(prog="mst").unknown(f"verb {name!r}", remedy)
    function = VERBS[name].load()
    if VERBS[name].has_subcommands:
        function(words)
    else:
        run_function(name, function, words)


def run_function(name: str, function: Function, words: Sequence[str]) -> None:
    """Parse the words after a verb and call its function with them.

    Raises:
        SystemExit: with 0 after --help, with 2 after a usage error, which is printed.
    """
    parser = verb_parser(name, function)
    values = vars(parser.parse_args(normalise(name, option_types_of(function), words)))
    function(**{parameter: _value(kind, parameter, values) for parameter, kind in _parameters(function)})


def verb_parser(name: str, function: Function) -> VerbParser:
    """The parser of a verb's options."""
    text, *examples = (part.strip() for part in re.split(r"\n\s*(?=Example:)", _description(function)))
    parser = VerbParser(prog=f"mst {name}", description=" ".join(text.split()), epilog="   ".join(examples) or None)
    parser.add_argument(
        "--config", action="config", help="YAML file with options, or the name of a recipe that ships with the package"
    )
    explained = {each.arg_name: each.description for each in parse(inspect.getdoc(function) or "").params}
    for parameter, kind in _parameters(function):
        if isinstance(kind, type) and is_dataclass(kind):
            add_group(parser, kind)
        else:
            default = inspect.signature(function).parameters[parameter].default
            if default is inspect.Parameter.empty:  # words without dashes, at least one
                parser.add_argument(parameter, type=get_args(kind)[0], nargs="+", help=explained.get(parameter))
                continue
            parser.add_argument(f"--{parameter}", type=kind, default=default, help=explained.get(parameter))
    return parser


def _description(function: Function) -> str:
    return (inspect.getdoc(function) or "").partition("\nArgs:")[0]


def _parameters(function: Function) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(function)
    return ((name, hints[name]) for name in inspect.signature(function).parameters)


def _value(kind: Any, parameter: str, values: Mapping[str, Any]) -> Any:
    return gather(kind, values) if isinstance(kind, type) and is_dataclass(kind) else values[parameter]


def option_types_of(function: Function) -> dict[str, str]:
    """Option of a verb -> its type as text."""
    types: dict[str, str] = {}
    for parameter, kind in _parameters(function):
        if is_dataclass(kind):
            types |= option_types(kind)  # type: ignore[arg-type]
        else:
            types[parameter] = kind.__name__ if isinstance(kind, type) else str(kind)
    return types


def normalise(verb: str, types: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Words as they are typed -> words as jsonargparse takes them.

    Options get underscores, switches a value, lists brackets, and recipe names a path: `--time-steps 64` ->
    `--time_steps 64`; `--resume` -> `--resume true`; `--mask-sites query,key` or `--mask-sites query key` ->
    `--mask_sites=["query", "key"]`; `--bursts 1 4` -> `--bursts=[1,4]`; `--config NAME` -> the packaged file, if there
    is no file NAME here; `-o` -> `--output`; `import FILE` -> `import --weights FILE`.
    """
    out: list[str] = []
    rest = ["--output" if word == "-o" else word for word in words]
    if rest and verb in POSITIONAL and not rest[0].startswith("-"):
        rest.insert(0, f"--{POSITIONAL[verb]}")
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            out.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        kind = types.get(name, "")
        if kind == "bool" and not equals and (not rest or rest[0].lower() not in SWITCHES):
            out += [f"--{name}", "true"]
        elif _is_list(name, kind) and (equals or rest):
            entries = [value] if equals else _taken(rest, kind, name)
            out.append(f"--{name}={_listed(entries, kind, name)}")
        elif name == "config" and (equals or rest):
            out.append(f"--config={_config(value if equals else rest.pop(0))}")
        else:
            out.append(f"--{name}{equals}{value}")
    return _with_resumed_options(verb, out)


def _is_list(name: str, kind: str) -> bool:
    return "tuple[" in kind or name.startswith(FREE_OPTIONS)


def _taken(rest: list[str], kind: str, name: str) -> list[str]:
    """Words of a list, taken off `rest`: numbers as long as they come, texts up to the next option or checkpoint."""
    taken = [rest.pop(0)]
    if name.startswith(FREE_OPTIONS) or kind.startswith("int |") or taken[0].startswith("["):
        return taken
    is_number = re.compile(r"[-+]?[\d.][\d.,e+-]*,?")
    while rest and not rest[0].startswith("--"):
        if not any(each in kind for each in ("str", "Path", "Literal")) and not is_number.fullmatch(rest[0]):
            break
        if Path(rest[0]).suffix in (".safetensors", ".pth"):
            break
        taken.append(rest.pop(0))
    return taken


def _listed(words: list[str], kind: str, name: str) -> str:
    """The value of a list option as JSON."""
    value = ",".join(word.strip(",") for word in words)
    if ("str" in kind or "Path" in kind) and "tuple[" in kind:
        return json.dumps(_entries(value))
    if name.startswith(FREE_OPTIONS) and "," not in value:
        return value
    if "Literal" in kind and "tuple[" in kind:
        return json.dumps(_entries(value))
    if kind.startswith("int |") and "," not in value:  # one number or several
        return value
    if value in ("null", "None"):
        return "null"
    return value if value.startswith("[") else f"[{value}]"


def _entries(value: str) -> list[str]:
    """The texts of a list: `a,b` or `[a, b]`; a comma within brackets belongs to a text, as in `layer[1,2].*`."""
    if value.startswith("[") and value.endswith("]") and "[" not in value[1:]:
        value = value[1:-1]
    entries = [entry.strip().strip("'\"") for entry in re.split(r",(?![^\[]*\])", value)]
    return [entry for entry in entries if entry]


def _with_resumed_options(verb: str, words: list[str]) -> list[str]:
    """`mst train --resume` without --config takes the options that the run in the output folder was started with."""
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--") and "=" in word)
    given |= {word[2:]: after for word, after in pairwise(words) if word.startswith("--") and "=" not in word}
    if verb != "train" or given.get("resume", "").lower() != "true" or "config" in given:
        return words
    options = Path(given.get("output", "runs/train")) / OPTIONS_FILE
    return [f"--config={options}", *words] if options.is_file() else words


def _config(name: str) -> str:
    if Path(name).is_file():
        return name
    if name in recipe_names():
        return str(recipe_path(name))
    if not Path(name).suffix:
        raise InputError(
            f"no configuration file {name!r}, and no recipe of that name",
            remedy=f"recipes: {', '.join(recipe_names())}",
        )
    raise MissingFileError(f"no configuration file: {name}")
