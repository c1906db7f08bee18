"""Functions of torch that multiply: their kinds, their operands, and the module that takes the place of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError

from .contractions import ACTIVATION, ADDED, CONSTANT, CONTRACTIONS, Contraction, added, steps_of, terms_of
from .convolutions import CONVOLUTIONS, TRANSPOSED, ConvolutionProduct, convolution_of
from .heads import Heads
from .products import Attention, LinearProduct, MakeSite, MatrixProduct, SoftmaxCall, matrices_of

Make = Callable[[MakeSite], nn.Module]
"""Makes the module for one call."""

_MATMULS = frozenset({
    torch.matmul, torch.bmm, torch.mm, torch.mv, torch.linalg.matmul, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.mv,
    Tensor.__matmul__,
})  # fmt: skip
_REVERSED = frozenset({Tensor.__rmatmul__})

KINDS: dict[Any, str] = {
    **dict.fromkeys(_MATMULS | _REVERSED, "matmul"),
    **dict.fromkeys(CONTRACTIONS, "einsum"),
    **dict.fromkeys(ADDED - set(CONTRACTIONS), "addmm"),
    **dict.fromkeys([torch.softmax, Tensor.softmax, F.softmax], "softmax"),
    **dict.fromkeys(CONVOLUTIONS | TRANSPOSED, "convolution"),
    F.linear: "linear",
    F.scaled_dot_product_attention: "attention",
    F.multi_head_attention_forward: "heads",
}
"""Function -> the kind of its calls, which names their modules."""

_RECURRENT = frozenset({
    "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
})  # fmt: skip

_OTHERS = frozenset({
    "addmm_", "addbmm_", "baddbmm_", "addmv_", "addr", "addr_", "kron", "conv_tbc", "convolution", "_convolution",
    "sspaddmm", "matrix_power", "linalg_matrix_power",
})  # fmt: skip
"""Names of products that no module stands for."""


def product_kind(function: Any) -> str | None:
    """Kind of a function that multiplies matrices, see `KINDS`; None for others."""
    try:
        return KINDS.get(function)
    except TypeError:  # not hashable
        return None


def refusal(function: Any, kwargs: Mapping[str, Any]) -> InputError | None:
    """The reason why no module can stand for a call of a product; None if one can, or if it is not a product."""
    name = str(getattr(function, "__name__", ""))
    if name in _RECURRENT:
        return InputError(
            f"{name} hides the products and activations of a recurrent layer in one function",
            remedy="write the cell out with nn.Linear, torch.sigmoid and torch.tanh, or choose another network",
        )
    if name in _OTHERS:
        return InputError(
            f"{name} is a product that gets no sites", remedy="write it as torch.matmul, torch.einsum or a convolution"
        )
    if kwargs.get("out") is not None and product_kind(function) is not None:
        return InputError(f"{name} writes into a given tensor (out=)", remedy="let it return a new one")
    return None


def operands_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that a product multiplies, in the order of its sites; weights that go with each call come last."""
    kind = KINDS[function]
    if kind == "einsum":
        return terms_of(function, args, kwargs).operands
    if kind == "matmul":
        return matrices_of(function, args, kwargs)
    if kind == "addmm":
        return matrices_of(function, args[1:], {name: kwargs[name] for name in kwargs if name != "input"})
    names = _OPERANDS[kind]
    return (*args[: len(names)], *(kwargs[name] for name in names[len(args) :]))


_OPERANDS = {
    "linear": ("input", "weight"),
    "convolution": ("input", "weight"),
    "attention": ("query", "key", "value"),
    "heads": ("query", "key", "value"),
    "softmax": ("input",),
}
"""Kind -> keywords of its operands."""


class AddedProduct(MatrixProduct):
    """beta·C + alpha·A·B with a site at A and B."""

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return added(self(*operands_of(function, args, kwargs)), args, kwargs)


_SIMPLE: dict[str, Callable[[MakeSite, tuple[bool, ...]], nn.Module]] = {
    "matmul": MatrixProduct,
    "addmm": AddedProduct,
    "linear": LinearProduct,
    "attention": Attention,
    "softmax": SoftmaxCall,
}


def module_for(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], roles: tuple[str, ...]) -> Make:
    """Maker of the module that takes the place of a call.

    Args:
        function: one of `KINDS`.
        args, kwargs: what it is called with.
        roles: what each of its operands is, see `mst.quantization.contractions`.

    Raises:
        InputError: no module can; the place is not named.
    """
    kind, has_site = KINDS[function], tuple(role == ACTIVATION for role in roles)
    operands = operands_of(function, args, kwargs)
    for operand, role in zip(operands, roles, strict=True):
        if role == ACTIVATION and not operand.is_floating_point():
            raise InputError(f"it multiplies values of {operand.dtype}", remedy="write it with real numbers")
    if kind in ("linear", "convolution") and roles[1] != CONSTANT:
        raise InputError(
            "its weights are computed from the image",
            remedy="write it as a product of two activations, torch.matmul or torch.einsum over each image alone",
        )
    if kind == "einsum":
        terms = terms_of(function, args, kwargs)
        steps_of(terms, roles)
        return partial(Contraction, terms=replace(terms, operands=()), roles=roles)
    if kind == "convolution":
        options = convolution_of(function, args, kwargs)[3]
        if operands[0].dim() != operands[1].dim():
            raise InputError("its input has no axis of images", remedy="give it [B, C, ...]")
        is_transposed = function in TRANSPOSED
        return partial(ConvolutionProduct, has_site=has_site[0], is_transposed=is_transposed, options=options)
    if kind == "heads":
        query, key, value = operands
        is_first = (True, key is not query, value is not query and value is not key)
        own = tuple(each and first for each, first in zip(has_site, is_first, strict=True))
        return partial(Heads, depends=tuple(role != CONSTANT for role in roles), own=own)
    return partial(_SIMPLE[kind], depends=has_site)  # type: ignore[call-arg]
