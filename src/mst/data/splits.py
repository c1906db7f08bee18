"""One split of a data set: labelled images that lie in memory, or in files that are decoded when they are asked for."""

from __future__ import annotations

import hashlib
import logging
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from mst.signals import SteadyLoader

from .events.sources import StoredRecording
from .events.stream import UnreadableSampleError

logger = logging.getLogger(__name__)

BadImages = Literal["fail", "skip"]
"""What happens at an image that cannot be decoded."""

_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, tarfile.TarError, Image.DecompressionBombError
)  # fmt: skip
"""What Pillow and the archive readers raise at damaged files."""

UNREADABLE = -1
"""Label of an image that could not be decoded and is to be left out."""


class UnreadableImageError(UnreadableSampleError):
    """An image file is damaged, or no image."""


class ImageReader(Protocol):
    """Where encoded images come from: timm's readers, or ours for zip files.

    An item is (open binary file, label).
    """

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]: ...

    def __len__(self) -> int: ...

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image, as a person would find it."""


Sample = Tensor | Image.Image | StoredRecording
"""What a data set holds: an image in memory or decoded, or a recording of an event camera."""


class Transform(Protocol):
    """From a sample to what a network sees. output_shape: of the tensor.  is_random: whether it changes at random."""

    output_shape: tuple[int, ...]
    is_random: bool

    def __call__(self, sample: Any, /) -> Tensor: ...


class RawSplit(Protocol):
    """Images or recordings as they are stored, with their labels."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Sample, int]:
        """Sample and label.

        Raises:
            UnreadableSampleError: the image cannot be decoded.
        """

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed what identifies this split's content into `digest`."""


@dataclass(frozen=True)
class StoredImages:
    """Images in memory [N, C, height, width], uint8 or float from 0 to 1, and labels int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())


@dataclass(frozen=True)
class ImageFiles:
    """Encoded images of a reader, or those of it that `indices` names. Decoded to RGB, or to grey for one channel.

    The fingerprint covers names, not pixels: a data set of files may be hundreds of gigabytes. `identity` stands for
    the names where they are not at hand.
    """

    reader: ImageReader
    in_chans: int = 3
    indices: Sequence[int] | None = None
    identity: str = ""

    def __len__(self) -> int:
        return len(self.reader) if self.indices is None else len(self.indices)

    def read(self, index: int) -> tuple[Image.Image, int]:
        at = index if self.indices is None else self.indices[index]
        try:
            file, label = self.reader[at]
            with file, Image.open(file) as image:
                return image.convert("RGB" if self.in_chans == 3 else "L"), int(label)
        except _DECODING_ERRORS as error:
            name = self.reader.filename(at, absolute=True)
            raise UnreadableImageError(
                f"{name} cannot be read as an image ({' '.join(str(error).split())}); replace or remove it, or leave "
                "out such images with --on-bad-image skip"
            ) from error

    def name(self, index: int) -> str:
        """Where an image lies, as a person would find it."""
        return self.reader.filename(index if self.indices is None else self.indices[index], absolute=True)

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        digest.update(self.identity.encode())
        for index in range(0 if self.identity else len(self)):
            at = index if self.indices is None else self.indices[index]
            digest.update(f"{self.reader.filename(at)}\n".encode())


@dataclass(frozen=True)
class PartOfSplit:
    """Some images of a split."""

    whole: RawSplit
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Sample, int]:
        return self.whole.read(self.indices[index])

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        self.whole.update_fingerprint(digest)
        digest.update(f"{list(self.indices)}".encode())


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """One split with its transform: index -> (image float32 [C, height, width], label).

    A recording of an event camera counts as an image here. An image that cannot be decoded fails, or is skipped. A
    skipped training image is replaced by the next readable one, so that batches keep their size; a skipped test image
    is left out of its batch (see `collate`).
    """

    def __init__(
        self, raw: RawSplit, transform: Transform, on_bad_image: BadImages = "fail", replace_bad: bool = False
    ) -> None:
        self.raw = raw
        self.transform = transform
        self.on_bad_image = on_bad_image
        self.replace_bad = replace_bad

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        for attempt in range(len(self)):
            try:
                sample, label = self.raw.read((index + attempt) % len(self))
                return self.transform(sample), label
            except UnreadableSampleError as error:
                if self.on_bad_image == "fail":
                    raise
                logger.warning("skipped: %s", str(error).partition(";")[0])
                if not self.replace_bad:
                    return torch.zeros(self.transform.output_shape), UNREADABLE
        raise UnreadableSampleError("not one sample of this data set can be read")


def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch of those samples that could be read; perhaps of none."""
    readable = [sample for sample in samples if sample[1] != UNREADABLE]
    if not readable:
        return torch.empty(0, *samples[0][0].shape), torch.empty(0, dtype=torch.int64)
    images, labels = default_collate(readable)
    return images, labels


def in_order(
    dataset: Dataset[tuple[Tensor, int]], share: range, batch_size: int, num_workers: int
) -> DataLoader[tuple[Tensor, int]]:
    """Batches of some of the images, in order, those that cannot be read left out."""
    return SteadyLoader(Subset(dataset, share), batch_size=batch_size, num_workers=num_workers, collate_fn=collate)


def fingerprint(*splits: RawSplit) -> str:
    """sha256 of what identifies the splits' content."""
    digest = hashlib.sha256()
    for split in splits:
        split.update_fingerprint(digest)
    return digest.hexdigest()
