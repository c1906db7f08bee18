"""Products that are calls of functions, as modules with a site at each operand that depends on the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


_LEFT, _RIGHT = ("input", "self", "mat1", "batch1", "mat"), ("other", "mat2", "tensor2", "batch2", "vec")


def matrices_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Left and right operand of a call of torch.matmul and its kin."""
    left, right = [*args[:2], *(kwargs[name] for name in (*_LEFT, *_RIGHT) if name in kwargs)]
    return (right, left) if function is Tensor.__rmatmul__ else (left, right)


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
        return self(*matrices_of(function, args, kwargs))  # type: ignore[no-any-return]


class LinearProduct(nn.Module):
    """A linear map that is a function, with a site at its input."""

    def __init__(self, make_site: MakeSite, depends: tuple[bool, ...]) -> None:
        super().__init__()
        self.input_site = operand_site(make_site, "input", -1) if depends[0] else nn.Identity()
        self.map = LinearFunction()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., K], weight [M, K] -> [..., M]."""
        y: Tensor = self.map(self.input_site(x), weight, bias)
        return y

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return self(*args, **{_TENSORS.get(name, name): value for name, value in kwargs.items()})  # type: ignore[no-any-return]


_TENSORS = {"input": "x"}
"""Keyword of `torch.nn.functional.linear` -> that of the module."""


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
        mixed, _ = self.attend(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return mixed

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, with the softmax as it reaches its site, [..., N, M]."""
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        heads = query.shape[-3] if enable_gqa else 0  # several heads of queries read the same keys and values
        scores = self.scores(self.query(query), _for_heads(self.key(key), heads)) * scale
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
        y: Tensor = self.mix(F.dropout(weights, dropout_p, dropout_p > 0), _for_heads(self.value(value), heads))
        return y, shares

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        return self(*args, **kwargs)  # type: ignore[no-any-return]


def _for_heads(x: Tensor, heads: int) -> Tensor:
    """[..., H, N, K] -> [..., heads, N, K], each head repeated; 0 leaves it as it is."""
    return x.repeat_interleave(heads // x.shape[-3], -3) if heads and heads != x.shape[-3] else x


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
