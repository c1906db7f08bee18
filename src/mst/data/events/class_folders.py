"""Event data sets that lie on disk as one folder per class, perhaps within folders of an official split."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mst.errors import InputError, MissingFileError
from mst.text import note

from ..folders import is_hidden, kinds_of, list_folder, report_left_out, some
from .formats import EVENT_FORMATS
from .sources import EventFile, EventFiles
from .stream import Sensor

TEST_SHARE = 0.1
"""Share of each class that is set aside for testing if there is no official split; the paper's."""

_UNREAD = (".aer", ".bag", ".bs2", ".csv", ".es", ".h5", ".hdf5", ".npy", ".raw")
"""Suffixes of recordings in formats that are not read."""


@dataclass(frozen=True)
class EventFolders:
    """Layout of a data set on disk."""

    sensor: Sensor
    """Pixels of the camera."""

    formats: tuple[str, ...]
    """Keys of `EVENT_FORMATS`; a file's suffix chooses."""

    places: tuple[str, ...]
    """Folders below the data path in which the data set may lie, in the order in which they are searched."""

    classes: tuple[str, ...] = ()
    """Folder names of the classes; empty: every folder is a class."""

    train: str = ""
    """Folder of the official training split; empty: the split is drawn, see `split_by_class`."""

    test: str = ""
    """Folder of the official test split."""


@dataclass(frozen=True)
class OpenedRecordings:
    """Two splits with the classes they share."""

    train: EventFiles
    """Training recordings."""

    test: EventFiles
    """Test recordings."""

    class_names: tuple[str, ...]
    """Class names in the order of their labels."""

    sensor: Sensor
    """Pixels of the camera."""


def find_recordings(folders: EventFolders, data_path: Path) -> Path | None:
    """The folder below `data_path`, or `data_path` itself, that holds this data set; None if none does."""
    for place in folders.places:
        root = data_path / place
        if not root.is_dir():
            continue
        named = bool(place) or any(Path(other).name == data_path.name for other in folders.places)
        if folders.train:
            if (root / folders.train).is_dir() and (root / folders.test).is_dir():
                return root
        elif folders.classes:
            if any(_holds(path, folders) for name in folders.classes for path in _folders_of(root, name)):
                return root
        elif named and any(_holds(path, folders) for path in root.iterdir()):
            return root
    return None


def _folders_of(root: Path, name: str) -> list[Path]:
    """Folders of that class: below the root, or one level deeper (archives within archives)."""
    return [path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_dir()]


def _holds(folder: Path, folders: EventFolders) -> bool:
    return folder.is_dir() and not is_hidden(folder.name) and bool(_recordings_in(folder, folders))


def _recordings_in(folder: Path, folders: EventFolders) -> list[Path]:
    """Files of the data set's formats that lie in the folder itself, in the order of their names."""
    return sorted(
        path for path in folder.iterdir()
        if _format_of(path, folders.formats) and not is_hidden(path.name) and path.is_file()
    )  # fmt: skip


def _format_of(path: Path, formats: Sequence[str]) -> str | None:
    return next((name for name in formats if path.suffix.lower() in EVENT_FORMATS[name].suffixes), None)


def open_recordings(folders: EventFolders, root: Path) -> OpenedRecordings:
    """Both splits of a data set that lies in `root`.

    Raises:
        InputError: recordings outside the class folders, or in an unknown one; a recording that lies there twice; a
            class with a single recording.
        MissingFileError: no recordings.
    """
    if folders.train:
        train, test = (_by_class(root / part, folders) for part in (folders.train, folders.test))
        names = _same_classes(train, test, root)
        return _opened({n: train[n] for n in names}, {n: test.get(n, []) for n in names}, folders)
    return _opened(*split_by_class(_by_class(root, folders), root), folders)


def _by_class(root: Path, folders: EventFolders) -> dict[str, list[Path]]:
    """Class -> its files. A class is a folder in `root`; known classes may lie one level deeper."""
    listing = list_folder(root)
    by_kind: dict[bool, list[str]] = {True: [], False: []}
    for file in listing.files:
        by_kind[_format_of(Path(file), folders.formats) is not None].append(file)
    found: dict[str, list[Path]] = defaultdict(list)
    stray = []
    for file in by_kind[True]:
        *above, _ = Path(file).parts
        if len(above) == 1 or (len(above) == 2 and above[1] in folders.classes):
            found[above[-1]].append(root / file)
        elif len(above) <= 2 or not folders.classes:  # below known classes there may be anything else
            stray.append(file)
    if stray:
        raise InputError(
            f"the recording is not in the folder of a class, as {len(stray)} of {len(by_kind[True])} are not",
            where=str(root / stray[0]), remedy=f"{root} needs one folder per class, with the recordings in it",
        )  # fmt: skip
    found = {name: sorted(paths) for name, paths in sorted(found.items())}
    unknown = sorted(set(found) - set(folders.classes)) if folders.classes else []
    if unknown:
        raise InputError(
            f"there are recordings in folders that are not a class of this data set: {', '.join(unknown[:5])}",
            where=str(root), remedy=f"its classes are {', '.join(folders.classes)}",
        )  # fmt: skip
    if not found:
        suffixes = sorted({suffix for name in folders.formats for suffix in EVENT_FORMATS[name].suffixes})
        held = f"; it holds {kinds_of(by_kind[False])}" if by_kind[False] else ""
        raise MissingFileError(f"there are no recordings ({', '.join(suffixes)}) in {root}, one folder per class{held}")
    listing.report(root)
    report_left_out(root, by_kind[True], by_kind[False], listing.folders, _UNREAD, "recording")
    for paths in found.values():
        names: dict[tuple[Path, str], Path] = {}
        for path in paths:
            first = names.setdefault((path.parent, path.stem), path)
            if first != path:
                raise InputError(
                    f"{first} and {path} look like one recording in two formats", remedy="keep one of them"
                )
    return found


def _same_classes(train: Mapping[str, object], test: Mapping[str, object], root: Path) -> tuple[str, ...]:
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise InputError(
            f"the test split has {len(unknown)} classes that the training split does not have: {some(unknown)}",
            where=str(root),
        )
    without = [name for name in sorted(train) if name not in test]
    if without:
        note(f"{root}: there are no test recordings of {len(without)} of {len(train)} classes: {some(without)}")
    return tuple(sorted(train))


def split_by_class(
    found: Mapping[str, Sequence[Path]], root: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Nine tenths of each class for training and one for testing, by a draw that never changes.

    The draw depends on the sorted file names only, not on the order in which the file system lists them. No recording
    is in both splits.

    Args:
        found: class -> its files.
        root: the data set's folder, for errors.

    Raises:
        InputError: a class with a single recording.
    """
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for label, (name, paths) in enumerate(sorted(found.items())):
        members = sorted(paths)
        if len(members) < 2:
            raise InputError(
                f"class {name!r} has {len(members)} recording; to be split it needs at least 2", where=str(root)
            )
        random.Random(label).shuffle(members)
        held_out = max(1, round(TEST_SHARE * len(members)))
        test[name], train[name] = sorted(members[:held_out]), sorted(members[held_out:])
    return train, test


def _opened(
    train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], folders: EventFolders
) -> OpenedRecordings:
    names = tuple(train)
    splits = []
    for part in (train, test):
        files = [(path, label) for label, name in enumerate(names) for path in part[name]]
        splits.append(
            EventFiles(
                [EventFile(path, str(_format_of(path, folders.formats)), folders.sensor) for path, _ in files],
                [label for _, label in files],
            )
        )
    return OpenedRecordings(splits[0], splits[1], names, folders.sensor)
