"""Readers of encoded images: what a reader is, zip archives, and files held in memory."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mst.errors import InputError, MissingFileError
from mst.text import note, one_line

from ..folders import is_hidden, kinds_of


class ImageReader(Protocol):
    """Source of encoded images. An item is (open binary file, label)."""

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]: ...

    def __len__(self) -> int: ...

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image, as a person would find it."""


class ZipReader:
    """Images in a zip file, with a text file that has a line `path<tab>label` for each of them.

    Args:
        archive: the zip file.
        index: the text file.

    Raises:
        MissingFileError: one of the two is missing.
        InputError: a damaged archive, or a line that is damaged or names a member that the archive does not have.
    """

    def __init__(self, archive: Path, index: Path) -> None:
        self.archive = archive
        if not index.is_file():
            raise MissingFileError(
                f"the labels of {archive.name} are missing", where=str(index),
                remedy="write a line of path, tab, label for each image",
            )  # fmt: skip
        try:
            with zipfile.ZipFile(archive) as content:
                members = set(content.namelist())
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"not a zip file, or a damaged one ({one_line(error)})", where=str(archive)) from error
        self.samples: list[tuple[str, int]] = []
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), start=1):
            path, _, label = line.rpartition("\t")
            path = path.split("@/")[-1]  # the Swin code writes val.zip@/path
            if path not in members or not label.strip().isdigit():
                raise InputError(
                    f"{line!r} does not name a member of {archive.name} and a label", where=f"{index}, line {number}"
                )
            self.samples.append((path, int(label)))
        if not self.samples:
            raise InputError("the file does not name any images", where=str(index))
        left_out = members - {path for path, _ in self.samples}
        left_out = {name for name in left_out if not name.endswith("/") and not any(map(is_hidden, name.split("/")))}
        if left_out:
            note(f"{archive}: {len(left_out)} files that {index.name} does not name are left out: {kinds_of(left_out)}")
        self.class_to_idx = self._classes()
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def _classes(self) -> dict[str, int]:
        """Class name -> label: the name of an image's folder, if that is one-to-one; otherwise the label itself."""
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
        """Name of an image inside the archive, after the archive's name if `absolute`."""
        path = self.samples[index][0]
        return os.path.basename(path) if basename else f"{self.archive}@/{path}" if absolute else path


class CachedReader:
    """A reader whose encoded files have all been read into memory.

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._files: list[tuple[bytes, int]] = []
        for index in range(len(reader)):
            try:
                file, label = reader[index]
                with file:
                    self._files.append((file.read(), int(label)))
            except (OSError, tarfile.TarError) as error:
                where = reader.filename(index, absolute=True)
                raise InputError(f"the file cannot be read ({one_line(error)})", where=where) from error

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        content, label = self._files[index]
        return io.BytesIO(content), label

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image, as its reader has it."""
        return self._reader.filename(index, basename=basename, absolute=absolute)
