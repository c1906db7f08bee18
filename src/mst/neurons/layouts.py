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


@dataclass(frozen=True, eq=False)
class Frame:
    """The order in which the neurons of a site lie in memory, to which the layout of every operand refers."""

    images: int
    """B."""

    shape: tuple[int, ...]
    """(k, ...), one image."""

    strides: tuple[int, ...]
    """Of its axes; together they lie without gaps."""

    neurons: int
    """n."""

    def operand(self, x: Tensor, has_steps: bool = False) -> Operand | None:
        """An operand of this frame.

        Args:
            x: broadcasts to one step [B*k, ...]; with a further axis before it, if it has steps.
            has_steps: False: the same in every step.

        Returns:
            None if it does not broadcast.
        """
        found = _layout(self, x.shape, x.stride(), has_steps)
        return None if found is None else (flat(x, found[1]), found[0])


@lru_cache(maxsize=1024)
def frame_of(shape: tuple[int, ...], strides: tuple[int, ...], images: int) -> Frame | None:
    """The frame of a state [B*k, ...]; None if its images do not lie one after another without gaps."""
    if not shape or shape[0] % images:
        return None
    of_image = (shape[0] // images, *shape[1:])
    expected = 1
    for length, stride in sorted(zip(of_image, strides, strict=True), key=lambda axis: (axis[1], axis[0])):
        if length > 1 and stride != expected:
            return None
        expected *= length
    if images > 1 and strides[0] * of_image[0] != expected:
        return None
    return Frame(images, of_image, tuple(strides), expected)


def flat(x: Tensor, span: int) -> Array:
    """The first `span` elements of the memory of x, as an array of one axis; bools as bytes."""
    memory = torch.as_strided(x.detach(), (span,), (1,))
    array: Array = (memory.view(torch.uint8) if x.dtype == torch.bool else memory).numpy()
    return array


@lru_cache(maxsize=1024)
def _layout(
    frame: Frame, shape: tuple[int, ...], strides: tuple[int, ...], has_steps: bool
) -> tuple[Array, int] | None:
    """Layout of an operand of this shape and these strides, and the elements that its memory spans."""
    span = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    step = strides[0] if has_steps and shape[0] > 1 else 0
    if has_steps:
        shape, strides = shape[1:], strides[1:]
    whole = (frame.images * frame.shape[0], *frame.shape[1:])
    missing = len(whole) - len(shape)
    if missing < 0 or any(a not in (1, b) for a, b in zip(shape, whole[missing:], strict=True)):
        return None
    own = (*[0] * missing, *(0 if a != b else s for a, b, s in zip(shape, whole[missing:], strides, strict=True)))
    image = own[0] * frame.shape[0] if frame.images > 1 else 0
    axes = sorted((order, n, s) for order, n, s in zip(frame.strides, frame.shape, own, strict=True) if n > 1)
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
    return np.concatenate([np.array([step, image, inner, length], dtype=np.int64), rows]), span
