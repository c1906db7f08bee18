"""Subsets of the images of a batch, and their rows in a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

from mst.neurons.image_rows import take_rows

ALMOST_ALL = 0.75
"""Share of a batch above which all of its images are taken: copying the others costs more than computing them."""


class Images:
    """Some images of a batch.

    Args:
        mask: bool [B], True for those that are meant.

    Attributes:
        mask: the same.
        index: int64 [n], their places in the batch, in order.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.index = mask.nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def are_all(self) -> bool:
        """True if they are the whole batch."""
        return len(self.index) == len(self.mask)


def union(parts: Iterable[Images]) -> Images:
    """The images that are in any of `parts`; one of the parts itself where it holds all the others, and the whole batch
    where there are almost as many."""
    unique = list(dict.fromkeys(parts))
    largest = max(unique, key=len)
    if len(unique) == 1 or largest.are_all:
        return largest
    mask = reduce(torch.logical_or, (part.mask for part in unique))
    number = int(mask.sum())
    if number == len(largest):
        return largest
    return Images(torch.ones_like(mask) if number > ALMOST_ALL * len(mask) else mask)


def take(x: Tensor, images: Images) -> Tensor:
    """[B*k, ...] -> [n*k, ...]: the rows of these images, a copy unless they are all."""
    return x if images.are_all else take_rows(x, len(images.mask), images.index)
