"""Networks of operations that onnxruntime computes in float64: it has convolutions and erf in float32 only.

Letters: B images, C channels in, O channels out, h and w places of the output.
"""

from __future__ import annotations

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.models import set_submodule


class ProductConvolution(nn.Module):
    """A convolution of two axes as a product of matrices: kernels times the values that they cover.

    Args:
        convolution: it stays as it is.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.dilation, self.groups = convolution.stride, convolution.dilation, convolution.groups
        self.padding = convolution._reversed_padding_repeated_twice
        self.mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, O, h, w]."""
        x = F.pad(x, self.padding, self.mode)
        kernel, channels = self.weight.shape[2:], self.weight.shape[1]
        h, w = (
            (size - gap * (taps - 1) - 1) // stride + 1
            for size, gap, taps, stride in zip(x.shape[2:], self.dilation, kernel, self.stride, strict=True)
        )
        (down, right), (row, column) = self.stride, self.dilation
        covered = [
            x[
                :,
                :,
                a * row : a * row + down * (h - 1) + 1 : down,
                b * column : b * column + right * (w - 1) + 1 : right,
            ]
            for a, b in product(*map(range, kernel))
        ]
        columns = torch.stack(covered, dim=2).reshape(x.shape[0], self.groups, channels * kernel.numel(), h * w)
        y: Tensor = self.weight.reshape(self.groups, -1, channels * kernel.numel()) @ columns
        y = y.reshape(x.shape[0], len(self.weight), h, w)
        return y if self.bias is None else y + self.bias.reshape(-1, 1, 1)


class SeriesGELU(nn.Module):
    """GELU with its error function as a series: erf(z) = 2/√π · exp(-z²) · Σ 2ⁿ z²ⁿ⁺¹/(1·3···(2n+1))."""

    root_half: Tensor
    root_pi: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("root_half", torch.tensor(math.sqrt(0.5), dtype=torch.float64))
        self.register_buffer("root_pi", torch.tensor(math.sqrt(math.pi), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> same shape."""
        z = (x * self.root_half).clamp(-_LARGEST, _LARGEST)
        square = 2 * z * z
        total = torch.ones_like(z)
        for number in range(_TERMS, 0, -1):
            total = total * square / (2 * number + 1) + 1
        return x * (0.5 + z * total * torch.exp(-z * z) / self.root_pi)


_CONSTANTS = ("per_unit", "quantum", "threshold")
"""Attributes of the modules of `stateless` that may be numbers."""

_LARGEST, _TERMS = 6.0, 120
"""In float64, erf(6) is 1, and the series has settled there after 120 terms."""


def use_float64_operations(network: nn.Module) -> None:
    """Exchange, in place, convolutions of two axes and GELU for others of the same values, and numbers of neurons for
    tensors: the exporter of torch rounds numbers to float32.

    Args:
        network: a network for `export_onnx` in float64. Other functions that onnxruntime has in float32 only stay, and
            make it refuse the file.
    """
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d:
            set_submodule(network, name, ProductConvolution(module))
        elif type(module) is nn.GELU and module.approximate == "none":
            set_submodule(network, name, SeriesGELU())
        for constant in _CONSTANTS:
            if isinstance(getattr(module, constant, None), float):
                setattr(module, constant, torch.tensor(getattr(module, constant), dtype=torch.float64))
