"""Facts about a call of a torch function that its name alone does not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import tables


def writes(func: Callable[..., Any], name: str, kwargs: dict[str, Any]) -> bool:
    """True if this call writes into a tensor that exists already."""
    if "out" in kwargs or kwargs.get("inplace"):
        return True
    full = getattr(func, "__name__", "")
    is_in_place = full in tables.IN_PLACE_OPERATORS or (full.endswith("_") and not full.endswith("__"))
    return is_in_place and (name not in tables.LAYOUT or name in ("setitem", "copy"))


def by_batch_statistics(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True if this BatchNorm normalises by the images that it is given."""
    names = ["input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"]
    if func is torch.batch_norm:
        names = ["input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"]
    given = dict(zip(names, args, strict=False)) | kwargs
    return bool(given.get("training")) or given.get("running_mean") is None
