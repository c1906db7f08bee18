"""The rows of some images of a batch in a tensor that holds those of all.

Letters: B images, n of them, k rows of an image on the batch axis, `...` further axes.
"""

from __future__ import annotations

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
