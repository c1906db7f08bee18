"""Torch functions as nodes of a graph: what each makes of a sum of nodes, or why no graph holds it.

Letters: B images, C channels; shapes are those of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mst.dataflow.tables import ATTENTION, GATES, MAX_POOLS, NORMS, SAME_PLACES, SOFTMAXES

from .building import Builder, Geometry

ONNX = "export to ONNX, which holds it (mst export --to onnx)"
"""The remedy that is always there."""

BUILDING_BLOCKS = "convolutions, linear maps, average pools, sums and BatchNorm"


class NotHeldError(Exception):
    """No node holds the function. Its arguments: what, and a remedy."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the image: a sum of nodes."""

    terms: tuple[str, ...]
    """Nodes whose sum it is; stand-ins behind a function that no graph holds."""

    shape: tuple[int, ...]
    """Shape for one image."""

    passed: frozenset[int] = frozenset()
    """Numbers of the functions on its way since the last neuron that no graph holds."""


@dataclass(frozen=True)
class FunctionUse:
    """A call of a torch function whose arguments depend on the image."""

    builder: Builder
    """The graph under construction."""

    path: str
    """Path of the module whose forward makes the call."""

    args: tuple[Any, ...]
    """Positional arguments, with a `Value` in place of each tensor that depends on the image."""

    kwargs: dict[str, Any]
    """Keyword arguments, likewise."""

    shape: tuple[int, ...]
    """Shape of the result for one image."""

    def named(self, *names: str) -> dict[str, Any]:
        """Arguments by their names, in the order of the function's signature."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


def result_of(name: str, use: FunctionUse) -> tuple[str, ...]:
    """The nodes whose sum the function returns.

    Raises:
        NotHeldError: no graph holds it.
    """
    handler = _HANDLERS.get(name)
    if handler is None:
        raise NotHeldError(*_not_held(name))
    return handler(use)


def is_held(name: str) -> bool:
    """True if there are nodes for some uses of the function."""
    return name in _HANDLERS


def _not_held(name: str) -> tuple[str, str]:
    what = f"NIR has no node for {name}"
    if name in MAX_POOLS:
        return what, 'train with average pools (mst.quantize(..., max_pool="average")), or ' + ONNX
    if name in SOFTMAXES | ATTENTION | NORMS | GATES or name == "matmul":
        return what, f"choose a network of {BUILDING_BLOCKS}, or {ONNX}"
    return what, f"write it with {BUILDING_BLOCKS}, or {ONNX}"


def _value(given: Any) -> Value:
    if not isinstance(given, Value):
        raise NotHeldError("a constant in the place of the activation", f"exchange the operands, or {ONNX}")
    return given


def _same(use: FunctionUse) -> tuple[str, ...]:
    value = _value(use.args[0] if use.args else next(iter(use.kwargs.values())))
    if value.shape == use.shape:
        return value.terms
    size = torch.Size(use.shape).numel()
    if len(use.shape) == 1 and size == torch.Size(value.shape).numel():
        return use.builder.flatten(value.terms, use.path, value.shape)
    raise NotHeldError(f"the shape of an image changes from {value.shape} to {use.shape}", f"flatten it, or {ONNX}")


def _convolution(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    value, weight, bias = _value(given["input"]), given["weight"], given.get("bias")
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise NotHeldError("weights that depend on the image", f"make them constants, or {ONNX}")
    axes = weight.dim() - 2
    stride, dilation = (_per_axis(given.get(name, 1), axes) for name in ("stride", "dilation"))
    padding = given.get("padding", 0)
    if padding == "valid":
        padding = 0
    if padding == "same":
        spread = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(each % 2 for each in spread):
            raise NotHeldError("padding that differs between the sides", f"choose kernels of odd size, or {ONNX}")
        padding = tuple(each // 2 for each in spread)
    geometry = Geometry(stride, _per_axis(padding, axes), dilation, given.get("groups", 1))
    return use.builder.map_of(value.terms, use.path, use.shape, weight, bias, geometry)


def _linear(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "weight", "bias")
    value, weight, bias = _value(given["input"]), given["weight"], given.get("bias")
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise NotHeldError("weights that depend on the image", f"make them constants, or {ONNX}")
    if len(value.shape) != 1:
        what = f"a linear map of the last axis of {value.shape}; NIR maps whole vectors"
        raise NotHeldError(what, f"flatten before it, use a 1x1 convolution, or {ONNX}")
    return use.builder.map_of(value.terms, use.path, use.shape, weight, bias)


def _matmul(use: FunctionUse) -> tuple[str, ...]:
    left, right = use.args[:2]
    if isinstance(left, Value) and isinstance(right, Tensor) and right.dim() == 2:
        return _linear(replace(use, args=(left, right.T), kwargs={}))
    raise NotHeldError(*_not_held("matmul"))


def _batch_norm(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    mean, var = given.get("running_mean"), given.get("running_var")
    if given.get("training") or mean is None or var is None:
        raise NotHeldError("BatchNorm by the statistics of the batch", "let it track its statistics, and train")
    return _normalised(use, _value(given["input"]), (mean, var, given.get("weight"), given.get("bias")), given["eps"])


def norm_of(norm: nn.modules.batchnorm._BatchNorm, use: FunctionUse, value: Value) -> tuple[str, ...]:
    """The nodes of a BatchNorm that is a module, in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise NotHeldError("BatchNorm by the statistics of the batch", "let it track its statistics, and train")
    return _normalised(use, value, (norm.running_mean, norm.running_var, norm.weight, norm.bias), norm.eps)


def _normalised(
    use: FunctionUse, value: Value, tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None], eps: float
) -> tuple[str, ...]:
    """γ · (x - mean) / sqrt(var + eps) + β, channel by channel; tensors: mean, var, γ, β."""
    mean, var, weight, bias = tensors
    factor = torch.rsqrt(var.double() + eps) * (1 if weight is None else weight.double())
    offset = (0 if bias is None else bias.double()) - mean.double() * factor
    return use.builder.scale(value.terms, use.path, value.shape, factor, offset)


def _average_pool(use: FunctionUse) -> tuple[str, ...]:
    given = use.named(
        "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    )  # fmt: skip
    value = _value(given["input"])
    axes = len(value.shape) - 1
    kernel, padding = _per_axis(given["kernel_size"], axes), _per_axis(given.get("padding", 0), axes)
    stride = _per_axis(given.get("stride") or kernel, axes)
    whole = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(value.shape[1:], kernel, stride, padding, strict=True))
    if whole != use.shape[1:] or (any(padding) and not given.get("count_include_pad", True)):
        remedy = f"leave ceil_mode out and count padding (count_include_pad=True), or {ONNX}"
        raise NotHeldError("an average pool whose windows differ in size", remedy)
    divisor = given.get("divisor_override") or torch.Size(kernel).numel()
    return _pool(use, value, kernel, stride, padding, 1 / divisor)


def _adaptive_pool(use: FunctionUse) -> tuple[str, ...]:
    value = _value(use.args[0] if use.args else use.kwargs["input"])
    if any(n % m for n, m in zip(value.shape[1:], use.shape[1:], strict=True)):
        what = f"an adaptive pool from {value.shape[1:]} to {use.shape[1:]}, whose windows differ in size"
        raise NotHeldError(what, f"choose a size that divides the input's, or {ONNX}")
    kernel = tuple(n // m for n, m in zip(value.shape[1:], use.shape[1:], strict=True))
    return _pool(use, value, kernel, kernel, (0,) * len(kernel), 1 / torch.Size(kernel).numel())


def _pool(
    use: FunctionUse, value: Value, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    factor: float,
) -> tuple[str, ...]:  # fmt: skip
    channels = value.shape[0]
    places = zip(value.shape[1:], kernel, stride, padding, strict=True)
    shape = (channels, *((n + 2 * p - k) // s + 1 for n, k, s, p in places))
    weight = torch.full((channels, 1, *kernel), factor, dtype=torch.float64)
    geometry = Geometry(stride, padding, (1,) * len(kernel), channels)
    return use.builder.map_of(value.terms, use.path, shape, weight, None, geometry, "pool")


def _mean(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "dim", "keepdim")
    value = _value(given["input"])
    rank, dims = len(value.shape) + 1, given.get("dim")
    chosen = sorted(each % rank for each in ((dims,) if isinstance(dims, int) else dims or ()))
    if len(value.shape) < 2 or chosen != list(range(2, rank)):
        raise NotHeldError("a mean over other axes than all places", f"take the mean over all places, or {ONNX}")
    kernel = value.shape[1:]
    terms = _pool(use, value, kernel, kernel, (0,) * len(kernel), 1 / torch.Size(kernel).numel())
    pooled = (value.shape[0], *[1] * len(kernel))
    return terms if use.shape == pooled else use.builder.flatten(terms, use.path, pooled)


def _sum(sign: float, other_sign: float = 1.0) -> Callable[[FunctionUse], tuple[str, ...]]:
    """sign · (first + other_sign · alpha · second)."""

    def add(use: FunctionUse) -> tuple[str, ...]:
        given = use.named("input", "other")
        first, second = given["input"], given["other"]
        factor = other_sign * given.get("alpha", 1)
        terms = [*_signed(use, first, sign), *_signed(use, second, sign * factor)]
        constants = [
            each * weight for each, weight in ((first, sign), (second, sign * factor)) if not isinstance(each, Value)
        ]
        if constants:
            (value,) = (each for each in (first, second) if isinstance(each, Value))
            one = torch.ones(use.shape[0], dtype=torch.float64)
            return use.builder.scale(terms, use.path, value.shape, one, _by_channel(constants[0], use.shape))
        return use.builder.without_repeats(terms, use.path, use.shape)

    return add


def _signed(use: FunctionUse, given: Any, factor: float) -> tuple[str, ...]:
    if not isinstance(given, Value):
        return ()
    if given.shape != use.shape:
        raise NotHeldError(f"a sum of {given.shape} spread over {use.shape}", f"add tensors of one shape, or {ONNX}")
    if factor == 1:
        return given.terms
    scales = torch.full((use.shape[0],), float(factor), dtype=torch.float64)
    return use.builder.scale(given.terms, use.path, use.shape, scales)


def _by_channel(constant: Any, shape: tuple[int, ...]) -> Tensor:
    """[C]: a constant factor or summand of each channel."""
    values: Tensor = torch.as_tensor(constant, dtype=torch.float64)
    if values.numel() == 1:
        return values.reshape(1).repeat(shape[0])
    aligned = values.reshape(*[1] * (len(shape) + 1 - values.dim()), *values.shape)
    if tuple(aligned.shape) != (1, shape[0], *[1] * (len(shape) - 1)):
        raise NotHeldError("a constant for each place", f"give one for each channel, or {ONNX}")
    return aligned.reshape(-1)


def _product(use: FunctionUse) -> tuple[str, ...]:
    first, second = use.args[:2] if len(use.args) > 1 else (use.args[0], use.kwargs["other"])
    if isinstance(first, Value) and isinstance(second, Value):
        raise NotHeldError("a product of two activations", f"leave the gate out and train, or {ONNX}")
    value, constant = (first, second) if isinstance(first, Value) else (second, first)
    return use.builder.scale(value.terms, use.path, value.shape, _by_channel(constant, value.shape))


def _quotient(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "other")
    value, divisor = given["input"], given["other"]
    if not isinstance(value, Value) or isinstance(divisor, Value) or given.get("rounding_mode"):
        raise NotHeldError("a division by an activation, or one that rounds", f"divide by a constant, or {ONNX}")
    return use.builder.scale(value.terms, use.path, value.shape, 1 / _by_channel(divisor, value.shape))


def _negative(use: FunctionUse) -> tuple[str, ...]:
    return _signed(use, _value(use.args[0]), -1.0)


def _concatenation(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("tensors", "dim")
    parts, rank = given["tensors"], len(use.shape) + 1
    if given.get("dim", 0) % rank != 1 or not all(isinstance(part, Value) for part in parts):
        raise NotHeldError("values put beside each other on another axis than channels", f"join channels, or {ONNX}")
    axes, start = len(use.shape) - 1, 0
    terms: list[str] = []
    for part in parts:
        weight = torch.zeros(use.shape[0], part.shape[0], dtype=torch.float64)
        weight[start : start + part.shape[0]] = torch.eye(part.shape[0], dtype=torch.float64)
        start += part.shape[0]
        geometry = Geometry((1,) * axes, (0,) * axes, (1,) * axes) if axes else None
        weight = weight.reshape(*weight.shape, *[1] * axes)
        terms += use.builder.map_of(part.terms, use.path, use.shape, weight, None, geometry, "scale")
    return tuple(terms)


def _padding(use: FunctionUse) -> tuple[str, ...]:
    given = use.named("input", "pad", "mode", "value")
    value, pads = _value(given["input"]), list(given["pad"])
    sides = [tuple(pads[at : at + 2]) for at in range(0, len(pads), 2)][::-1]
    is_zero = given.get("mode", "constant") == "constant" and not given.get("value")
    if not is_zero or len(sides) > len(value.shape) - 1 or any(a != b or a < 0 for a, b in sides):
        remedy = f"pad with zeros, equally on both sides, or {ONNX}"
        raise NotHeldError("padding by other values than zeros, or by another number on either side", remedy)
    padding = (*[0] * (len(value.shape) - 1 - len(sides)), *(each for each, _ in sides))
    one = torch.ones(value.shape[0], dtype=torch.float64)
    return use.builder.scale(value.terms, use.path, use.shape, one, padding=padding)


def _per_axis(given: Any, axes: int) -> tuple[int, ...]:
    if isinstance(given, int):
        return (given,) * axes
    values = tuple(int(each) for each in given)
    return values * axes if len(values) == 1 else values


_HANDLERS: dict[str, Callable[[FunctionUse], tuple[str, ...]]] = {
    **dict.fromkeys(
        SAME_PLACES
        | {"view", "reshape", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as"},
        _same,
    ),
    **dict.fromkeys(("conv1d", "conv2d"), _convolution),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _average_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _adaptive_pool),
    **dict.fromkeys(("add", "radd", "iadd"), _sum(1.0)),
    **dict.fromkeys(("sub", "isub"), _sum(1.0, -1.0)),
    "rsub": _sum(-1.0, -1.0),
    **dict.fromkeys(("mul", "rmul", "imul", "multiply"), _product),
    **dict.fromkeys(("div", "true_divide", "truediv", "itruediv"), _quotient),
    **dict.fromkeys(("matmul", "mm"), _matmul),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenation),
    "linear": _linear, "batch_norm": _batch_norm, "mean": _mean, "neg": _negative, "pad": _padding,
}  # fmt: skip
