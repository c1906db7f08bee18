"""Published event data sets in class folders: cifar10-dvs, n-caltech101, n-cars, asl-dvs, action-recognition."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from mst.errors import MissingFileError

from ..entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from ..images.cifar import CIFAR10_CLASSES
from .class_folders import EventFolders, OpenedRecordings, find_recordings, open_recordings
from .stream import Sensor
from .tonic_downloads import WHOLE, download_with_tonic

ASL_LETTERS = tuple("abcdefghiklmnopqrstuvwxy")
"""All letters but j and z, which are signed by a movement."""


def completed(info: DatasetInfo, found: OpenedRecordings) -> OpenedDataset:
    """The opened data set with the facts that its files show."""
    known = replace(
        info, num_classes=len(found.class_names), class_names=found.class_names, num_train=len(found.train),
        num_test=len(found.test), sensor=found.sensor, native_size=(found.sensor.height, found.sensor.width),
    )  # fmt: skip
    return OpenedDataset(known, found.train, found.test)


def missing_files(info: DatasetInfo, data_path: Path | None) -> MissingFileError:
    """The error of a data set whose files are not there."""
    return MissingFileError(
        f"{info.name} is not in {data_path or DEFAULT_DATA_PATH}",
        remedy=f"name the folder that holds it with --data-path. Needed: {info.where}",
    )


def _open(folders: EventFolders, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    del in_memory  # recordings are cached as frames, on disk
    root = find_recordings(folders, data_path or DEFAULT_DATA_PATH)
    if root is None:
        raise missing_files(info, data_path)
    return completed(info, open_recordings(folders, root))


def _find(folders: EventFolders, data_path: Path | None) -> str | None:
    found = find_recordings(folders, data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _entry(
    name: str, folders: EventFolders, num_classes: int, counts: tuple[int, int], where: str, tonic_class: str = ""
) -> DatasetEntry:
    """Entry of a data set in class folders; `counts`: training and test recordings."""
    size = (folders.sensor.height, folders.sensor.width)
    info = DatasetInfo(
        name,
        num_classes,
        folders.classes,
        2,
        size,
        *counts,
        where,
        sensor=folders.sensor,
        event_formats=folders.formats,
    )
    download = partial(download_with_tonic, name, tonic_class, WHOLE) if tonic_class else None
    return DatasetEntry(info, partial(_open, folders), partial(_find, folders), download)


CIFAR10_DVS = _entry(
    "cifar10-dvs",
    EventFolders(
        Sensor(128, 128), ("aedat2-cifar10-dvs",), ("CIFAR10DVS", "cifar10-dvs", "CIFAR10-DVS", ""), CIFAR10_CLASSES
    ),
    10, (9000, 1000),
    "CIFAR10DVS/airplane/*.aedat4 (as tonic unpacks it) or the original *.aedat in such folders; figshare 4724671; "
    "seeded split, 90 % of each class for training",
    "CIFAR10DVS",
)  # fmt: skip

N_CALTECH101 = _entry(
    "n-caltech101",
    EventFolders(
        Sensor(180, 240), ("bin",),
        ("NCALTECH101/Caltech101", "n-caltech101/Caltech101", "n-caltech101", "Caltech101", ""),
    ),
    101, (7838, 871),
    "Caltech101/CLASS/*.bin; garrickorchard.com/datasets/n-caltech101; seeded split, 90 % of each class",
    "NCALTECH101",
)  # fmt: skip

N_CARS = _entry(
    "n-cars",
    EventFolders(
        Sensor(100, 120), ("dat",), ("Prophesee_Dataset_n_cars", "n-cars", ""), ("background", "cars"),
        "n-cars_train", "n-cars_test",
    ),
    2, (15_422, 8607),
    "n-cars_train/cars/*.dat, n-cars_train/background, n-cars_test/...; prophesee.ai, N-CARS; official split",
)  # fmt: skip

ASL_DVS = _entry(
    "asl-dvs",
    EventFolders(Sensor(180, 240), ("mat-asl-dvs",), ("ASLDVS", "asl-dvs", "ASL-DVS", ""), ASL_LETTERS),
    24, (90_720, 10_080),
    "a/*.mat to y/*.mat; github.com/PIX2NVS/NVS2Graph; seeded split, 90 % of each letter",
    "ASLDVS",
)  # fmt: skip

ACTION_RECOGNITION = _entry(
    "action-recognition",
    EventFolders(
        Sensor(260, 346), ("aedat2-davis346",),
        ("action-recognition", "ActionRecognition", "Action Recognition", ""),
    ),
    10, (410, 40),
    "action-recognition/CLASS/*.aedat; github.com/CrystalMiaoshu/PAFBenchmark; seeded split, 90 % of each class",
)  # fmt: skip
