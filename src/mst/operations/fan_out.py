"""Outputs that a value at each place of an operand reaches, from the options of the map alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from mst.models import ActivationProduct, ConvolutionFunction, LinearFunction, TransposedConvolutionFunction

Convolution = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    | ConvolutionFunction | TransposedConvolutionFunction
)  # fmt: skip
"""A convolution, transposed or not."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, ConvolutionFunction)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, TransposedConvolutionFunction)

Padding = tuple[tuple[int, int], ...]
"""Places that are added before and after each axis."""


def weights_per_place(conv: Convolution) -> int:
    """Weights that meet one value of a convolution's output, or of the input of a transposed one."""
    shape = conv.weight_shape if isinstance(conv, ConvolutionFunction) else conv.weight.shape
    return math.prod(shape[1:])


def outputs_reached(
    module: nn.Module,
    operand: int,
    inputs: Sequence[Tensor],
    output: Sequence[int] | None = None,
    padding: Padding | None = None,
) -> Tensor | int:
    """Outputs that each place of an operand reaches.

    Args:
        module: a linear map, convolution, product of activations, or BatchNorm (each value of it reaches one output).
        operand: number of the operand.
        inputs: all tensors that the module reads.
        output, padding: see `conv_fan_out`.

    Returns:
        int64 tensor of the last axes of the operand, or one number if all are equal.
    """
    if isinstance(module, nn.Linear | LinearFunction):
        return len(module.weight if isinstance(module, nn.Linear) else inputs[1])
    if isinstance(module, ActivationProduct):
        left, right = inputs[:2]
        batch = math.prod(max(pair) for pair in zip_longest(*(x.shape[-3::-1] for x in (left, right)), fillvalue=1))
        copies = batch // max(1, inputs[operand].shape[:-2].numel())  # an axis of one entry meets all of the other
        return copies * (left.shape[-2] if operand == 1 else right.shape[-2 if module.transpose_right else -1])
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        return conv_fan_out(module, *inputs[0].shape[2:], output=output or None, padding=padding)
    return 1


def conv_fan_out(
    conv: Convolution, *places: int, output: Sequence[int] | None = None, padding: Padding | None = None
) -> Tensor | int:
    """Outputs that a spike at each place reaches: one accumulation for each, and for each weight that it meets there.

    At a border a kernel reaches fewer outputs; a stride larger than the kernel leaves places that reach none; a place
    that the padding repeats (reflect, replicate, circular) reaches outputs through its copies too.

    Args:
        conv: the convolution, transposed or not.
        places: length; or height and width; or depth, height and width of its input.
        output: likewise of its output; for a transposed convolution that was called with an `output_size`.
        padding: of zeros, in place of the padding that its options ask for; for one that pads inside.

    Returns:
        int64 tensor of the shape `places`, or one number if all are equal.
    """
    fan_out = torch.tensor(conv.out_channels // conv.groups)
    for axis, length in enumerate(places):
        if isinstance(conv, TRANSPOSED):
            along = _transposed_along(conv, axis, length, None if output is None else output[axis])
        else:
            along = _along(conv, axis, length, None if padding is None else padding[axis])
        fan_out = fan_out[..., None] * along
    first = int(fan_out.flatten()[0])
    return first if bool((fan_out == first).all()) else fan_out


def output_places(conv: Convolution, *places: int) -> tuple[int, ...]:
    """Length; or height and width; or depth, height and width of the output for an input of `places`."""
    lengths = []
    for axis, length in enumerate(places):
        before, after = _padding(conv, axis)
        span, stride = conv.dilation[axis] * (conv.kernel_size[axis] - 1), conv.stride[axis]
        if isinstance(conv, TRANSPOSED):
            lengths.append((length - 1) * stride - before - after + span + int(conv.output_padding[axis]) + 1)
        else:
            lengths.append((length + before + after - span - 1) // stride + 1)
    return tuple(lengths)


def _padding(conv: Any, axis: int) -> tuple[int, int]:
    return padding_of(conv.padding, axis, conv)


def padding_of(padding: Any, axis: int, conv: Any) -> tuple[int, int]:
    """Places that an option `padding` (a number for each axis, "same" or "valid") adds before and after an axis."""
    if isinstance(padding, str):
        total = conv.dilation[axis] * (conv.kernel_size[axis] - 1) if padding == "same" else 0
        return total // 2, total - total // 2
    return padding[axis], padding[axis]


def _along(conv: Any, axis: int, length: int, padding: tuple[int, int] | None) -> Tensor:
    """int64 [length]: windows that see each place of one axis; the windows of a convolution are products of these."""
    before, after = _padding(conv, axis) if padding is None else padding
    padded = torch.arange(-before, length + after)
    mode = conv.padding_mode if padding is None else "zeros"
    if mode == "reflect":
        padded = (length - 1) - ((length - 1) - padded.abs()).abs()
    elif mode == "replicate":
        padded = padded.clamp(0, length - 1)
    elif mode == "circular":
        padded = padded % length
    number = (len(padded) - conv.dilation[axis] * (conv.kernel_size[axis] - 1) - 1) // conv.stride[axis] + 1
    starts, taps = torch.arange(number) * conv.stride[axis], torch.arange(conv.kernel_size[axis]) * conv.dilation[axis]
    seen = padded[starts[:, None] + taps]
    return torch.bincount(seen[(seen >= 0) & (seen < length)], minlength=length)


def _transposed_along(conv: Any, axis: int, length: int, output: int | None) -> Tensor:
    """int64 [length]: outputs that each place of one axis of a transposed convolution reaches."""
    before, after = _padding(conv, axis)
    taps = torch.arange(conv.kernel_size[axis]) * conv.dilation[axis]
    if output is None:
        output = (length - 1) * conv.stride[axis] - before - after + int(taps[-1]) + conv.output_padding[axis] + 1
    reached = torch.arange(length)[:, None] * conv.stride[axis] - before + taps
    number: Tensor = ((reached >= 0) & (reached < output)).sum(dim=1)
    return number
