"""Images in files, one folder per class: directories, tar and zip archives, and data sets of Hugging Face."""

from __future__ import annotations

import hashlib
import random
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.readers import create_reader
from timm.data.readers.img_extensions import get_img_extensions
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from mst.errors import InputError, MissingFileError
from mst.text import one_line

from ..unreadable import SKIP_IMAGES, UnreadableImageError
from .readers import CachedReader, ImageReader, TarReader, ZipReader

TRAIN_NAMES = ("train", "training", "train.tar", "train.zip")
TEST_NAMES = ("val", "validation", "test", "val.tar", "validation.tar", "test.tar", "val.zip")

HUGGING_FACE = "hf:"
"""Prefix of a data set on the Hugging Face hub, or of a folder in its format."""

TEST_SHARE = 0.2
"""Share of each class that is set aside for testing if the folders do not name a split."""

_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, tarfile.TarError, Image.DecompressionBombError
)  # fmt: skip
"""Errors that Pillow and the archive readers raise at damaged files."""


@dataclass(frozen=True)
class ImageFiles:
    """A split of encoded images, decoded when they are read: to RGB, or to grey for one channel.

    The fingerprint covers names, not pixels: a data set of files may be hundreds of gigabytes.
    """

    reader: ImageReader
    """Source of the encoded images."""

    in_chans: int = 3
    """3 decodes to RGB, 1 to grey."""

    indices: Sequence[int] | None = None
    """Which images of the reader, in order; None: all."""

    identity: str = ""
    """Stands for the names in the fingerprint if the reader has none."""

    def __len__(self) -> int:
        return len(self.reader) if self.indices is None else len(self.indices)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Decoded image and label.

        Raises:
            UnreadableImageError: the file cannot be decoded.
        """
        at = index if self.indices is None else self.indices[index]
        try:
            file, label = self.reader[at]
            with file, Image.open(file) as image:
                return image.convert("RGB" if self.in_chans == 3 else "L"), int(label)
        except _DECODING_ERRORS as error:
            raise UnreadableImageError(
                f"the file cannot be read as an image ({one_line(error)})", where=self.name(index), remedy=SKIP_IMAGES
            ) from error

    def name(self, index: int) -> str:
        """Path of an image, as a person would find it."""
        return self.reader.filename(index if self.indices is None else self.indices[index], absolute=True)

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed the names of the images, or the identity, into `digest`."""
        digest.update(self.identity.encode())
        for index in range(0 if self.identity else len(self)):
            at = index if self.indices is None else self.indices[index]
            digest.update(f"{self.reader.filename(at)}\n".encode())


@dataclass(frozen=True)
class OpenedFiles:
    """Two splits with the classes they share."""

    train: ImageFiles
    """Training images."""

    test: ImageFiles
    """Test images."""

    class_names: tuple[str, ...]
    """Class names in the order of their labels."""


def find_image_splits(root: Path) -> tuple[Path, Path] | None:
    """Paths of the training and the test images below `root`; None if it does not hold such a pair."""
    train = next((root / name for name in TRAIN_NAMES if (root / name).exists()), None)
    test = next((root / name for name in TEST_NAMES if (root / name).exists()), None)
    return None if train is None or test is None else (train, test)


def open_image_files(root: Path, in_chans: int = 3, cache_images: bool = False) -> OpenedFiles:
    """Open a folder of images, or a data set `hf:NAME`.

    Args:
        root: holds train/ and val/ (or validation/, test/), each a folder with one folder per class, or train.tar and
            val.tar, or train.zip, train_map.txt, val.zip, val_map.txt. A folder that holds class folders only is
            split by a fixed draw, 80 % of each class for training. `hf:NAME` is read with the package `datasets`.
        in_chans: 3 decodes to RGB, 1 to grey.
        cache_images: read all encoded files into memory now.

    Raises:
        MissingFileError: the folder does not exist, or has no images in it.
        InputError: classes of the two splits that do not match, a damaged archive.
    """
    if str(root).startswith(HUGGING_FACE):
        return _open_hugging_face(str(root)[len(HUGGING_FACE) :], in_chans, cache_images)
    if not root.exists():
        raise MissingFileError(f"no such folder of images: {root}")
    found = find_image_splits(root)
    if found is None:
        return _split_one_folder(root, in_chans, cache_images)
    train, train_classes = _reader(found[0])
    test, test_classes = _reader(found[1])
    if isinstance(train, ZipReader) and isinstance(test, ZipReader):
        _check_labels(train, test)  # their lists of labels count for both; folders inside may be absent
    else:
        unknown = sorted(set(test_classes) - set(train_classes))
        if unknown:
            shown = ", ".join(name or "images that lie in no class folder" for name in unknown[:5])
            raise InputError(
                f"there are {len(unknown)} class(es) that {found[0]} does not have: {shown}", where=str(found[1]),
                remedy="both splits need one folder per class, with the same names",
            )  # fmt: skip
        if test_classes != train_classes:  # a subset of the classes would be numbered from 0 again
            test, _ = _reader(found[1], train_classes)
    names = tuple(sorted(train_classes, key=train_classes.__getitem__))
    if cache_images:
        train, test = CachedReader(train), CachedReader(test)
    return OpenedFiles(ImageFiles(train, in_chans), ImageFiles(test, in_chans), names)


def _check_labels(train: ZipReader, test: ZipReader) -> None:
    unknown = {label for _, label in test.samples} - {label for _, label in train.samples}
    if unknown:
        raise InputError(
            f"there are labels that {train.archive} does not have: {sorted(unknown)[:5]}", where=str(test.archive)
        )


def _reader(place: Path, classes: dict[str, int] | None = None) -> tuple[ImageReader, dict[str, int]]:
    """A reader for a folder, tar or zip file, and class name -> label."""
    if place.suffix == ".zip":
        zipped = ZipReader(place, place.with_name(f"{place.stem}_map.txt"))
        return zipped, zipped.class_to_idx
    try:
        reader = create_reader("", root=str(place), class_map=classes)
    except tarfile.TarError as error:
        raise InputError(f"not a tar file, or a damaged one ({one_line(error)})", where=str(place)) from error
    except (RuntimeError, AssertionError, ValueError, OSError) as error:
        kinds = ", ".join(sorted(get_img_extensions(as_set=True)))
        raise MissingFileError(
            f"no images are found ({one_line(error)})", where=str(place),
            remedy=f"it needs one folder per class, with files of the kinds {kinds}",
        ) from error  # fmt: skip
    if isinstance(reader, ReaderImageInTar):
        return TarReader(reader), dict(reader.class_name_to_idx)
    return reader, dict(reader.class_to_idx)


def _split_one_folder(root: Path, in_chans: int, cache_images: bool) -> OpenedFiles:
    """Class folders without a split: a draw by file name that never changes, class by class."""
    reader, classes = _reader(root)
    labels = _labels(reader)
    if set(classes) == {""} or len(classes) < 2:
        raise InputError(
            f"there are {len(set(classes) - {''})} class folder(s)", where=str(root),
            remedy="it needs one folder per class, or train/ and val/ with one folder per class in each",
        )  # fmt: skip
    train: list[int] = []
    test: list[int] = []
    for label in range(len(classes)):
        members = [index for index, other in enumerate(labels) if other == label]
        if len(members) < 2:
            name = next(name for name, number in classes.items() if number == label)
            raise InputError(
                f"class {name!r} has {len(members)} image(s); to be split it needs at least 2", where=str(root)
            )
        random.Random(label).shuffle(members)
        held_out = max(1, round(TEST_SHARE * len(members)))
        test += members[:held_out]
        train += members[held_out:]
    source: ImageReader = CachedReader(reader) if cache_images else reader
    names = tuple(sorted(classes, key=classes.__getitem__))
    return OpenedFiles(ImageFiles(source, in_chans, sorted(train)), ImageFiles(source, in_chans, sorted(test)), names)


def _labels(reader: Any) -> list[int]:
    """Every image's label, without opening an image."""
    if hasattr(reader, "targets"):
        return [int(label) for label in reader.targets]
    return [int(label) for _, label in reader.samples]


def _open_hugging_face(name: str, in_chans: int, cache_images: bool) -> OpenedFiles:
    try:
        import datasets as hugging_face
    except ImportError as error:
        raise InputError(
            "data sets of Hugging Face need the package datasets",
            remedy="install it with pip install masked-spiking-transformer[hf]",
        ) from error
    where = f"{HUGGING_FACE}{name}"
    try:
        splits = hugging_face.get_dataset_split_names(name)
        test = next((split for split in ("validation", "valid", "val", "test") if split in splits), None)
        if "train" not in splits or test is None:
            raise InputError(f"it has the splits {', '.join(splits)}; needed are train and validation (or test)")
        described = hugging_face.load_dataset_builder(name).info.features or {}
        image_key = next((key for key in ("image", "img") if key in described), "image")
        label_key = next((key for key in ("label", "fine_label", "labels") if key in described), "label")
        readers = [
            create_reader(f"hfds/{name}", split=split, input_key=image_key, target_key=label_key)
            for split in ("train", test)
        ]
    except Exception as error:  # the package raises whatever its many back ends raise
        raise InputError(f"the data set cannot be opened ({one_line(error)})", where=where) from error
    classes = readers[0].class_to_idx
    names = tuple(str(known) for known in sorted(classes, key=classes.__getitem__))
    if not names:
        raise InputError(f"its classes have no names (column {label_key!r} is not a ClassLabel)", where=where)
    identities = [f"{name} {reader.dataset._fingerprint}" for reader in readers]
    if cache_images:
        readers = [CachedReader(reader) for reader in readers]
    train, held_out = (
        ImageFiles(reader, in_chans, identity=key) for reader, key in zip(readers, identities, strict=True)
    )
    return OpenedFiles(train, held_out, names)
