"""One split of a data set: labelled samples as they are stored, and the same as a network sees them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mst.errors import InputError

from .events.sources import StoredRecording
from .unreadable import BadImages, UnreadableSampleError, none_readable

logger = logging.getLogger(__name__)

Sample = Tensor | Image.Image | StoredRecording
"""A sample as a data set holds it: an image in memory or decoded, or a recording of an event camera."""


Transform = Callable[[Any], Tensor]
"""From a sample to the input of a network."""


class RawSplit(Protocol):
    """Images or recordings as they are stored, with their labels."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Sample, int]:
        """Sample and label.

        Raises:
            UnreadableSampleError: the sample cannot be read.
        """

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed what identifies this split's content into `digest`."""


@dataclass(frozen=True)
class StoredImages:
    """Images in memory.

    Raises:
        InputError: pixels of another type or range, or labels that are not one class number for each image.
    """

    images: Tensor
    """[N, C, height, width], uint8, or float from 0 to 1."""

    labels: Tensor
    """int64 [N]."""

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dim() != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
            raise InputError(f"images must be uint8 or float [N, C, height, width], got {_form(images)}")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise InputError(f"labels must be int64 [N] for {len(images)} images, got {_form(labels)}")
        if images.is_floating_point() and len(images):
            low, high = images.aminmax()
            if not 0 <= low <= high <= 1:  # NaN compares false
                raise InputError(
                    f"pixels of floating-point images must be from 0 to 1, got {float(low):g} to {float(high):g}",
                    remedy="scale them, or keep them as uint8",
                )

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Tensor, int]:
        """Image and label."""
        return self.images[index], int(self.labels[index])

    def read_rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images [B, C, height, width] and labels [B]."""
        rows = torch.as_tensor(indices)
        return self.images[rows], self.labels[rows]

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed pixels and labels into `digest`."""
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())


@dataclass(frozen=True)
class PartOfSplit:
    """Some samples of a split."""

    whole: RawSplit
    """The split."""

    indices: Sequence[int]
    """Indices of its samples, in order."""

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Sample, int]:
        """Sample and label."""
        return self.whole.read(self.indices[index])

    def read_rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """See `rows_of`."""
        return rows_of(self.whole, [self.indices[index] for index in indices])

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed the whole split and the choice of samples into `digest`."""
        self.whole.update_fingerprint(digest)
        digest.update(f"{list(self.indices)}".encode())


def rows_of(raw: RawSplit, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Stored images [B, C, height, width] and their labels, int64 [B]; None if they are not in memory as one tensor."""
    read_rows = getattr(raw, "read_rows", None)
    return None if read_rows is None else read_rows(indices)


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """One split with its transform: index -> (image float32 [C, height, width], label).

    A recording of an event camera counts as an image here.

    Args:
        raw: the samples as they are stored.
        transform: from a sample to a tensor.
        on_bad_image: "fail" raises the error of a sample that cannot be read. "skip" raises it too, marked so that
            `BatchLoader` and `in_order` leave the sample out of its batch; or, with replace_bad, replaces the sample.
        replace_bad: for training: the next readable sample takes the place of a skipped one, so that batches keep
            their size.
        class_names: names of the classes in the order of the labels; empty if they are not known.
    """

    def __init__(
        self, raw: RawSplit, transform: Transform, on_bad_image: BadImages = "fail", replace_bad: bool = False,
        class_names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.raw = raw
        self.transform = transform
        self.on_bad_image = on_bad_image
        self.replace_bad = replace_bad
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):  # also what ends a loop over the data set
            raise IndexError(f"no sample {index}; there are {len(self)}")
        skips = self.on_bad_image == "skip"
        first: UnreadableSampleError | None = None
        for attempt in range(len(self)):
            try:
                sample, label = self.raw.read((index + attempt) % len(self))
                return self.transform(sample), label
            except UnreadableSampleError as error:
                if not skips or not self.replace_bad:
                    error.may_be_skipped = skips
                    raise
                logger.warning("skipped: %s", error.problem)
                first = first or error
        raise none_readable(len(self), first)

    def read_batch(self, indices: Sequence[int], seeds: Sequence[int] | None = None) -> tuple[Tensor, Tensor] | None:
        """Images float32 [B, C, height, width] and labels int64 [B], with the values of reading them one by one.

        Args:
            indices: B indices.
            seeds: of each image's random changes; None draws them from the global generators, image after image.

        Returns:
            None if they must be read one by one: the samples are files, or are changed in ways that need it.
        """
        transform = getattr(self.transform, "batch", None)
        if transform is None or (rows := rows_of(self.raw, indices)) is None:
            return None
        return transform(rows[0], seeds), rows[1]


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def fingerprint(*splits: RawSplit) -> str:
    """sha256 of what identifies the content of the splits."""
    digest = hashlib.sha256()
    for split in splits:
        split.update_fingerprint(digest)
    return digest.hexdigest()
