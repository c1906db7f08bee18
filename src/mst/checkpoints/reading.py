"""Files with weights -> state dicts. Nothing that a file holds is ever run."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mst.errors import InputError, MissingFileError


class _ConfigNode:
    """Stands in for the `yacs.config.CfgNode` inside released files: becomes a plain ordered dict."""

    def __new__(cls) -> OrderedDict[str, object]:  # type: ignore[misc]
        return OrderedDict()


def read_pickle(path: str | Path) -> object:
    """Unpickle tensors and plain values; anything else is refused and never run.

    Raises:
        MissingFileError: no such file.
        InputError: the file is not a torch file, is damaged, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    with torch.serialization.safe_globals([(_ConfigNode, "yacs.config.CfgNode")]):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about old pickle protocols; what matters is raised
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"refused: only tensors and plain values may be unpickled, and {_what_else_it_holds(path)}. "
                "Nothing was run",
                where=str(path),
            ) from error
        except Exception as error:  # a damaged file can raise anything
            raise InputError(f"not a torch file, or a damaged one ({type(error).__name__})", where=str(path)) from error


def _what_else_it_holds(path: Path) -> str:
    """The functions and classes that a torch file asks for, in words."""
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # an older format, or a damaged file
        others = []
    return f"it asks for {', '.join(sorted(others))}" if others else "it holds more, or is damaged"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; the latter is a state dict, or holds one under "model".

    Raises:
        MissingFileError: no such file.
        InputError: as `read_pickle`; or it holds no state dict, or tensors that are not plain finite numbers.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise InputError(f"not a safetensors file, or a damaged one: {error}", where=str(path)) from error
        return state_dict_in(tensors, str(path))
    return state_dict_in(read_pickle(path), str(path))


def state_dict_in(content: object, where: str) -> dict[str, Tensor]:
    """`content` itself, or its entry "model", checked.

    Args:
        content: what a file holds.
        where: the file, for the error.

    Raises:
        InputError: it is not a mapping of names to tensors of plain finite numbers.
    """
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise InputError("holds no state dict (neither itself nor under the key 'model')", where=where)
    for name, value in content.items():
        if value.is_complex() or value.is_meta or value.layout != torch.strided:
            raise InputError(f"{name} is not a tensor of plain numbers ({value.dtype}, {value.layout})", where=where)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{name} holds values that are NaN or infinite", where=where)
    return dict(content)


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers put before every name; drop tensors without the prefix."""
    for prefix in ("module.", "model."):
        inner = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
        state = inner or state
    return state
