"""Images in files, one folder per class: directories, tar and zip archives, and data sets of Hugging Face."""

from __future__ import annotations

import hashlib
import random
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from timm.data.readers import create_reader

from mst.errors import InputError, MissingFileError
from mst.extras import install_command
from mst.text import note, one_line

from ..folders import some
from ..unreadable import SKIP_IMAGES, UnreadableImageError
from .class_folders import FolderReader, TarReader
from .decoding import Noted, decode, remarks
from .readers import CachedReader, ImageReader, ZipReader

TRAIN_NAMES = ("train", "training", "train.tar", "train.zip")
TEST_NAMES = (
    "val", "validation", "test", "val.tar", "validation.tar", "test.tar", "val.zip", "valid", "testing", "eval",
    "valid.tar", "validation.zip", "valid.zip", "test.zip",
)  # fmt: skip
"""Names of the two splits, in upper or lower case, in the order of preference."""

FileReader = FolderReader | TarReader | ZipReader

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
    """Indices of the images of the reader that are used, in order; None: all."""

    identity: str = ""
    """Stands for the names in the fingerprint if the reader has none."""

    noted: Noted = field(default_factory=Noted, compare=False, repr=False)
    """Kinds of remarks that have been noted; each is noted once."""

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
                picture = decode(image, self.in_chans)
                for kind, sentence in remarks(image, self.noted):
                    self.noted.add(kind)
                    note(f"{self.name(index)}: {sentence} (noted once)")
                return picture, int(label)
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
            digest.update(f"{self.reader.filename(at)}\n".encode(errors="surrogateescape"))


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
    train, test = _splits_in(root)
    return (train[0], test[0]) if train and test else None


def _splits_in(root: Path) -> tuple[list[Path], list[Path]]:
    """Everything below `root` that has the name of a training or of a test split, the preferred first."""
    there = {path.name.casefold(): path for path in sorted(root.iterdir(), reverse=True)} if root.is_dir() else {}
    train, test = ([there[name] for name in names if name in there] for names in (TRAIN_NAMES, TEST_NAMES))
    return train, test


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
    unused = [path.name for paths in _splits_in(root) for path in paths[1:]]
    if unused:
        note(f"{root}: {found[0].name} and {found[1].name} are the splits; not used: {some(unused)}")
    train, train_classes = _reader(found[0])
    test, test_classes = _reader(found[1])
    if isinstance(train, ZipReader) and isinstance(test, ZipReader):
        _check_labels(train, test)  # their lists of labels count for both; folders inside may be absent
    else:
        unknown = sorted(set(test_classes) - set(train_classes))
        if unknown:
            raise InputError(
                f"there are {len(unknown)} class(es) that {found[0]} does not have: {some(unknown)}",
                where=str(found[1]),
                remedy="both splits need one folder per class, with the same names",
            )  # fmt: skip
        if test_classes != train_classes:  # a subset of the classes would be numbered from 0 again
            test, _ = _reader(found[1], train_classes)
            without = [name for name in train_classes if name not in test_classes]
            note(f"{found[1]}: there are no images of {len(without)} of {len(train_classes)} classes: {some(without)}")
    names = tuple(sorted(train_classes, key=train_classes.__getitem__))
    readers = (CachedReader(train), CachedReader(test)) if cache_images else (train, test)
    return OpenedFiles(ImageFiles(readers[0], in_chans), ImageFiles(readers[1], in_chans), names)


def _check_labels(train: ZipReader, test: ZipReader) -> None:
    unknown = {label for _, label in test.samples} - {label for _, label in train.samples}
    if unknown:
        raise InputError(
            f"there are labels that {train.archive} does not have: {sorted(unknown)[:5]}", where=str(test.archive)
        )


def _reader(place: Path, classes: dict[str, int] | None = None) -> tuple[FileReader, dict[str, int]]:
    """A reader for a folder, tar or zip file, and class name -> label."""
    if place.suffix.lower() == ".zip":
        zipped = ZipReader(place, place.with_name(f"{place.stem}_map.txt"))
        return zipped, zipped.class_to_idx
    reader = TarReader(place, classes) if place.suffix.lower() == ".tar" else FolderReader(place, classes)
    return reader, dict(reader.class_to_idx)


def _split_one_folder(root: Path, in_chans: int, cache_images: bool) -> OpenedFiles:
    """Class folders without a split: a draw by file name that never changes, class by class."""
    reader, classes = _reader(root)
    labels = [label for _, label in reader.samples]
    if len(classes) < 2:
        raise InputError(
            f"there is one class folder, {next(iter(classes))}", where=str(root),
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


def _open_hugging_face(name: str, in_chans: int, cache_images: bool) -> OpenedFiles:
    try:
        import datasets as hugging_face
    except ImportError as error:
        raise InputError(
            "data sets of Hugging Face need the package datasets",
            remedy=install_command("hf"),
        ) from error
    where = f"{HUGGING_FACE}{name}"
    try:
        splits = hugging_face.get_dataset_split_names(name)
        test = next((split for split in ("validation", "valid", "val", "test") if split in splits), None)
        if "train" not in splits or test is None:
            raise InputError(f"it has the splits {', '.join(splits)}; needed are train and validation (or test)")
        unused = [split for split in splits if split not in ("train", test)]
        if unused:
            note(f"{where}: train and {test} are the splits; not used: {some(unused)}")
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
