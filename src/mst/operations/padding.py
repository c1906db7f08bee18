"""Padding of a convolution whose class pads its input inside its forward, as those of TensorFlow's networks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .fan_out import Padding, padding_of

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


class _Inside(TorchFunctionMode):
    """Notes the pads and convolutions that a forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.pads: list[tuple[Tensor, Tensor, list[int], bool]] = []  # input, result, pad, True if of zeros
        self.convolutions: list[dict[str, Any]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.pad:
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            is_zero = given.get("mode", "constant") == "constant" and not given.get("value")
            self.pads.append((given["input"], result, list(given["pad"]), is_zero))
        elif func in _CONVOLUTIONS:
            names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
            self.convolutions.append(dict(zip(names, args, strict=False)) | kwargs)
        return result


def padding_inside(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Padding | None:
    """Zeros that the forward of `conv` adds before and after each axis of places of x [B, C, *places].

    Returns:
        None if its forward does more than to pad x with zeros, and to convolve it once with the options of `conv`.
    """
    inside = _Inside()
    with torch.no_grad(), inside:
        conv.forward(x)
    if len(inside.convolutions) != 1 or len(inside.pads) > 1:
        return None
    (call,), dims = inside.convolutions, len(conv.kernel_size)
    options = {name: call.get(name, default) for name, default in (("stride", 1), ("dilation", 1), ("groups", 1))}
    options = {
        name: (value,) * dims if isinstance(value, int) and name != "groups" else value
        for name, value in options.items()
    }
    as_declared = all(value == getattr(conv, name) for name, value in options.items())
    added = [0] * 2 * dims
    read = x
    for given, result, pad, is_zero in inside.pads:
        if given is not x or not is_zero or len(pad) > 2 * dims:
            return None
        read, added = result, pad + [0] * (2 * dims - len(pad))
    if call["input"] is not read or not as_declared or call["weight"].shape != conv.weight.shape:
        return None
    own = call.get("padding", 0)
    own = (own,) * dims if isinstance(own, int) else own
    pairs = [padding_of(own, axis, conv) for axis in range(dims)]
    outside = [(added[2 * (dims - 1 - axis)], added[2 * (dims - 1 - axis) + 1]) for axis in range(dims)]
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(pairs, outside, strict=True))
