"""The rows of some images of a batch in a tensor that holds those of all.

Letters: B images, n of them, k rows of an image on the batch axis, `...` further axes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(x: Tensor, batch_size: int, places: Tensor) -> Tensor:
    """[B*k, ...] -> [n*k, ...]: a copy of the rows of some images; places: int64 [n]."""
    if len(x) == batch_size:
        return x.index_select(0, places)
    return x.view(batch_size, -1, *x.shape[1:]).index_select(0, places).flatten(0, 1)


def put_rows(x: Tensor, batch_size: int, places: Tensor, rows: Tensor) -> None:
    """Write the rows [n*k, ...] of some images into x [B*k, ...]; places: int64 [n]."""
    if x.is_contiguous():
        x.view(batch_size, -1).index_copy_(0, places, rows.reshape(len(places), -1))
    else:
        whole = x.view(batch_size, -1, *x.shape[1:])
        whole.index_copy_(0, places, rows.view(len(places), -1, *x.shape[1:]))


def empty_rows(x: Tensor, number: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised [number, ...] whose axes lie in memory in the order of those of x [B*k, ...], so that one loop can
    pass over both; contiguous where the images of x do not lie one after another without gaps."""
    shape, image = (number, *x.shape[1:]), x.numel() // max(1, len(x))
    is_dense = torch.empty_like(x).stride() == x.stride() and (len(x) <= 1 or x.stride(0) == image)
    strides = (image, *x.stride()[1:])
    return x.new_empty_strided(shape, strides, dtype=dtype) if is_dense else x.new_empty(shape, dtype=dtype)


def in_memory_as(rows: Tensor, x: Tensor) -> Tensor:
    """Rows [m, ...] of images, laid out as by `empty_rows`."""
    return rows if x.is_contiguous() else empty_rows(x, len(rows), rows.dtype).copy_(rows)
