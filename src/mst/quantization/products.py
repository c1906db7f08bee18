"""Products that are calls of functions, as modules with a site at each operand that depends on the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import ActivationProduct
from mst.models.layers import LinearFunction
from mst.neurons import QCFS

MakeSite = Callable[[], QCFS]


def operand_site(make_site: MakeSite, role: str, scale_axis: int | None = None) -> QCFS:
    """A site at an operand of a product."""
    site = make_site()
    site.is_operand, site.role, site.scale_axis = True, role, scale_axis
    site.layout = {1: "channels_first", -1: "channels_last"}.get(scale_axis) if scale_axis else None  # type: ignore[assignment]
    return site


_MATMULS = frozenset({torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__})
_REVERSED = frozenset({Tensor.__rmatmul__})


def product_kind(function: Any) -> str | None:
    """ "matmul", "linear", "attention" or "heads" for a function that multiplies matrices; None for others."""
    try:
        return _KINDS.get(function)
    except TypeError:
        return None


_KINDS: dict[Any, str] = {
    **dict.fromkeys(_MATMULS | _REVERSED, "matmul"),
    **dict.fromkeys([torch.softmax, Tensor.softmax, F.softmax], "softmax"),
    F.linear: "linear",
    F.scaled_dot_product_attention: "attention",
    F.multi_head_attention_forward: "heads",
}


OTHER_PRODUCTS = frozenset({
    torch.einsum, torch.tensordot, torch.addmm, torch.baddbmm, torch.addbmm, torch.mv, torch.inner, torch.chain_matmul,
    Tensor.addmm, Tensor.baddbmm, Tensor.addbmm, Tensor.mv, Tensor.inner, torch.linalg.multi_dot, F.bilinear,
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
})  # fmt: skip
"""Products that have no module in their place: they stay analog."""


def operands_of(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that a product multiplies, in the order of its sites."""
    names = {"matmul": ("input", "other"), "linear": ("input",), "attention": ("query", "key", "value")}
    names |= {"heads": ("query", "key", "value"), "softmax": ("input",)}
    wanted = names[_KINDS[function]]
    kwargs = {{"mat2": "other", "tensor2": "other", "self": "input"}.get(name, name): kwargs[name] for name in kwargs}
    found = [*args[: len(wanted)], *(kwargs[name] for name in wanted[len(args) :] if name in kwargs)]
    if function in _REVERSED:
        found.reverse()
    return tuple(found)


class MatrixProduct(nn.Module):
    """A·B with a site at each operand that depends on the image."""

    def __init__(self, make_site: MakeSite, depends: tuple[bool, ...]) -> None:
        super().__init__()
        # The product adds up over the last axis of the left operand and the last but one of the right.
        self.left = operand_site(make_site, "left") if depends[0] else nn.Identity()
        self.right = operand_site(make_site, "right", -1) if depends[1] else nn.Identity()
        self.product = ActivationProduct()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """left [..., N, K], right [..., K, M] -> [..., N, M]; a vector [K] is one row or one column, as in torch."""
        rows = left[None] if left.dim() == 1 else left
        columns = right[:, None] if right.dim() == 1 else right
        y: Tensor = self.product(self.left(rows), self.right(columns))
        y = y.squeeze(-1) if right.dim() == 1 else y
        return y.squeeze(-2 if right.dim() > 1 else -1) if left.dim() == 1 else y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return self(*operands_of(function, args, kwargs))  # type: ignore[no-any-return]


class LinearProduct(nn.Module):
    """A linear map that is a function, with a site at its input."""

    def __init__(self, make_site: MakeSite, depends: tuple[bool, ...]) -> None:
        super().__init__()
        self.input_site = operand_site(make_site, "input", -1)
        self.map = LinearFunction()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., K], weight [M, K] -> [..., M]."""
        y: Tensor = self.map(self.input_site(x), weight, bias)
        return y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return self(*args, **kwargs)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """softmax(scale·q·kᵀ + mask)·v with sites on the queries, keys, values and the softmax."""

    def __init__(self, make_site: MakeSite, depends: tuple[bool, ...] = (True, True, True)) -> None:
        super().__init__()
        roles = (("query", None), ("key", None), ("value", -1))
        self.query, self.key, self.value = (
            operand_site(make_site, role, axis) if each else nn.Identity()
            for each, (role, axis) in zip(depends, roles, strict=True)
        )
        self.weights = operand_site(make_site, "weights")
        self.scores, self.mix = ActivationProduct(transpose_right=True), ActivationProduct()
        self.softmax = nn.Softmax(dim=-1)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """query [..., N, K], key [..., M, K], value [..., M, V] -> [..., N, V]; the options are those of
        `torch.nn.functional.scaled_dot_product_attention`."""
        if enable_gqa:
            raise InputError("attention with fewer heads of keys (enable_gqa) is not taken apart", remedy="repeat them")
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = self.scores(self.query(query), self.key(key)) * scale
        if is_causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril().logical_not()
            scores = scores.masked_fill(hidden, -math.inf)
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
            else:
                scores = scores + attn_mask
        shares = self.softmax(scores)
        if attn_mask is not None:  # a query that may look nowhere gets 0, as in torch, and not NaN
            hidden = attn_mask.logical_not() if attn_mask.dtype == torch.bool else attn_mask.isneginf()
            shares = shares.masked_fill(hidden.all(-1, keepdim=True), 0.0)
        weights = self.weights(shares)
        y: Tensor = self.mix(F.dropout(weights, dropout_p, dropout_p > 0), self.value(value))
        return y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return self(*args, **kwargs)  # type: ignore[no-any-return]


class SoftmaxCall(nn.Module):
    """A softmax that is a function, as a module, whose operations are counted. It has no site."""

    def __init__(self, make_site: MakeSite, depends: tuple[bool, ...]) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., N] -> softmax over the last axis."""
        y: Tensor = self.softmax(x)
        return y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        names = ("input", "dim", "_stacklevel" if function is F.softmax else "dtype")
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        x, dim = given["input"], given.get("dim")
        if given.get("dtype") is not None or dim not in (-1, x.dim() - 1):
            result: Tensor = function(*args, **kwargs)
            return result
        return self(x)  # type: ignore[no-any-return]


PRODUCTS: dict[str, type[nn.Module]] = {
    "matmul": MatrixProduct,
    "linear": LinearProduct,
    "attention": Attention,
    "softmax": SoftmaxCall,
}
"""Kind of a call -> the module that takes its place."""
