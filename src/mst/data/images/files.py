"""Images in files, one class a folder: directories, tar and zip archives, and data sets of Hugging Face.

timm reads directories, tar files and Hugging Face data sets; zip files in the layout of the Swin code are read here.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from timm.data.readers import create_reader
from timm.data.readers.img_extensions import get_img_extensions
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from ..splits import ImageFiles, ImageReader

TRAIN_NAMES = ("train", "training", "train.tar", "train.zip")
TEST_NAMES = ("val", "validation", "test", "val.tar", "validation.tar", "test.tar", "val.zip")
HUGGING_FACE = "hf:"
"""Prefix of a data set on the Hugging Face hub, or of a folder in its format."""

TEST_SHARE = 0.2
"""Share of each class that is set aside for testing where the folders name no split."""


@dataclass(frozen=True)
class OpenedFiles:
    """Two splits with the classes they share."""

    train: ImageFiles
    test: ImageFiles
    class_names: tuple[str, ...]


def find_image_splits(root: Path) -> tuple[Path, Path] | None:
    """Where training and test images lie below `root`; None if it holds no such pair."""
    train = next((root / name for name in TRAIN_NAMES if (root / name).exists()), None)
    test = next((root / name for name in TEST_NAMES if (root / name).exists()), None)
    return None if train is None or test is None else (train, test)


def open_image_files(root: Path, in_chans: int = 3, cache_images: bool = False) -> OpenedFiles:
    """Open a folder of images, or a data set `hf:NAME`.

    Args:
        root: holds train/ and val/ (or validation/, test/), each a folder with one folder a class, or train.tar and
            val.tar, or train.zip, train_map.txt, val.zip, val_map.txt. A folder that holds class folders only is
            split by a fixed draw, 80 % of each class for training. `hf:NAME` is read with the package `datasets`.
        in_chans: 3 decodes to RGB, 1 to grey.
        cache_images: read all encoded files into memory now.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: classes of the two splits that do not match, a damaged archive.
    """
    if str(root).startswith(HUGGING_FACE):
        return _open_hugging_face(str(root)[len(HUGGING_FACE) :], in_chans, cache_images)
    if not root.exists():
        raise FileNotFoundError(f"no such folder of images: {root}")
    found = find_image_splits(root)
    if found is None:
        return _split_one_folder(root, in_chans, cache_images)
    train, train_classes = _reader(found[0])
    test, test_classes = _reader(found[1])
    if isinstance(train, ZipReader) and isinstance(test, ZipReader):
        _check_labels(train, test)  # their lists of labels speak for both; folders inside may be absent
    else:
        unknown = sorted(set(test_classes) - set(train_classes))
        if unknown:
            shown = ", ".join(name or "images that lie in no class folder" for name in unknown[:5])
            raise ValueError(
                f"{found[1]} has {len(unknown)} class(es) that {found[0]} has not: {shown}. Both need one folder a "
                "class, with the same names"
            )
        if test_classes != train_classes:  # a subset of the classes would be numbered anew
            test, _ = _reader(found[1], train_classes)
    names = tuple(sorted(train_classes, key=train_classes.__getitem__))
    if cache_images:
        train, test = _Cached(train), _Cached(test)
    return OpenedFiles(ImageFiles(train, in_chans), ImageFiles(test, in_chans), names)


def _check_labels(train: ZipReader, test: ZipReader) -> None:
    unknown = {label for _, label in test.samples} - {label for _, label in train.samples}
    if unknown:
        raise ValueError(f"{test.archive} has labels that {train.archive} has not: {sorted(unknown)[:5]}")


def _reader(place: Path, classes: dict[str, int] | None = None) -> tuple[ImageReader, dict[str, int]]:
    """A reader for a folder, tar or zip file, and class name -> label."""
    if place.suffix == ".zip":
        zipped = ZipReader(place, place.with_name(f"{place.stem}_map.txt"))
        return zipped, zipped.class_to_idx
    try:
        reader = create_reader("", root=str(place), class_map=classes)
    except tarfile.TarError as error:
        raise ValueError(f"{place} is no tar file, or a damaged one: {error}") from error
    except (RuntimeError, AssertionError, ValueError, OSError) as error:
        kinds = ", ".join(sorted(get_img_extensions(as_set=True)))
        raise FileNotFoundError(
            f"no images are found in {place}: it needs one folder a class, with files of the kinds {kinds} "
            f"({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    if isinstance(reader, ReaderImageInTar):
        return _TarReader(reader), dict(reader.class_name_to_idx)
    return reader, dict(reader.class_to_idx)


def _split_one_folder(root: Path, in_chans: int, cache_images: bool) -> OpenedFiles:
    """Class folders without a split: a draw by file name that never changes, class by class."""
    reader, classes = _reader(root)
    labels = _labels(reader)
    if set(classes) == {""} or len(classes) < 2:
        raise ValueError(f"{root} needs one folder a class, or train/ and val/ with one folder a class in each")
    train: list[int] = []
    test: list[int] = []
    for label in range(len(classes)):
        members = [index for index, other in enumerate(labels) if other == label]
        if len(members) < 2:
            name = next(name for name, number in classes.items() if number == label)
            raise ValueError(f"{root}: class {name!r} has {len(members)} image(s); to be split it needs at least 2")
        random.Random(label).shuffle(members)
        held_out = max(1, round(TEST_SHARE * len(members)))
        test += members[:held_out]
        train += members[held_out:]
    source: ImageReader = _Cached(reader) if cache_images else reader
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
        raise ValueError("data sets of Hugging Face need the package datasets: pip install datasets") from error
    try:
        splits = hugging_face.get_dataset_split_names(name)
        test = next((split for split in ("validation", "valid", "val", "test") if split in splits), None)
        if "train" not in splits or test is None:
            raise ValueError(f"it has the splits {', '.join(splits)}; needed are train and validation (or test)")
        described = hugging_face.load_dataset_builder(name).info.features or {}
        image_key = next((key for key in ("image", "img") if key in described), "image")
        label_key = next((key for key in ("label", "fine_label", "labels") if key in described), "label")
        readers = [
            create_reader(f"hfds/{name}", split=split, input_key=image_key, target_key=label_key)
            for split in ("train", test)
        ]
    except Exception as error:  # the package raises what its many back ends raise
        raise ValueError(f"hf:{name} cannot be opened: {' '.join(str(error).split())}") from error
    classes = readers[0].class_to_idx
    names = tuple(str(known) for known in sorted(classes, key=classes.__getitem__))
    if not names:
        raise ValueError(f"hf:{name} does not name its classes (its column {label_key!r} is no ClassLabel)")
    identities = [f"{name} {reader.dataset._fingerprint}" for reader in readers]
    if cache_images:
        readers = [_Cached(reader) for reader in readers]
    train, held_out = (
        ImageFiles(reader, in_chans, identity=key) for reader, key in zip(readers, identities, strict=True)
    )
    return OpenedFiles(train, held_out, names)


class _TarReader:
    """timm's reader of tar files, safe to use in a worker process that was forked after an image had been read."""

    def __init__(self, reader: ReaderImageInTar) -> None:
        self._reader = reader
        self._process = os.getpid()
        self.targets = reader.targets

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        if self._process != os.getpid():  # an open file shared with the parent has one position for both
            self._process = os.getpid()
            self._close()
        file, label = self._reader[index]
        return file, int(label)

    def _close(self) -> None:
        states = [self._reader.tar_state] if self._reader.root_is_tar else list(self._reader.tar_state.values())
        for opened in [*(child for state in states for child in state.children.values()), *states]:
            if opened.tf is not None:
                opened.tf.close()
            opened.reset()

    def __del__(self) -> None:
        self._close()

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image inside the archive, with the archive's where `absolute`."""
        name: str = self._reader.filename(index, basename=basename)
        return f"{self._reader.root}@/{name}" if absolute else name


class ZipReader:
    """Images in a zip file, with a text file that has a line `path<tab>label` for each of them.

    Args:
        archive: the zip file.
        index: the text file.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: a line that is damaged, or that names no member of the archive.
    """

    def __init__(self, archive: Path, index: Path) -> None:
        self.archive = archive
        if not index.is_file():
            raise FileNotFoundError(f"{archive.name} needs its labels in {index} (lines of path, tab, label)")
        try:
            with zipfile.ZipFile(archive) as content:
                members = set(content.namelist())
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{archive} is no zip file, or a damaged one: {error}") from error
        self.samples: list[tuple[str, int]] = []
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), start=1):
            path, _, label = line.rpartition("\t")
            path = path.split("@/")[-1]  # the Swin code writes val.zip@/path
            if path not in members or not label.strip().isdigit():
                raise ValueError(f"{index}, line {number}: {line!r} names no member of {archive.name} with a label")
            self.samples.append((path, int(label)))
        if not self.samples:
            raise ValueError(f"{index} names no images")
        self.class_to_idx = self._classes(index)
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def _classes(self, index: Path) -> dict[str, int]:
        """The folder an image lies in names its class, where that is one-to-one; else the label does."""
        pairs = {(os.path.basename(os.path.dirname(path)), label) for path, label in self.samples}
        folders, labels = Counter(folder for folder, _ in pairs), Counter(label for _, label in pairs)
        highest = max(labels)
        if max(folders.values()) == max(labels.values()) == 1 and "" not in folders and len(labels) == highest + 1:
            return dict(pairs)
        return {str(label): label for label in range(highest + 1)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        path, label = self.samples[index]
        if self._opened is None or self._opened[0] != os.getpid():  # an open archive must not be shared by a fork
            self._opened = os.getpid(), zipfile.ZipFile(self.archive)
        try:
            return io.BytesIO(self._opened[1].read(path)), label
        except zipfile.BadZipFile as error:
            raise OSError(str(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image inside the archive, with the archive's where `absolute`."""
        path = self.samples[index][0]
        return os.path.basename(path) if basename else f"{self.archive}@/{path}" if absolute else path


class _Cached:
    """A reader whose encoded files have all been read into memory."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._files: list[tuple[bytes, int]] = []
        for index in range(len(reader)):
            try:
                file, label = reader[index]
                with file:
                    self._files.append((file.read(), int(label)))
            except (OSError, tarfile.TarError) as error:
                raise ValueError(f"{reader.filename(index, absolute=True)} cannot be read: {error}") from error

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        content, label = self._files[index]
        return io.BytesIO(content), label

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        return self._reader.filename(index, basename=basename, absolute=absolute)
