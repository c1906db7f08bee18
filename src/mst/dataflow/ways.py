"""Ways of spikes through one function: the function again, with 1 in place of its constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import tables
from .values import pool_arguments, tensors_in


@dataclass(frozen=True)
class Called:
    """A call of a function whose operands that depend on the image are all sums of spikes through constants."""

    func: Callable[..., Any]
    """The function."""

    name: str
    """Its name in the tables."""

    args: tuple[Any, ...]
    """Positional arguments."""

    kwargs: dict[str, Any]
    """Keyword arguments."""

    output: Tensor
    """Its result, or the first of them."""

    ways: Mapping[int, Tensor]
    """Id of an operand -> the ways to each of its places."""


def ways_through(called: Called) -> tuple[list[Tensor], bool]:
    """The ways to the places of each result, and True if constants that differ from place to place lie on them.

    Returns:
        No ways if the function is anything but a sum, a move or a multiplication by constants.
    """
    name, shape = called.name, called.output.shape
    if not called.output.is_floating_point():
        return [], False
    operands = [called.ways[id(x)] for x in _tensors(called) if id(x) in called.ways]
    if name in tables.SUMS:
        return [sum(each.broadcast_to(shape) for each in operands)], False  # type: ignore[list-item]
    if name in tables.FACTORS:
        return _multiplied(called, operands)
    if name == "batch_norm":
        return operands[:1], True
    if name in tables.AVERAGE_POOLS:
        return _pooled(called, operands[0])
    if name in tables.SAME_PLACES:
        return [operands[0].broadcast_to(shape)], False
    if name in tables.SAME_ORDER:
        return ([operands[0].reshape(shape)] if operands[0].numel() == shape.numel() else []), False
    if name == "setitem":
        return [_written(called)], False
    if name in tables.LAYOUT | {"sum", "mean", "cumsum", "fold"} or (name in tables.RESIZING and _is_nearest(called)):
        return _again(called, operands[0]), False
    return [], False


def _tensors(called: Called) -> list[Tensor]:
    return list(tensors_in((*called.args, *called.kwargs.values())))


def _multiplied(called: Called, operands: list[Tensor]) -> tuple[list[Tensor], bool]:
    """Behind a product with constants; where a factor is 0 no spike arrives."""
    if len(operands) != 1 or called.kwargs.get("rounding_mode") is not None:
        return [], False
    factors = [x for x in (*called.args, *called.kwargs.values()) if _is_number(x) and id(x) not in called.ways]
    ways = operands[0].broadcast_to(called.output.shape)
    if called.name in tables.DIVISIONS | {"itruediv"}:
        is_first = bool(called.args) and id(called.args[0]) in called.ways
        return ([ways], _differs(factors)) if is_first else ([], False)
    for factor in factors:
        ways = ways * (torch.as_tensor(factor, device=ways.device) != 0)
    return [ways], _differs(factors)


def _is_number(x: object) -> bool:
    return isinstance(x, Tensor | int | float)


def _differs(factors: list[Any]) -> bool:
    return any(isinstance(factor, Tensor) and factor.numel() > 1 for factor in factors)


def _pooled(called: Called, ways: Tensor) -> tuple[list[Tensor], bool]:
    """Behind an average pool: the sum over each window; its weights differ where windows hold different numbers."""
    sums = _sums_of_windows(called)
    with torch.no_grad():
        ones = torch.ones_like(ways)
        weights = _call(called, ones)[0] / sums(ones)
    return [sums(ways)], bool((weights.amax() - weights.amin()) > 1e-9)


def _sums_of_windows(called: Called) -> Callable[[Tensor], Tensor]:
    dims = int(called.name[-2])
    if called.name.startswith("adaptive"):
        return lambda x: _call(called, x)[0] * _adaptive_sizes(x.shape[-dims:], called.output.shape[-dims:]).to(x)
    given = pool_arguments(called.args, called.kwargs)
    kernel = _each(given["kernel_size"], dims)
    stride, padding = _each(given.get("stride") or kernel, dims), _each(given.get("padding") or 0, dims)
    ceil = bool(given.get("ceil_mode"))
    if dims == 3:
        return lambda x: F.avg_pool3d(x, kernel, stride, padding, ceil, divisor_override=1)
    if dims == 2:
        return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, divisor_override=1)
    kernel, stride, padding = (1, *kernel), (1, *stride), (0, *padding)
    return lambda x: F.avg_pool2d(x[..., None, :], kernel, stride, padding, ceil, divisor_override=1)[..., 0, :]


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """An option of a pool for each of its axes."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    return given * dims if len(given) == 1 else given


def _adaptive_sizes(before: torch.Size, after: torch.Size) -> Tensor:
    """Places in each window of an adaptive pool, [*after]."""
    sizes = torch.ones(())
    for length, number in zip(before, after, strict=True):
        window = torch.arange(number)
        sizes = sizes[..., None] * (-((-(window + 1) * length) // number) - window * length // number)
    return sizes


def _written(called: Called) -> Tensor:
    """Behind `x[index] = value`."""
    target, index, value = called.args
    dtype = next(iter(called.ways.values())).dtype
    ways = called.ways.get(id(target), torch.zeros(target.shape, dtype=dtype, device=target.device)).clone()
    ways[index] = called.ways.get(id(value), 0.0)
    return ways


def _is_nearest(called: Called) -> bool:
    mode = called.kwargs.get("mode", called.args[3] if len(called.args) > 3 else "nearest")
    return str(mode).startswith("nearest")


def _again(called: Called, ways: Tensor) -> list[Tensor]:
    """The function itself. A mean sends each spike on, as a sum does."""
    number = ways.numel() / max(1, called.output.numel()) if called.name == "mean" else 1
    return [each * number for each in _call(called)]


def _call(called: Called, replacement: Tensor | None = None) -> list[Tensor]:
    """The results for the ways in place of the operands, or for a given tensor."""
    full = getattr(called.func, "__name__", "")
    dtype = next(iter(called.ways.values())).dtype
    is_in_place = full.endswith("_") and not full.endswith("__")

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            ways = called.ways.get(id(value))
            if ways is None:
                return value.to(dtype) if value.is_floating_point() else value
            ways = ways if replacement is None else replacement
            return ways.clone() if is_in_place else ways
        if isinstance(value, tuple | list) and any(isinstance(each, Tensor) for each in value):
            return type(value)(put(each) for each in value)
        return value

    kwargs = {key: put(value) for key, value in called.kwargs.items() if key != "dtype"}
    result = called.func(*(put(value) for value in called.args), **kwargs)
    return list(tensors_in((result,)))
