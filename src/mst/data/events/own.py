"""events:PATH: a user's own folder of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mst.errors import InputError, MissingFileError
from mst.text import note, one_line

from ..entry import DatasetEntry, DatasetInfo, OpenedDataset
from ..folders import some
from ..unreadable import SKIP_RECORDINGS, UnreadableEventsError
from .cameras import Camera, camera_with
from .class_folders import EventFolders, OpenedRecordings, open_recordings
from .formats import OWN_FORMATS, own_format, read_events
from .recorded import completed
from .representation import EventRepresentation
from .sources import EventFile, EventFiles
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


def own_events(name: str, how: EventRepresentation) -> DatasetEntry:
    """Entry for events:PATH.

    Args:
        name: events:PATH.
        how: sensor and camera for files that do not state them.
    """
    root = Path(name.removeprefix(EVENTS)).expanduser()
    return DatasetEntry(
        replace(OWN_EVENTS, name=name),
        partial(_open, root, how),
        lambda data_path: str(root) if data_path is None else None,
    )


def _open(
    root: Path, how: EventRepresentation, info: DatasetInfo, data_path: Path | None, in_memory: bool
) -> OpenedDataset:
    del in_memory  # recordings are cached as frames, on disk
    if data_path is not None:
        raise InputError(f"--data-path has no effect on {info.name}, which names its folder", remedy="remove it")
    return completed(info, open_own_recordings(root, how.sensor, how.camera))


def open_own_recordings(root: Path, sensor: tuple[int, int] | None, camera: Camera | None = None) -> OpenedRecordings:
    """A user's folder of recordings: one folder a class, or train/ and test/ with one folder a class in each.

    Args:
        root: the folder.
        sensor: (height, width); None takes it from the first file's header.
        camera: of AEDAT 2.0 files; None takes the one with that sensor, or the one that each file states or shows.

    Raises:
        MissingFileError: the folder does not exist, or has no recordings in it.
        InputError: files that do not state the sensor's size or the camera, a camera without effect, or as
            `open_recordings`.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"no such folder of recordings: {root}", remedy="give one that exists: --dataset events:FOLDER"
        )
    (train, *_), (test, *more) = (_own_splits(root, names) for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if bool(train) != bool(test):
        raise InputError(
            f"there is a folder {train or test}/ and none for the other split", where=str(root),
            remedy="name them train/ and test/, or put the class folders into the root to have them split",
        )  # fmt: skip
    if more:
        note(f"{root}: {train} and {test} are the splits; not used: {some(more)}")
    opened = open_recordings(EventFolders(Sensor(1, 1), OWN_FORMATS, (), (), train, test), root)
    files = [*opened.train.files, *opened.test.files]
    if camera is not None and not any(file.path.suffix.lower() == ".aedat" for file in files):
        raise InputError(f"camera {camera} has no effect: {root} holds no .aedat files", remedy="remove it")
    named = camera or (None if sensor is None else camera_with(sensor))
    splits = [
        EventFiles([replace(file, format=str(own_format(file.path, named))) for file in split.files], split.labels)
        for split in (opened.train, opened.test)
    ]
    pixels = Sensor(*sensor) if sensor is not None else _stated_sensor([*splits[0].files, *splits[1].files], root)
    splits = [
        EventFiles([replace(file, sensor=pixels, checks_sensor=sensor is None) for file in split.files], split.labels)
        for split in splits
    ]
    return OpenedRecordings(splits[0], splits[1], opened.class_names, pixels)


def _own_splits(root: Path, names: Sequence[str]) -> list[str]:
    """The folders of a split, in upper or lower case; an empty name if there is none."""
    return [path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name.casefold() in names] or [""]


def _stated_sensor(files: Sequence[EventFile], root: Path) -> Sensor:
    """The sensor that the first readable file states."""
    first: UnreadableEventsError | None = None
    for file in files:
        try:
            stated = read_events(file.path, file.format).sensor
        except UnreadableEventsError as error:
            first = first or error
            continue  # its error is raised when it is read for a batch
        except OSError as error:
            first = first or UnreadableEventsError(file.path, error.strerror or one_line(error))
            continue
        if stated is None:
            raise InputError(
                "the file does not state the sensor's size", where=str(file.path),
                remedy="give it with --events.sensor HEIGHT,WIDTH (mst datasets: --sensor)",
            )  # fmt: skip
        return stated
    what = "" if first is None else f"; the first: {first.problem}"
    remedy = SKIP_RECORDINGS if first is None else first.remedy
    raise UnreadableEventsError(root, f"not one of its {len(files):,} recordings can be read{what}", remedy=remedy)
