"""events:PATH: a user's own folder of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mst.errors import InputError, MissingFileError

from ..entry import DatasetEntry, DatasetInfo, OpenedDataset
from ..unreadable import UnreadableEventsError
from .class_folders import EventFolders, OpenedRecordings, open_recordings
from .formats import OWN_FORMATS, read_events
from .recorded import completed
from .sources import EventFiles
from .stream import Sensor

EVENTS = "events:"
"""Prefix of a data set that is a user's own folder of recordings."""

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation", "eval")

OWN_EVENTS = DatasetInfo(
    "events:PATH", 0, (), 2, None, 0, 0,
    "your own recordings (.dat, .npz, .bin, .aedat, .aedat4, .mat): one folder per class, or train/ and test/ with one "
    "folder per class in each",
)  # fmt: skip


def own_events(name: str, sensor: tuple[int, int] | None) -> DatasetEntry:
    """Entry for events:PATH.

    Args:
        name: events:PATH.
        sensor: (height, width) for files that do not state it.
    """
    root = Path(name.removeprefix(EVENTS)).expanduser()
    return DatasetEntry(
        replace(OWN_EVENTS, name=name),
        partial(_open, root, sensor),
        lambda data_path: str(root) if data_path is None else None,
    )


def _open(
    root: Path, sensor: tuple[int, int] | None, info: DatasetInfo, data_path: Path | None, in_memory: bool
) -> OpenedDataset:
    del in_memory  # recordings are cached as frames, on disk
    if data_path is not None:
        raise InputError(f"--data-path has no effect on {info.name}, which names its folder", remedy="remove it")
    return completed(info, open_own_recordings(root, sensor))


def open_own_recordings(root: Path, sensor: tuple[int, int] | None) -> OpenedRecordings:
    """A user's folder of recordings: one folder a class, or train/ and test/ with one folder a class in each.

    Args:
        root: the folder.
        sensor: (height, width); None takes it from the first file's header.

    Raises:
        MissingFileError: the folder does not exist, or has no recordings in it.
        InputError: files that do not state the sensor's size, or as `open_recordings`.
    """
    if not root.is_dir():
        raise MissingFileError(f"no such folder of recordings: {root}")
    train, test = (_own_split(root, names) for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if bool(train) != bool(test):
        raise InputError(
            f"there is a folder {train or test}/ and none for the other split", where=str(root),
            remedy="name them train/ and test/, or put the class folders into the root to have them split",
        )  # fmt: skip
    opened = open_recordings(EventFolders(Sensor(1, 1), OWN_FORMATS, (), (), train, test), root)
    pixels = Sensor(*sensor) if sensor is not None else _stated_sensor(opened, root)
    splits = [
        EventFiles([replace(file, sensor=pixels, checks_sensor=sensor is None) for file in split.files], split.labels)
        for split in (opened.train, opened.test)
    ]
    return OpenedRecordings(splits[0], splits[1], opened.class_names, pixels)


def _own_split(root: Path, names: Sequence[str]) -> str:
    """The folder of a split, in upper or lower case; empty if there is none."""
    return next((path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name.casefold() in names), "")


def _stated_sensor(opened: OpenedRecordings, root: Path) -> Sensor:
    """The sensor that the first readable file states."""
    files = [*opened.train.files, *opened.test.files]
    for file in files:
        try:
            stated = read_events(file.path, file.format).sensor
        except (UnreadableEventsError, OSError):
            continue  # its error is raised when it is read for a batch
        if stated is None:
            raise InputError(
                "the file does not state the sensor's size", where=str(file.path),
                remedy="give it with --events.sensor HEIGHT,WIDTH (mst datasets: --sensor)",
            )  # fmt: skip
        return stated
    raise UnreadableEventsError(root, f"not one of its {len(files):,} recordings can be read")
