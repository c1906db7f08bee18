"""dvs128-gesture: hand gestures with their official split, as first published or as tonic unpacks them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mst.errors import InputError, MissingFileError
from mst.text import one_line

from ..entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from ..folders import is_hidden
from .class_folders import OpenedRecordings
from .recorded import completed, missing_files
from .sources import EventFile, EventFiles
from .stream import Sensor
from .tonic_downloads import download_with_tonic

GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip

_SENSOR = Sensor(128, 128)
_PLACES = ("DVSGesture", "dvs128-gesture", "DvsGesture", "")


def find_gestures(data_path: Path) -> Path | None:
    """The folder below `data_path` that holds DVS128 Gesture, as first published or as tonic serves it."""
    for place in _PLACES:
        root = data_path / place
        if (root / "trials_to_train.txt").is_file() or (root / "ibmGestureTrain").is_dir():
            return root
    return None


def open_gestures(root: Path) -> OpenedRecordings:
    """DVS128 Gesture with its official split: users 1 to 23 for training, 24 to 29 for testing.

    Args:
        root: holds trials_to_train.txt, trials_to_test.txt and AEDAT 3.1 files with a _labels.csv each; or
            ibmGestureTrain/ and ibmGestureTest/ as tonic unpacks them.

    Raises:
        InputError: a list or a table of labels that is damaged.
        MissingFileError: a file that they name is missing.
    """
    if (root / "trials_to_train.txt").is_file():
        train, test = (_listed_gestures(root, root / f"trials_to_{part}.txt") for part in ("train", "test"))
        both = {file.path for file in train.files} & {file.path for file in test.files}
        if both:
            raise InputError(
                "the file is in both lists, trials_to_train.txt and trials_to_test.txt", where=str(min(both))
            )
    else:
        train, test = (_tonic_gestures(root / f"ibmGesture{part}") for part in ("Train", "Test"))
    return OpenedRecordings(train, test, GESTURES, _SENSOR)


def _tonic_gestures(folder: Path) -> EventFiles:
    files, labels = [], []
    for path in sorted(folder.glob("*/*.npy")):
        if is_hidden(path.name) or is_hidden(path.parent.name):
            continue
        if not path.stem.isdigit() or int(path.stem) >= len(GESTURES):
            raise InputError(
                f"files of gestures are named 0.npy to {len(GESTURES) - 1}.npy, by their class", where=str(path)
            )
        files.append(EventFile(path, "npy", _SENSOR))
        labels.append(int(path.stem))
    if not files:
        raise MissingFileError(f"there are no recordings (*.npy) in the folders of {folder}")
    return EventFiles(files, labels)


def _listed_gestures(root: Path, trials: Path) -> EventFiles:
    files, labels = [], []
    for name in _text_of(trials).split():
        path = root / name
        table = path.with_name(f"{path.stem}_labels.csv")
        for missing in (path, table):
            if not missing.is_file():
                raise MissingFileError(f"{trials.name} names {name}, but {missing} is not there")
        for label, span in _gesture_rows(table):
            files.append(EventFile(path, "aedat3", _SENSOR, span))
            labels.append(label)
    if not files:
        raise InputError("the list does not name any recordings", where=str(trials))
    return EventFiles(files, labels)


def _gesture_rows(table: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Label, and first and last time in µs, of each row."""
    rows = csv.DictReader(_text_of(table).splitlines())
    try:
        for number, row in enumerate(rows, start=2):
            where = f"{table}, line {number}"
            try:
                label, start, end = (int(row[key]) for key in ("class", "startTime_usec", "endTime_usec"))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError("needs class, startTime_usec and endTime_usec", where=where) from error
            if not 1 <= label <= len(GESTURES) or end <= start:
                raise InputError(f"class {label} from {start} to {end} µs is not valid", where=where)
            yield label - 1, (start, end)
    except csv.Error as error:
        raise InputError(f"not a table of labels ({one_line(error)})", where=str(table)) from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not a text in UTF-8 ({one_line(error)})", where=str(path)) from error


def _open(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    del in_memory  # recordings are cached as frames, on disk
    root = find_gestures(data_path or DEFAULT_DATA_PATH)
    if root is None:
        raise missing_files(info, data_path)
    return completed(info, open_gestures(root))


def _find(data_path: Path | None) -> str | None:
    found = find_gestures(data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


DVS128_GESTURE = DatasetEntry(
    DatasetInfo(
        "dvs128-gesture", 11, GESTURES, 2, (128, 128), 1176, 288,
        "DvsGesture/ with trials_to_train.txt and *.aedat, or ibmGestureTrain/ and ibmGestureTest/ as tonic unpacks "
        "them; research.ibm.com/dvsgesture; official split by user",
        sensor=_SENSOR,
    ),
    _open,
    _find,
    partial(download_with_tonic, "dvs128-gesture", "DVSGesture", ({"train": True}, {"train": False})),
)  # fmt: skip
