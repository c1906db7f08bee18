"""Images to simulate, in any of the forms that users have them in, as batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from mst.errors import InputError

from .options import SimulationOptions

Batch = tuple[Tensor, Tensor | None]
"""Images [B, ...] and their labels, int64 [B], if there are any."""

SimulationData = Tensor | tuple[Tensor, Tensor] | Iterable[Tensor | tuple[Tensor, Tensor]] | Dataset[Any]
"""Images [N, ...]; or (images, labels); or batches of either, for example a DataLoader; or a data set whose items are
(image, label)."""


def batches_of(data: SimulationData, options: SimulationOptions) -> Iterator[Batch]:
    """Batches of a tensor, of a pair, or of what comes in batches.

    Raises:
        InputError: a batch of another form, or options for data of another kind.
    """
    if options.num_workers:
        raise InputError("num_workers has no effect on images that are in memory already", remedy="give a data set")
    whole = _as_batch(data) if isinstance(data, Tensor | tuple | list) else None
    if whole is not None:
        return _split(*whole, options.batch_size)
    if options.batch_size is not None:
        raise InputError("batch_size has no effect on data that comes in batches", remedy="give a tensor or a data set")
    return _checked(data)


def _checked(data: Any) -> Iterator[Batch]:
    for item in data:
        batch = _as_batch(item)
        if batch is None and isinstance(item, tuple | list) and len(item) == 1:
            batch = _as_batch(item[0])
        if batch is None:
            raise InputError(f"a batch is images or (images, labels), got {_form(item)}")
        yield batch


def _as_batch(item: Any) -> Batch | None:
    """Images, or a pair of images and labels; None for anything else, such as two batches of images."""
    if isinstance(item, Tensor):
        return item, None
    if not isinstance(item, tuple | list) or len(item) != 2:
        return None
    images, labels = item
    is_pair = isinstance(images, Tensor) and isinstance(labels, Tensor) and labels.dim() < images.dim()
    return (images, labels) if is_pair else None


def _split(images: Tensor, labels: Tensor | None, batch_size: int | None) -> Iterator[Batch]:
    if labels is not None and labels.shape != images.shape[:1]:
        raise InputError(f"{len(images)} images need {len(images)} labels, got labels of shape {tuple(labels.shape)}")
    size = batch_size or max(1, len(images))
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images[part], None if labels is None else labels[part]


def _form(batch: object) -> str:
    inside = f" of {', '.join(type(item).__name__ for item in batch)}" if isinstance(batch, tuple | list) else ""
    return type(batch).__name__ + inside
