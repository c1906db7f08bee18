"""Images in class folders, in a directory or in a tar archive: which images there are, and the class of each."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mst.errors import InputError, MissingFileError
from mst.text import note, one_line

from ..folders import (
    Listing,
    folder_of,
    is_hidden,
    kinds_of,
    list_folder,
    natural_key,
    natural_order,
    report_left_out,
    some,
)
from .decoding import IMAGE_SUFFIXES, OTHER_PICTURES


class FolderReader:
    """Images in the class folders of a directory.

    Args:
        root: the directory. An image's class is the innermost folder that it lies in.
        classes: class name -> label; None numbers the classes in the natural order of their names.

    Raises:
        MissingFileError: no images.
        InputError: a layout that does not show each image's class, see `class_of_each`; a folder that cannot be read.
    """

    def __init__(self, root: Path, classes: Mapping[str, int] | None = None) -> None:
        self.root = root
        listing = list_folder(root)
        images, names, self.class_to_idx = _classified(listing, root, classes)
        class_of = dict(zip(images, names, strict=True))
        self.samples = [(path, self.class_to_idx[class_of[path]]) for path in natural_order(images)]
        if classes is None:
            listing.report(root)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        path, label = self.samples[index]
        return open(os.path.join(self.root, path), "rb"), label

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Path of an image, below the directory if not `absolute`."""
        path = self.samples[index][0]
        return os.path.basename(path) if basename else os.path.join(self.root, path) if absolute else path


class _Member(NamedTuple):
    """An image inside a tar file: its name there, its path for the choice of its class, and where its bytes lie."""

    name: str
    path: str
    offset: int
    size: int


class TarReader:
    """Images in the class folders of a tar archive, or in tar archives inside it, each a class.

    Every image is read by its place in the file, so any number of processes may read at once.

    Args:
        archive: the tar file, not compressed.
        classes: as for `FolderReader`.

    Raises:
        MissingFileError, InputError: as `FolderReader`; not a tar file, or a damaged one.
    """

    def __init__(self, archive: Path, classes: Mapping[str, int] | None = None) -> None:
        self.archive = archive
        try:
            members = {member.path: member for member in _members(archive)}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"not a tar file, or a damaged one ({one_line(error)})", where=str(archive)) from error
        images, names, self.class_to_idx = _classified(Listing(files=[*members]), archive, classes)
        found = [(members[path], self.class_to_idx[name]) for path, name in zip(images, names, strict=True)]
        self.samples = sorted(sorted(found), key=lambda each: natural_key(each[0].name))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        member, label = self.samples[index]
        with self.archive.open("rb") as file:
            file.seek(member.offset)
            return io.BytesIO(file.read(member.size)), label

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image inside the archive, after the archive's name if `absolute`."""
        name = self.samples[index][0].name
        return os.path.basename(name) if basename else f"{self.archive}@/{name}" if absolute else name


def _members(archive: Path) -> Iterator[_Member]:
    """Files in a tar archive and in the archives inside it, without hidden ones."""
    with tarfile.open(archive, "r:") as opened:
        for member in opened:
            if not member.isfile() or any(is_hidden(part) for part in _parts(member.name)):
                continue
            stem, suffix = os.path.splitext(posixpath.basename(member.name))
            if suffix.lower() != ".tar":
                yield _Member(member.name, os.sep.join(_parts(member.name)), member.offset_data, member.size)
                continue
            with tarfile.open(fileobj=opened.extractfile(member), mode="r:") as inner:
                for each in inner:
                    if each.isfile() and not any(is_hidden(part) for part in _parts(each.name)):
                        offset = member.offset_data + each.offset_data
                        yield _Member(each.name, os.sep.join([stem, *_parts(each.name)]), offset, each.size)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _classified(
    listing: Listing, place: Path, classes: Mapping[str, int] | None
) -> tuple[list[str], list[str], dict[str, int]]:
    """Images, the class of each, and class -> label. Notes what is left out unless `classes` are given."""
    images: list[str] = []
    others: list[str] = []
    for path in listing.files:
        suffix = f".{path.rpartition('.')[2].lower()}"
        (images if suffix in IMAGE_SUFFIXES else others).append(path)
    if not images:
        held = f"it holds {kinds_of(others)}" if others else "it holds no files"
        raise MissingFileError(
            f"no images are found ({held})", where=str(place),
            remedy=f"it needs one folder per class, with files of the kinds {', '.join(sorted(IMAGE_SUFFIXES))}",
        )  # fmt: skip
    names = class_of_each(images, place)
    if classes is not None:
        return images, names, dict(classes)
    inner = {folder for folder in map(folder_of, images) if folder_of(folder)}
    if inner:
        folder = natural_order(inner)[0]
        note(f"{place}: classes are the innermost folders: {folder} is class {os.path.basename(folder)!r}")
    report_left_out(place, images, others, listing.folders, OTHER_PICTURES, "image")
    return images, names, {name: label for label, name in enumerate(natural_order(set(names)))}


def class_of_each(images: Sequence[str], place: Path) -> list[str]:
    """The class of each image: the name of the innermost folder that it lies in.

    Args:
        images: paths below the folder that holds the class folders.
        place: that folder, for errors.

    Raises:
        InputError: images in no folder, images both in a folder and in folders below it, or folders of one name in
            several places, which would become one class.
    """
    first_in: dict[str, str] = {}
    for path in images:
        first_in.setdefault(folder_of(path), path)
    remedy = "both splits need one folder per class, with the same names, and the images of a class directly in it"
    if "" in first_in:
        count = sum(1 for path in images if not folder_of(path))
        raise InputError(
            f"there are {count} images that lie in no class folder", where=str(place / first_in[""]), remedy=remedy
        )
    places_of: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(first_in):
        places_of[os.path.basename(folder)].append(folder)
        above = folder_of(folder)
        while above:
            if above in first_in:
                raise InputError(
                    f"images lie both in {above} ({first_in[above]}) and in a folder below it ({first_in[folder]})",
                    where=str(place), remedy=remedy,
                )  # fmt: skip
            above = folder_of(above)
    twice = {name: folders for name, folders in places_of.items() if len(folders) > 1}
    if twice:
        name, folders = next(iter(twice.items()))
        raise InputError(
            f"{len(twice)} folder names occur in several places and would each be one class, {name!r} among them: "
            f"{some(folders)}", where=str(place), remedy=remedy,
        )  # fmt: skip
    name_of = {folder: os.path.basename(folder) for folder in first_in}
    return [name_of[folder_of(path)] for path in images]
