"""The door for images: every form that users have them in becomes batches that have been looked at.

Training, evaluation, simulation, calibration and conversion take their images here, so a form that one of them takes is
taken by all, and what is wrong with images or labels is refused by all in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal, TypeGuard

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from mst.distributed import share_of
from mst.errors import InputError, errors_at
from mst.numbers import whole_number

from .loader import in_order
from .samples import Batch, as_batch, collate, entries_of, form_of, is_sample

ImageData = Tensor | np.ndarray[Any, Any] | Iterable[Any] | Dataset[Any]
"""Images, or images with labels, in any of these forms:

- images [N, ...], a tensor or a NumPy array;
- (images, labels), or a dict of both under the keys of a Hugging Face data set ("image", "img", "images" or
  "pixel_values"; "label" or "labels");
- batches of either, for example a DataLoader;
- a data set or a list of samples: (image, class number), or a dict of both. Entries after the second are ignored.

Whole numbers are taken as they are, uint8 pixels as 0 to 255: nothing is scaled. A label is a whole number from 0 to
K - 1 for K classes; labels may be [N] or [N, 1], of any number type.
"""

DEFAULT_BATCH_SIZE = 32
"""Samples at once, where the caller leaves it open."""


@dataclass(frozen=True)
class ImageBatches:
    """Batches that one process reads."""

    batches: Iterable[Batch]
    """Pairs (images [B, ...], labels int64 [B] or None)."""

    form: Literal["data set", "samples", "tensors", "batches"]
    """Form that the images had: a data set; samples one by one; images in memory; batches."""

    first_image: int = 0
    """Index in the data of the first image that this process reads."""

    @property
    def is_share(self) -> bool:
        """True if other processes read other images; False if each process reads all of them."""
        return self.form == "data set"


def batches_of(
    data: ImageData, batch_size: int | None = None, num_workers: int = 0, *, needs_labels: bool = False
) -> ImageBatches:
    """Batches of `data`, in order. Only a data set is divided among the processes.

    Args:
        data: see `ImageData`.
        batch_size: images per batch; not used for data that comes in batches. None takes 32 samples, and all of images
            that are in memory.
        num_workers: processes that prepare the images of a data set.
        needs_labels: True refuses images without labels.

    Raises:
        InputError: at once, a batch size below 1 or data of another form. While the batches are read: NaN or infinity
            in an image, labels that are not class numbers, images of several shapes, batches with and without labels.
    """
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, 1)
    num_workers = whole_number("num_workers", num_workers, 0)
    if is_dataset(data):
        share = share_of(len(data))  # type: ignore[arg-type]
        batches = in_order(data, share, batch_size or DEFAULT_BATCH_SIZE, num_workers, needs_labels)
        return ImageBatches(batches, "data set", share.start)
    if _is_whole(data, needs_labels):
        return ImageBatches(_split(*as_batch(data, 0, needs_labels), batch_size), "tensors")
    items = _items(data, needs_labels)
    first = list(islice(items, 1))
    if first and is_sample(first[0]):
        return ImageBatches(_grouped(chain(first, items), batch_size or DEFAULT_BATCH_SIZE, needs_labels), "samples")
    return ImageBatches(_looked_at(chain(first, items), needs_labels), "batches")


def image_batches(data: ImageData) -> Iterator[Tensor]:
    """The images of `data` in batches, none of them empty, without their labels.

    Args:
        data: see `ImageData`; every process takes all images.

    Raises:
        InputError: as `batches_of`.
    """
    whole = in_order(data, range(len(data)), DEFAULT_BATCH_SIZE, 0, False) if is_dataset(data) else None  # type: ignore[arg-type]
    for images, _ in whole or batches_of(data).batches:
        if len(images):
            yield images


def as_dataset(data: ImageData, name: str) -> Dataset[Any]:
    """A data set of labelled samples, by index: as it is, or made of a list of samples or of (images, labels).

    Args:
        data: a form of `ImageData` that is not batches.
        name: of the argument, for errors.

    Raises:
        InputError: batches, an iterator, or no sample.
    """
    if _is_whole(data, needs_labels=True):
        with errors_at(name):
            images, labels = as_batch(data, 0, needs_labels=True)
        assert labels is not None
        data = TensorDataset(images, labels)
    elif isinstance(data, list | tuple):
        data = Subset(data, range(len(data)))  # type: ignore[arg-type]
    if not is_dataset(data):
        raise InputError(
            f"training takes samples by index, which this {type(data).__name__} does not allow",
            where=name,
            remedy="give a data set (of a DataLoader its `dataset`, of mst.load_dataset one split), a list of (image, "
            "class number), or (images, labels)",
        )
    if len(data) == 0:  # type: ignore[arg-type]
        raise InputError("it holds no sample", where=name)
    return data


def is_dataset(data: Any) -> TypeGuard[Dataset[Any]]:
    """True for a map-style data set: a length and items by index, but not a list or tuple, an array, a dict or text."""
    return (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, list | tuple | Tensor | np.ndarray | Mapping | str | bytes | IterableDataset)
    )


def _is_whole(data: Any, needs_labels: bool) -> bool:
    """True for images, or images and labels, rather than batches or samples of them."""
    if isinstance(data, Tensor | np.ndarray | Mapping):
        return entries_of(data) is not None
    if not isinstance(data, list | tuple) or len(data) < 2 or not isinstance(data[0], Tensor | np.ndarray):
        return False
    labels = data[1]
    if labels is None:
        return len(data) == 2
    if isinstance(labels, Tensor | np.ndarray):
        return 0 < labels.ndim < data[0].ndim or (needs_labels and len(data) == 2 and labels.ndim > 0)
    if not isinstance(labels, list | tuple):
        return False
    return not any(entries_of(each) is not None and getattr(each, "ndim", 1) > 0 for each in labels[:1])


def _items(data: Any, needs_labels: bool) -> Iterator[Any]:
    wanted = "(images, labels)" if needs_labels else "images or (images, labels)"
    if isinstance(data, Mapping | str | bytes) or not isinstance(data, Iterable):
        raise InputError(
            f"the data must be {wanted}, batches of them, or a data set of (image, class number), got {form_of(data)}",
            remedy="of mst.load_dataset, which opens a data set by name, give one split: .train or .test",
        )
    if isinstance(data, tuple) and isinstance(data[0], Tensor | np.ndarray) and is_sample(data):
        raise InputError(f"the data is a single sample, {form_of(data)}", remedy="put it into a list: [sample]")
    return iter(data)


def _split(images: Tensor, labels: Tensor | None, batch_size: int | None) -> Iterator[Batch]:
    size = batch_size or max(1, len(images))
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images[part], None if labels is None else labels[part]


def _grouped(samples: Iterator[Any], size: int, needs_labels: bool) -> Iterator[Batch]:
    numbered = enumerate(samples)
    while group := list(islice(numbered, size)):
        yield collate(group, needs_labels)


def _looked_at(items: Iterator[Any], needs_labels: bool) -> Iterator[Batch]:
    first_image, is_labelled = 0, None
    for item in items:
        images, labels = as_batch(item, first_image, needs_labels)
        if is_labelled not in (None, labels is not None):
            raise InputError(
                f"the batch of image {first_image} has "
                f"{'no labels, those before it have' if labels is None else 'labels, those before it have none'}",
                remedy="label all batches or none",
            )
        is_labelled = labels is not None
        first_image += len(images)
        yield images, labels
