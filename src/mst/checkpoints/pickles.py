"""Torch's pickled files -> what they hold. Nothing that a file holds is ever run.

Checkpoints of other programs hold more than weights: command-line arguments, configurations, numpy's numbers. Classes
that would be needed for these are not imported; an empty stand-in takes the place of each object.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from mst.errors import InputError, MissingFileError

StandIn = Callable[..., Any] | tuple[Callable[..., Any], str]
"""A class that unpickling may use, as torch takes it; or the class and the name under which a file asks for it."""

_STANDS_FOR = "mst_stands_for"

_WEIGHTS_ALONE = "in the program that wrote it save the weights alone: torch.save(model.state_dict(), path)"

_CLASSES = (
    "collections.defaultdict", "datetime.date", "datetime.datetime", "datetime.timedelta", "datetime.timezone",
    "builtins.dict", "builtins.float", "builtins.int", "builtins.list", "builtins.str", "builtins.tuple",
)  # fmt: skip
"""Classes that stand-ins replace although their names begin in lower case, as those of functions do."""

_RUNNING = ("builtins", "functools", "importlib", "operator", "os", "posix", "nt", "runpy", "subprocess", "sys")
"""Modules of which no stand-in is made: a file that asks for one of them is refused, by name."""


def read_pickle(path: str | Path) -> object:
    """Unpickle tensors and plain values; objects of other classes become stand-ins, see `stands_for`.

    Raises:
        MissingFileError: no such file.
        InputError: the file is not a torch file, is damaged, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    try:
        try:
            return _load(path)
        except pickle.UnpicklingError:
            with torch.serialization.safe_globals(_stand_ins(path)):
                return _load(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"refused: only tensors and plain values may be unpickled, and {_what_else_it_holds(path)}. "
            "Nothing was run",
            where=str(path), remedy=_WEIGHTS_ALONE,
        ) from error  # fmt: skip
    except Exception as error:  # a damaged file can raise anything
        if "constants.pkl" in _members(path):
            raise InputError(
                "it is a TorchScript archive", where=str(path),
                remedy="write its weights alone: torch.save(torch.jit.load(path).state_dict(), new_path)",
            ) from error  # fmt: skip
        raise InputError(f"not a torch file, or a damaged one ({type(error).__name__})", where=str(path)) from error


def stands_for(value: object) -> str:
    """The name of the class of which `value` is a stand-in; empty for a value that was read as it is."""
    return str(getattr(value, _STANDS_FOR, ""))


def _load(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old pickle protocols; what matters is raised
        return torch.load(path, map_location="cpu", weights_only=True)


class _NumpyStandIn:
    """Takes the state of an object of numpy, which is not a dict, and forgets it."""

    def __init__(self, *args: object) -> None:
        setattr(self, _STANDS_FOR, "an object of numpy")

    def __setstate__(self, state: object) -> None:
        del state


def _stand_ins(path: Path) -> list[StandIn]:
    """A stand-in for each class that the file asks for, with its name."""
    found: list[StandIn] = []
    for name in _globals(path):
        if name.startswith("numpy."):
            found.append((type("NumpyStandIn", (_NumpyStandIn,), {}), name))
        elif _looks_like_a_class(name):
            found.append((_empty_dict_for(name), name))
    return found


def _looks_like_a_class(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return name in _CLASSES or (last[:1].isupper() and module.partition(".")[0] not in _RUNNING)


def _empty_dict_for(name: str) -> type:
    """A class whose objects are empty dicts, which unpickling may fill, as it fills a dict or a namespace."""

    def made(cls: type, *args: object) -> OrderedDict[str, object]:
        stand_in: OrderedDict[str, object] = OrderedDict()
        setattr(stand_in, _STANDS_FOR, name)
        return stand_in

    return type("StandIn", (), {"__new__": made})


def _globals(path: Path) -> list[str]:
    """Functions and classes that the pickles of a file ask for, without running them."""
    found: set[str] = set()
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                for _ in range(4):  # a file of torch before 1.6 begins with a number, a version and sizes
                    found |= _globals_of(file)
            else:
                with zipfile.ZipFile(file) as archive:
                    for name in archive.namelist():
                        if name.endswith("/data.pkl"):
                            with archive.open(name) as pickled:
                                found |= _globals_of(pickled)
    except Exception:  # a damaged file can raise anything
        return sorted(found)
    return sorted(found)


def _globals_of(pickled: IO[bytes]) -> set[str]:
    named = (str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL")
    return {name.replace(" ", ".").replace("__builtin__.", "builtins.") for name in named}


def _members(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {Path(name).name for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def _what_else_it_holds(path: Path) -> str:
    """The functions that a file asks for, else the classes, in words."""
    harmless = ("torch.", "collections.", "_codecs.", "numpy.", "builtins.set", "builtins.bytearray")
    asked_for = [name for name in _globals(path) if not name.startswith(harmless)]
    others = [name for name in asked_for if not _looks_like_a_class(name)] or asked_for
    return f"it asks for {', '.join(others)}" if others else "it holds more, or is damaged"
