"""Files with weights of any program -> state dicts under the names that a network has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mst.errors import InputError, MissingFileError
from mst.text import note

from .pickles import read_pickle, stands_for
from .references import checkpoint_file

_KEYS = (
    "model", "state_dict", "model_state_dict", "model_state", "net", "network", "weights", "params", "module",
    "student", "ema", "model_ema", "state_dict_ema", "model_ema_state_dict", "ema_state_dict", "ema_model",
    "ema_weights", "params_ema", "teacher",
)  # fmt: skip
"""Keys under which programs keep a state dict, in the order of preference."""

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that only wrappers of torch add."""

_AVERAGES = ("ema", "teacher", "average")
"""Parts of prefixes of weights that are running means of others."""

_SHOWN = 5

Value = TypeVar("Value")


def read_state_dict(path: Path, names: Collection[str] = ()) -> dict[str, Tensor]:
    """The weights in a .safetensors or torch file, under the names that a network has.

    Args:
        path: the file, zoo:NAME or hf:USER/NAME.
        names: as for `state_dict_in`.

    Raises:
        MissingFileError: no such file.
        InputError: as `read_pickle` and `state_dict_in`.
    """
    path = checkpoint_file(path)
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise InputError(f"not a safetensors file, or a damaged one: {error}", where=str(path)) from error
        return state_dict_in(tensors, str(path), names)
    return state_dict_in(read_pickle(path), str(path), names)


def state_dict_in(content: object, where: str, names: Collection[str] = ()) -> dict[str, Tensor]:
    """The state dict in what a file holds: itself, or an entry such as "model", "state_dict" or "model_ema".

    Where there are several, the weights that were trained come before running means of them; the choice is reported.
    Names lose what wrappers added, see `bare_names`.

    Args:
        content: what a file holds.
        where: the file, for errors and reports.
        names: names of the network that takes the weights, or some that it surely has; empty if they are not known.

    Raises:
        InputError: no mapping of names to tensors of plain finite numbers, or names that fit in several ways.
    """
    found = _named_state_dicts(content)
    if not found:
        raise _no_state_dict(content, where)
    chosen, *others = found
    if others:
        shown = ", ".join(map(repr, others))
        note(f"{where}: the weights under {chosen!r} are read; those under {shown} are left out")
    state = _tensors(found[chosen], where)
    for name, value in state.items():
        if value.is_complex() or value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise InputError(f"{name} is not a tensor of plain numbers ({value.dtype}, {value.layout})", where=where)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{name} holds values that are NaN or infinite", where=where)
    return bare_names(state, names, where)


def _named_state_dicts(content: object, path: str = "") -> dict[str, Mapping[str, object]]:
    """Path of keys -> state dict, for every one in `content`, in the order of preference."""
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Mapping[str, object]] = {}
    for key in _KEYS:
        found |= _named_state_dicts(content.get(key), f"{path}.{key}" if path else key)
    if found or not any(isinstance(value, Tensor) for value in content.values()):
        return found
    return {path: content} if all(isinstance(name, str) for name in content) else {}


def _tensors(content: Mapping[str, object], where: str) -> dict[str, Tensor]:
    """The tensors of a state dict; other entries are reported."""
    others = [f"{name} ({_kind(value)})" for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        note(f"{where}: {len(others)} entries beside the weights are left out: {_some(others)}")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _no_state_dict(content: object, where: str) -> InputError:
    entries = content.items() if isinstance(content, Mapping) and not stands_for(content) else [("", content)]
    objects = [f"{stands_for(value)} under {key!r}" if key else stands_for(value) for key, value in entries
               if stands_for(value)]  # fmt: skip
    held = [f"{key!r} ({_kind(value)})" if key else _kind(value) for key, value in entries]
    return InputError(
        "holds no state dict, neither itself nor under a key such as 'model' or 'state_dict'; "
        + (f"it holds pickled objects: {_some(objects)}" if objects else f"it holds {_some(held)}"),
        where=where,
        remedy="in the program that wrote it save the weights alone: torch.save(model.state_dict(), path)",
    )


def _kind(value: object) -> str:
    return stands_for(value) or type(value).__name__


def _some(texts: list[str]) -> str:
    return (", ".join(texts[:_SHOWN]) or "nothing") + (", ..." if len(texts) > _SHOWN else "")


def bare_names(
    state: Mapping[str, Tensor], names: Collection[str] = (), where: str = "the weights"
) -> dict[str, Tensor]:
    """Tensors under the names that a network itself gives them.

    Wrappers of torch (DataParallel, torch.compile, FSDP, ...) add parts to names, and programs put a prefix before
    them (model., net., backbone., ...). The prefix is the one under which the most of `names` are found.

    Args:
        state: tensors under the names of a file.
        names: names of the network that takes the weights, or some that it surely has; empty: no prefix is removed.
        where: the file, for errors and reports.

    Raises:
        InputError: as many names are found under several prefixes, or two tensors would have one name.
    """
    wanted = set(names)
    bare = without_wrappers(state, wanted, where)
    if "n_averaged" not in wanted:
        bare.pop("n_averaged", None)  # a counter of torch's AveragedModel
    prefix = _prefix(bare, wanted, where)
    left_out = [name for name in bare if not name.startswith(prefix)]
    if left_out:
        note(f"{where}: the weights under {prefix!r} are read; {len(left_out)} others are left out: {_some(left_out)}")
    return {name[len(prefix) :]: tensor for name, tensor in bare.items() if name.startswith(prefix)}


def without_wrappers(named: Mapping[str, Value], names: Collection[str], where: str) -> dict[str, Value]:
    """Values under names without the parts that wrappers of torch add.

    Args:
        named: values under the names of a file.
        names: names of the network that takes them; empty if they are not known.
        where: the file, for errors.

    Raises:
        InputError: two values would have one name.
    """
    bare: dict[str, Value] = {}
    for old, value in named.items():
        new = _without_wrappers(old, names)
        if new in bare:
            raise InputError(f"two tensors would be called {new} without the names of wrappers", where=where)
        bare[new] = value
    return bare


def _without_wrappers(name: str, wanted: Collection[str]) -> str:
    """The name without parts of wrappers. "module" may also be the network's own part, if it then has that name."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    tries = [parts, parts[1:] if parts[0] == "module" else parts]
    known = (".".join(each) for each in tries)
    return next((each for each in known if each in wanted), ".".join(part for part in parts if part != "module"))


def _prefix(names: Collection[str], wanted: Collection[str], where: str) -> str:
    """The prefix under which the most of the wanted names are found; no prefix if none does better."""
    found: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for number in range(len(parts)):
            if ".".join(parts[number:]) in wanted:
                found["".join(f"{part}." for part in parts[:number])] += 1
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if found[""] == most:
        return ""
    trained = [prefix for prefix in best if not any(word in prefix for word in _AVERAGES)] or best
    if len(trained) > 1:
        raise InputError(
            f"the weights fit under {len(trained)} prefixes: {', '.join(map(repr, sorted(trained)))}", where=where,
            remedy="keep one of them in the file, or remove the prefix from one of them",
        )  # fmt: skip
    return trained[0]
