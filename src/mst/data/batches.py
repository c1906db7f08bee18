"""Labelled images in any of the forms that users have them in, as batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mst.distributed import share_of
from mst.errors import InputError

from .loader import in_order

LabelledImages = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]] | Dataset[tuple[Tensor, int]]
"""(images, labels); or batches of them, for example a DataLoader; or a data set whose items are (image, label)."""


@dataclass(frozen=True)
class LabelledBatches:
    """Batches that one process reads."""

    batches: Iterable[tuple[Tensor, Tensor]]
    """Pairs (images [B, ...], labels [B])."""

    first_image: int
    """Index in the data of the first image that this process reads."""

    is_share: bool
    """True if other processes read other images; False if each process reads all of them."""


def labelled_batches(data: LabelledImages, batch_size: int, num_workers: int = 0) -> LabelledBatches:
    """Batches of `data`, in order. Only a data set is divided among the processes.

    Args:
        data: see `LabelledImages`.
        batch_size: images per batch, at least 1; not used for data that comes in batches.
        num_workers: processes that prepare the images of a data set.

    Raises:
        InputError: a batch size below 1, or images and labels of different length.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if is_dataset(data):
        share = share_of(len(data))  # type: ignore[arg-type]
        return LabelledBatches(in_order(data, share, batch_size, num_workers), share.start, True)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(each, Tensor) for each in data):
        images, labels = cast(tuple[Tensor, Tensor], data)
        if len(images) != len(labels):
            raise InputError(f"{len(images)} images need as many labels, got {len(labels)}")
        data = (
            list(zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True))
            if len(images)
            else []
        )
    return LabelledBatches(data, 0, False)  # type: ignore[arg-type]


def is_dataset(data: Any) -> TypeGuard[Dataset[tuple[Tensor, int]]]:
    """True for a map-style data set: a length and items by index, but not a list or tuple of batches."""
    return (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, list | tuple | Tensor | IterableDataset)
    )
