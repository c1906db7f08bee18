"""Convolutions that are calls of functions, as modules with a site at their input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import ConvolutionFunction, TransposedConvolutionFunction

from .products import MakeSite, operand_site

CONVOLUTIONS = frozenset({F.conv1d, F.conv2d, F.conv3d})
TRANSPOSED = frozenset({F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d})

_PARAMETERS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_PARAMETERS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def convolution_of(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """Input, weights and bias of a call, and its options as `ConvolutionFunction` takes them."""
    names = _TRANSPOSED_PARAMETERS if function in TRANSPOSED else _PARAMETERS
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return x, weight, bias, {**options, "weight_shape": tuple(weight.shape)}


class ConvolutionProduct(nn.Module):
    """A convolution that is a function, with a site at its input.

    Args:
        make_site: returns a new QCFS.
        has_site: False where it reads the image itself.
        is_transposed: True for a transposed convolution.
        options: of `ConvolutionFunction`.
    """

    def __init__(
        self, make_site: MakeSite, has_site: bool, is_transposed: bool = False, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.options = dict(options or {})
        self.input_site = operand_site(make_site, "input", 1) if has_site else nn.Identity()
        self.map = (TransposedConvolutionFunction if is_transposed else ConvolutionFunction)(**self.options)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [B, C, *places] -> [B, C', *places]."""
        y: Tensor = self.map(self.input_site(x), weight, bias)
        return y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for.

        Raises:
            InputError: its options are not those with which the network was quantised.
        """
        x, weight, bias, options = convolution_of(function, args, kwargs)
        if options != self.options:
            raise InputError(
                f"a convolution that is a function is called with other options ({options}) than when the network was "
                f"quantised ({self.options})",
                remedy="make it a module, or quantise with images that the network treats alike",
            )
        return self(x, weight, bias)  # type: ignore[no-any-return]
