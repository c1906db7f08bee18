"""Multi-head attention in one call, as torch's own `nn.MultiheadAttention` makes it, taken apart into its products."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError
from mst.models.layers import LinearFunction

from .products import Attention, LinearProduct, MakeSite, operand_site

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)
_NOT_TAKEN_APART = ("bias_k", "bias_v", "static_k", "static_v", "add_zero_attn")


class Heads(nn.Module):
    """Projections of queries, keys and values, attention of each head, and the projection of what they mix.

    Args:
        make_site: returns a new QCFS.
        depends: for queries, keys and values, False where they are a constant.
        own: likewise, False where they are to have no site: the image itself, or the same tensor as one before, whose
            site then serves both.
    """

    def __init__(
        self, make_site: MakeSite, depends: tuple[bool, ...], own: tuple[bool, ...] = (True, True, True)
    ) -> None:
        super().__init__()
        self.query_input, self.key_input, self.value_input = (
            operand_site(make_site, "input", -1) if each and is_own else nn.Identity()
            for each, is_own in zip(depends, own, strict=True)
        )
        self.query_map, self.key_map, self.value_map = LinearFunction(), LinearFunction(), LinearFunction()
        self.attention = Attention(make_site, depends)
        self.out = LinearProduct(make_site, (True,))

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The result of the call that this module stands for."""
        bound = _SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for name in _NOT_TAKEN_APART:
            if given[name] is not None and given[name] is not False:
                raise InputError(
                    f"attention with {name} is not taken apart into its products",
                    remedy="build nn.MultiheadAttention without it (add_bias_kv=False, add_zero_attn=False)",
                )
        return self(given)  # type: ignore[no-any-return]

    def forward(self, given: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """given: the arguments of `torch.nn.functional.multi_head_attention_forward` by name -> what it returns."""
        query, key, value = given["query"], given["key"], given["value"]
        is_single = query.dim() == 2  # one sequence, without an axis for the batch
        from_query = self.query_input(_batch_first(query))
        from_key = from_query if key is query else self.key_input(_batch_first(key))
        from_value = (
            from_query if value is query else from_key if value is key else self.value_input(_batch_first(value))
        )
        inputs = (from_query, from_key, from_value)
        heads = [
            self._by_head(linear(x, weight, bias), given["num_heads"])
            for linear, x, (weight, bias) in zip(
                (self.query_map, self.key_map, self.value_map), inputs, _projections(given), strict=True
            )
        ]
        mask = _mask(given, len(heads[0]), heads[0].dtype)
        is_causal = bool(given["is_causal"]) and given["attn_mask"] is None
        dropout = given["dropout_p"] if given["training"] else 0.0
        query, key, value = heads
        mixed, shares = self.attention.attend(query, key, value, mask, dropout, is_causal)  # [N, H, L, K], [N, H, L, M]
        mixed = mixed.transpose(1, 2).flatten(2)
        y = self.out(mixed, given["out_proj_weight"], given["out_proj_bias"]).transpose(0, 1)
        shares = shares.mean(dim=1) if given["average_attn_weights"] else shares
        if is_single:
            y, shares = y.squeeze(1), shares.squeeze(0)
        return y, shares if given["need_weights"] else None

    @staticmethod
    def _by_head(x: Tensor, num_heads: int) -> Tensor:
        """[N, L, H·K] -> [N, H, L, K]."""
        return x.view(*x.shape[:-1], num_heads, -1).transpose(1, 2)


def _batch_first(x: Tensor) -> Tensor:
    """[L, N, E] or [L, E] -> [N, L, E]: sites see the images on the first axis."""
    return x.unsqueeze(0) if x.dim() == 2 else x.transpose(0, 1)


def _projections(given: Mapping[str, Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias for queries, keys and values."""
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    bias = given["in_proj_bias"]
    return list(zip(weights, [None] * 3 if bias is None else bias.chunk(3), strict=True))


def _mask(given: Mapping[str, Any], batch: int, dtype: torch.dtype) -> Tensor | None:
    """Values to add to the scores [N, H, L, M]; None adds nothing. A mask of bools is True where nothing may look."""
    masks = []
    for name in ("attn_mask", "key_padding_mask"):
        mask = given[name]
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
        if name == "key_padding_mask":
            mask = mask.reshape(-1, 1, 1, mask.shape[-1])
        elif mask.dim() == 3:
            mask = mask.view(batch, -1, *mask.shape[1:])
        masks.append(mask.to(dtype))
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] + masks[1]
