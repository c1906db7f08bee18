"""ReLU-like activations: which modules and which calls of functions are some, and where they saturate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RELU_MODULES: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6)
"""Subclasses (timm has some) count too. So do Hardtanh from 0 and the classes that a user names in `also`."""

RELU_FUNCTIONS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_})
"""ReLU as a function."""

_NAMES = {
    **dict.fromkeys([*RELU_FUNCTIONS, Tensor.relu, Tensor.relu_], "relu"),
    F.relu6: "relu6",
    F.hardtanh: "hardtanh",
    F.hardtanh_: "hardtanh",
    **dict.fromkeys([torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_], "clamp"),
    **dict.fromkeys([torch.clip, torch.clip_, Tensor.clip, Tensor.clip_], "clamp"),
    **dict.fromkeys([torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_], "clamp"),
}
_METHODS = {
    "relu": "relu", "relu_": "relu", "clamp": "clamp", "clamp_": "clamp", "clip": "clamp", "clip_": "clamp",
    "clamp_min": "clamp", "clamp_min_": "clamp",
}  # fmt: skip
"""Methods by the names that torch.fx gives."""

ACTIVATION_WORDS = frozenset({*_METHODS, "relu6", "hardtanh", "hardtanh_"})
"""Names in the code of a forward that may be activations."""


@dataclass(frozen=True)
class ReLUCall:
    """A call of a function that acts as a ReLU."""

    source: Any
    """Operand: a tensor, or a node of torch.fx."""

    cap: float | None
    """Largest output; None if it does not saturate."""

    in_place: bool
    """True if it overwrites its input."""


def relu_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ReLUCall | None:
    """The call as that of a ReLU; None if it is none.

    Args:
        function: a function of torch, or the name of a method.
        args, kwargs: what it is called with.
    """
    try:
        kind = _METHODS.get(function) if isinstance(function, str) else _NAMES.get(function)
    except TypeError:  # not hashable
        return None
    if kind is None or "out" in kwargs:
        return None
    given = dict(zip(_PARAMETERS[kind], args, strict=False)) | dict(kwargs)
    if kind == "hardtanh":
        low, high = given.get("min_val", -1.0), given.get("max_val", 1.0)
    elif kind == "clamp":
        low, high = given.get("min"), given.get("max")
    else:
        low, high = 0, 6.0 if kind == "relu6" else None
    if not _is_number(low) or low != 0 or not (high is None or _is_number(high)):
        return None
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    in_place = name.endswith("_") or given.get("inplace") is True
    return ReLUCall(given.get("input", given.get("self")), None if high is None else float(high), in_place)


_PARAMETERS = {
    "relu": ("input", "inplace"),
    "relu6": ("input", "inplace"),
    "hardtanh": ("input", "min_val", "max_val", "inplace"),
    "clamp": ("input", "min", "max"),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_activation(module: nn.Module, also: tuple[type[nn.Module], ...]) -> bool:
    """True if a site may take the place of `module`."""
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return module.min_val == 0 or isinstance(module, also)
    return isinstance(module, (*RELU_MODULES, *also))


def cap_of(module: nn.Module) -> float | None:
    """Largest output of an activation; None if it does not saturate."""
    return float(module.max_val) if isinstance(module, nn.Hardtanh) else None
