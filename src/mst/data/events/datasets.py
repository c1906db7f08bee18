"""The event data sets: where their files lie, which classes they have and how they are split."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .formats import EVENT_FORMATS, OWN_FORMATS, read_events
from .sources import EventFile, EventFiles
from .stream import Sensor, UnreadableEventsError

TEST_SHARE = 0.1
"""Share of each class that is set aside for testing where no split is official; the paper's."""

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation", "eval")


@dataclass(frozen=True)
class EventFolders:
    """How a data set lies on disk: one folder a class, perhaps within folders of an official split.

    formats: keys of `EVENT_FORMATS`; a file's suffix chooses.  places: folders below the data path, searched in order.
    classes: folder names; empty if they are taken as they come.  train, test: folders of the official split.
    """

    sensor: Sensor
    formats: tuple[str, ...]
    places: tuple[str, ...]
    classes: tuple[str, ...] = ()
    train: str = ""
    test: str = ""


@dataclass(frozen=True)
class OpenedRecordings:
    """Two splits with the classes they share."""

    train: EventFiles
    test: EventFiles
    class_names: tuple[str, ...]
    sensor: Sensor


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip
ASL_LETTERS = tuple("abcdefghiklmnopqrstuvwxy")
"""All but j and z, which are signed by a movement."""

CIFAR10_DVS = EventFolders(
    Sensor(128, 128), ("aedat2-cifar10-dvs",), ("CIFAR10DVS", "cifar10-dvs", "CIFAR10-DVS", ""), _CIFAR10
)
N_CALTECH101 = EventFolders(
    Sensor(180, 240), ("bin",), ("NCALTECH101/Caltech101", "n-caltech101/Caltech101", "n-caltech101", "Caltech101", "")
)
N_CARS = EventFolders(
    Sensor(100, 120), ("dat",), ("Prophesee_Dataset_n_cars", "n-cars", ""), ("background", "cars"),
    "n-cars_train", "n-cars_test",
)  # fmt: skip
ASL_DVS = EventFolders(Sensor(180, 240), ("mat-asl-dvs",), ("ASLDVS", "asl-dvs", "ASL-DVS", ""), ASL_LETTERS)
ACTION_RECOGNITION = EventFolders(
    Sensor(260, 346), ("aedat2-davis346",), ("action-recognition", "ActionRecognition", "Action Recognition", "")
)

GESTURE_SENSOR = Sensor(128, 128)
_GESTURE_PLACES = ("DVSGesture", "dvs128-gesture", "DvsGesture", "")


# --------------------------------------------------------------------------------------- class folders


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
    return folder.is_dir() and bool(_recordings_in(folder, folders))


def _recordings_in(folder: Path, folders: EventFolders) -> list[Path]:
    """Files of the data set's formats that lie in the folder itself, in the order of their names."""
    return sorted(
        path for path in folder.iterdir()
        if _format_of(path, folders.formats) and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip


def _format_of(path: Path, formats: Sequence[str]) -> str | None:
    return next((name for name in formats if path.suffix.lower() in EVENT_FORMATS[name].suffixes), None)


def open_recordings(folders: EventFolders, root: Path) -> OpenedRecordings:
    """Both splits of a data set that lies in `root`.

    Raises:
        ValueError: recordings that lie in no class, or in an unknown one; one that lies there twice; a class without a
            recording to spare.
        FileNotFoundError: no recordings.
    """
    if folders.train:
        train, test = (_by_class(root / part, folders) for part in (folders.train, folders.test))
        names = _same_classes(train, test, root)
        return _opened({n: train[n] for n in names}, {n: test.get(n, []) for n in names}, folders)
    return _opened(*split_by_class(_by_class(root, folders), root), folders)


def _by_class(root: Path, folders: EventFolders) -> dict[str, list[Path]]:
    """Class -> its files. A class is a folder in `root`; known classes may lie one level deeper."""
    found: dict[str, list[Path]] = defaultdict(list)
    direct = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in direct:
        found[path.name] += _recordings_in(path, folders)
    stray = _recordings_in(root, folders)
    for inner in (inner for path in direct for inner in sorted(path.iterdir()) if inner.is_dir()):
        recordings = _recordings_in(inner, folders)
        if inner.name in folders.classes:
            found[inner.name] += recordings
        else:
            stray += recordings
    if stray:
        raise ValueError(f"{stray[0]} lies in no class: {root} needs one folder a class, with the recordings in it")
    found = {name: paths for name, paths in sorted(found.items()) if paths}
    unknown = sorted(set(found) - set(folders.classes)) if folders.classes else []
    if unknown:
        raise ValueError(
            f"{root} has recordings in folders that are no class of this data set: {', '.join(unknown[:5])}; "
            f"its classes are {', '.join(folders.classes)}"
        )
    if not found:
        suffixes = sorted({suffix for name in folders.formats for suffix in EVENT_FORMATS[name].suffixes})
        raise FileNotFoundError(f"there are no recordings ({', '.join(suffixes)}) in {root}, one folder a class")
    for paths in found.values():
        names: dict[tuple[Path, str], Path] = {}
        for path in paths:
            first = names.setdefault((path.parent, path.stem), path)
            if first != path:
                raise ValueError(f"{first} and {path} look like one recording in two formats; keep one of them")
    return found


def _same_classes(train: Mapping[str, object], test: Mapping[str, object], root: Path) -> tuple[str, ...]:
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ValueError(
            f"{root}: the test split has classes that the training split has not: {', '.join(unknown[:5])}"
        )
    return tuple(sorted(train))


def split_by_class(
    found: Mapping[str, Sequence[Path]], root: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Nine tenths of each class for training and one for testing, by a draw that never changes.

    The draw goes by the names in their order, whatever order the file system lists them in. No recording is in both.

    Raises:
        ValueError: a class with a single recording.
    """
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for label, (name, paths) in enumerate(sorted(found.items())):
        members = sorted(paths)
        if len(members) < 2:
            raise ValueError(f"{root}: class {name!r} has {len(members)} recording; to be split it needs at least 2")
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


# ---------------------------------------------------------------------------------------------- gestures


def find_gestures(data_path: Path) -> Path | None:
    """The folder below `data_path` that holds DVS128 Gesture, as first published or as tonic serves it."""
    for place in _GESTURE_PLACES:
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
        ValueError: a list or a table of labels that is damaged.
        FileNotFoundError: a file that they name is missing.
    """
    if (root / "trials_to_train.txt").is_file():
        train, test = (_listed_gestures(root, root / f"trials_to_{part}.txt") for part in ("train", "test"))
        both = {file.path for file in train.files} & {file.path for file in test.files}
        if both:
            raise ValueError(f"{min(both)} is in both lists, trials_to_train.txt and trials_to_test.txt")
    else:
        train, test = (_tonic_gestures(root / f"ibmGesture{part}") for part in ("Train", "Test"))
    return OpenedRecordings(train, test, GESTURES, GESTURE_SENSOR)


def _tonic_gestures(folder: Path) -> EventFiles:
    files, labels = [], []
    for path in sorted(folder.glob("*/*.npy")):
        if not path.stem.isdigit() or int(path.stem) >= len(GESTURES):
            raise ValueError(f"{path}: files of gestures are named 0.npy to {len(GESTURES) - 1}.npy, by their class")
        files.append(EventFile(path, "npy", GESTURE_SENSOR))
        labels.append(int(path.stem))
    if not files:
        raise FileNotFoundError(f"there are no recordings (*.npy) in the folders of {folder}")
    return EventFiles(files, labels)


def _listed_gestures(root: Path, trials: Path) -> EventFiles:
    files, labels = [], []
    for name in _text_of(trials).split():
        path = root / name
        table = path.with_name(f"{path.stem}_labels.csv")
        for missing in (path, table):
            if not missing.is_file():
                raise FileNotFoundError(f"{trials.name} names {name}, but {missing} is not there")
        for label, span in _gesture_rows(table):
            files.append(EventFile(path, "aedat3", GESTURE_SENSOR, span))
            labels.append(label)
    if not files:
        raise ValueError(f"{trials} names no recordings")
    return EventFiles(files, labels)


def _gesture_rows(table: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Label, and first and last time in µs, of each row."""
    rows = csv.DictReader(_text_of(table).splitlines())
    try:
        for number, row in enumerate(rows, start=2):
            try:
                label, start, end = (int(row[key]) for key in ("class", "startTime_usec", "endTime_usec"))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{table}, line {number}: needs class, startTime_usec and endTime_usec") from error
            if not 1 <= label <= len(GESTURES) or end <= start:
                raise ValueError(f"{table}, line {number}: class {label} from {start} to {end} µs makes no sense")
            yield label - 1, (start, end)
    except csv.Error as error:
        raise ValueError(f"{table} is no table of labels: {error}") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error


# --------------------------------------------------------------------------------------- one's own folder


def open_own_recordings(root: Path, sensor: tuple[int, int] | None) -> OpenedRecordings:
    """A user's folder of recordings: one folder a class, or train/ and test/ with one folder a class in each.

    Args:
        root: the folder.
        sensor: (height, width); None takes it from the first file's header.

    Raises:
        FileNotFoundError: no such folder, or no recordings in it.
        ValueError: files that do not state the sensor's size, or as `open_recordings`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder of recordings: {root}")
    train, test = (_own_split(root, names) for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if bool(train) != bool(test):
        raise ValueError(
            f"{root} has a folder {train or test}/ and none for the other split; name them train/ and test/, or put "
            "the class folders into the root to have them split"
        )
    opened = open_recordings(EventFolders(Sensor(1, 1), OWN_FORMATS, (), (), train, test), root)
    pixels = Sensor(*sensor) if sensor is not None else _stated_sensor(opened, root)
    splits = [
        EventFiles([replace(file, sensor=pixels, checks_sensor=sensor is None) for file in split.files], split.labels)
        for split in (opened.train, opened.test)
    ]
    return OpenedRecordings(splits[0], splits[1], opened.class_names, pixels)


def _own_split(root: Path, names: Sequence[str]) -> str:
    """The folder of a split, whatever its case; empty if there is none."""
    return next((path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name.casefold() in names), "")


def _stated_sensor(opened: OpenedRecordings, root: Path) -> Sensor:
    """As the first file that can be read states it."""
    files = [*opened.train.files, *opened.test.files]
    for file in files:
        try:
            stated = read_events(file.path, file.format).sensor
        except (UnreadableEventsError, OSError):
            continue  # named when its turn comes
        if stated is None:
            raise ValueError(
                f"{file.path} does not state the sensor's size; give it with --events.sensor HEIGHT,WIDTH "
                "(mst datasets: --sensor)"
            )
        return stated
    raise UnreadableEventsError(root, f"not one of its {len(files):,} recordings can be read")
