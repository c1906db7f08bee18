"""Where the elements of an image lie in memory, for loops that know arrays of one axis only.

Letters: T steps, B images, k rows of an image on the batch axis, n neurons of an image, `...` further axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Operand = tuple[Array, Array]
"""The memory of a tensor, an array of one axis, and its layout: int64 [step, image, inner, length, row 0, row 1, ...].
Elements r·length to (r + 1)·length of an image lie at row r, with a stride of `inner`; `step` and `image` are the
distances to the next step and image."""


FIRST_ROW = 4
"""Place of the first row in a layout."""

CHANGED, MISSING, IS_NAN = 1, 2, 4
"""Bits of the state of some neurons after a step: their output has changed, one has yet to fire, one is NaN."""


@dataclass(frozen=True)
class Frame:
    """The order in which the neurons of a site lie in memory, to which the layout of every operand refers."""

    images: int
    """B."""

    shape: tuple[int, ...]
    """(k, ...), one image."""

    strides: tuple[int, ...]
    """Of its axes; together they lie without gaps."""

    @property
    def neurons(self) -> int:
        """n."""
        return int(np.prod(self.shape, dtype=np.int64))

    def operand(self, x: Tensor, has_steps: bool = False) -> Operand | None:
        """An operand of this frame.

        Args:
            x: broadcasts to one step [B*k, ...]; with a further axis before it, if it has steps.
            has_steps: False: the same in every step.

        Returns:
            None if it does not broadcast.
        """
        one = x[0] if has_steps else x
        whole = (self.images * self.shape[0], *self.shape[1:])
        lengths = (*[1] * (len(whole) - one.dim()), *one.shape)
        if len(lengths) > len(whole) or any(a not in (1, b) for a, b in zip(lengths, whole, strict=True)):
            return None
        rows, *strides = one.expand(whole).stride()
        image = rows * self.shape[0] if self.images > 1 else 0
        step = x.stride(0) if has_steps and len(x) > 1 else 0
        return flat(x), _layout(self.shape, self.strides, (rows, *strides), step, image)


def frame_of(state: Tensor, images: int) -> Frame | None:
    """The frame of a state [B*k, ...]; None if its images do not lie one after another without gaps."""
    if state.dim() == 0 or len(state) % images:
        return None
    shape, strides = (len(state) // images, *state.shape[1:]), state.stride()
    expected = 1
    for length, stride in sorted(zip(shape, strides, strict=True), key=lambda axis: (axis[1], axis[0])):
        if length > 1 and stride != expected:
            return None
        expected *= length
    if images > 1 and strides[0] * shape[0] != expected:
        return None
    return Frame(images, shape, strides)


def flat(x: Tensor) -> Array:
    """The memory from the first to the last element of x, as an array of one axis; bools as bytes."""
    span = 1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))
    memory = torch.as_strided(x.detach(), (span,), (1,), x.storage_offset())
    array: Array = (memory.view(torch.uint8) if x.dtype == torch.bool else memory).numpy()
    return array


@lru_cache(maxsize=256)
def _layout(shape: tuple[int, ...], order: tuple[int, ...], strides: tuple[int, ...], step: int, image: int) -> Array:
    """Layout of an operand with these strides, of a frame with this shape and the strides `order`."""
    axes = sorted(((o, length, s) for o, length, s in zip(order, shape, strides, strict=True) if length > 1))
    merged: list[list[int]] = []  # [length, stride], innermost first
    for _, length, stride in axes:
        if merged and stride == merged[-1][0] * merged[-1][1]:
            merged[-1][0] *= length
        else:
            merged.append([length, stride])
    length, inner = merged[0] if merged else (1, 1)
    rows = np.zeros(1, dtype=np.int64)
    for number, stride in merged[1:]:  # the innermost of these runs fastest
        rows = (np.arange(number, dtype=np.int64)[:, None] * stride + rows).reshape(-1)
    return np.concatenate([np.array([step, image, inner, length], dtype=np.int64), rows])
