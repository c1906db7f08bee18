"""The data sets of event cameras, and those that a simulated camera makes of images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..entry import DatasetEntry, DatasetInfo, Opened
from ..images.entries import FASHION_CLASSES, find_fashion, open_digits, open_fashion_mnist
from ..images.fashion_mnist import DEFAULT_DATA_PATH
from ..splits import StoredImages
from .cache import FrameCache, cache_folder
from .camera import CameraConfig, SimulatedCamera
from .datasets import (
    ACTION_RECOGNITION,
    ASL_DVS,
    CIFAR10_DVS,
    GESTURE_SENSOR,
    GESTURES,
    N_CALTECH101,
    N_CARS,
    EventFolders,
    OpenedRecordings,
    find_gestures,
    find_recordings,
    open_gestures,
    open_own_recordings,
    open_recordings,
)
from .sources import SeenPictures, as_bytes
from .stream import Sensor

DIGITS_CAMERA = CameraConfig(16, 16, margin=2, saccade=2.5)
FASHION_MNIST_CAMERA = CameraConfig(32, 32, margin=2, saccade=3.0)
"""The cameras of the simulated data sets. A change makes another data set: raise no field without a new name."""


def _opened(info: DatasetInfo, found: OpenedRecordings) -> Opened:
    known = {
        "num_classes": len(found.class_names),
        "class_names": found.class_names,
        "num_train": len(found.train),
        "num_test": len(found.test),
        "sensor": found.sensor,
        "native_size": (found.sensor.height, found.sensor.width),
    }
    return Opened(replace(info, **known), found.train, found.test)  # type: ignore[arg-type]


def _open_folders(folders: EventFolders, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    del in_memory  # recordings are kept as frames, on disk
    root = find_recordings(folders, data_path or DEFAULT_DATA_PATH)
    if root is None:
        raise FileNotFoundError(_not_there(info, data_path))
    return _opened(info, open_recordings(folders, root))


def _find_folders(folders: EventFolders, data_path: Path | None) -> str | None:
    found = find_recordings(folders, data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _open_gestures(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    del in_memory
    root = find_gestures(data_path or DEFAULT_DATA_PATH)
    if root is None:
        raise FileNotFoundError(_not_there(info, data_path))
    return _opened(info, open_gestures(root))


def _find_gestures(data_path: Path | None) -> str | None:
    found = find_gestures(data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _not_there(info: DatasetInfo, data_path: Path | None) -> str:
    return (
        f"{info.name} is not in {data_path or DEFAULT_DATA_PATH}. Name the folder that holds it with --data-path. "
        f"Needed: {info.where}"
    )


def open_own_events(
    sensor: tuple[int, int] | None, root: Path, info: DatasetInfo, data_path: Path | None, in_memory: bool
) -> Opened:
    """A user's own folder of recordings, see `open_own_recordings`."""
    del in_memory
    if data_path is not None:
        raise ValueError(f"--data-path has no effect on {info.name}, which names its folder")
    return _opened(info, open_own_recordings(root, sensor))


def _seen(opened: Opened, info: DatasetInfo, camera: CameraConfig) -> Opened:
    """The same split of the same images, seen by a simulated camera."""
    cache = FrameCache(cache_folder())
    splits = []
    for part, split in (("training", opened.train), ("test", opened.test)):
        assert isinstance(split, StoredImages)
        pictures = as_bytes(split.images)
        seen = SimulatedCamera(camera, (pictures.shape[1], pictures.shape[2]))
        splits.append(SeenPictures(f"{info.name}, {part}", pictures, split.labels, seen, cache))
    return Opened(info, splits[0], splits[1])


def _open_digits_dvs(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    return _seen(open_digits(info, data_path, in_memory), info, DIGITS_CAMERA)


def _open_fashion_mnist_dvs(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    return _seen(open_fashion_mnist(info, data_path, in_memory), info, FASHION_MNIST_CAMERA)


# ---------------------------------------------------------------------------------------------- registry


def _entry(
    name: str, folders: EventFolders, num_classes: int, counts: tuple[int, int], where: str
) -> tuple[str, DatasetEntry]:
    size = (folders.sensor.height, folders.sensor.width)
    info = DatasetInfo(name, num_classes, folders.classes, 2, size, *counts, where, sensor=folders.sensor)
    return name, DatasetEntry(info, partial(_open_folders, folders), partial(_find_folders, folders))


def _simulated(
    name: str, classes: tuple[str, ...], camera: CameraConfig, counts: tuple[int, int], where: str
) -> DatasetInfo:
    sensor = Sensor(camera.height, camera.width)
    return DatasetInfo(name, len(classes), classes, 2, (sensor.height, sensor.width), *counts, where, sensor=sensor)


EVENT_FOLDER = DatasetInfo(
    "events:PATH", 0, (), 2, None, 0, 0,
    "your own recordings (.dat, .npz, .bin, .aedat, .aedat4, .mat): one folder a class, or train/ and test/ with such",
)  # fmt: skip

EVENT_DATASETS: dict[str, DatasetEntry] = {
    "digits-dvs": DatasetEntry(
        _simulated(
            "digits-dvs", tuple("0123456789"), DIGITS_CAMERA, (1437, 360),
            "simulated: digits, seen by a moving event camera; the split of digits",
        ),
        _open_digits_dvs,
        lambda data_path: "simulated from scikit-learn's digits",
    ),
    "fashion-mnist-dvs": DatasetEntry(
        _simulated(
            "fashion-mnist-dvs", FASHION_CLASSES, FASHION_MNIST_CAMERA, (60_000, 10_000),
            "simulated: fashion-mnist, seen by a moving event camera; needs the files of fashion-mnist",
        ),
        _open_fashion_mnist_dvs,
        find_fashion,
    ),
    **dict([
        _entry(
            "cifar10-dvs", CIFAR10_DVS, 10, (9000, 1000),
            "CIFAR10DVS/airplane/*.aedat4 (as tonic unpacks it) or the original *.aedat in such folders; figshare "
            "4724671; seeded split, 90 % of each class for training",
        ),
        _entry(
            "n-caltech101", N_CALTECH101, 101, (7838, 871),
            "Caltech101/CLASS/*.bin; garrickorchard.com/datasets/n-caltech101; seeded split, 90 % of each class",
        ),
        _entry(
            "n-cars", N_CARS, 2, (15_422, 8607),
            "n-cars_train/cars/*.dat, n-cars_train/background, n-cars_test/...; prophesee.ai, N-CARS; official split",
        ),
        _entry(
            "asl-dvs", ASL_DVS, 24, (90_720, 10_080),
            "a/*.mat to y/*.mat; github.com/PIX2NVS/NVS2Graph; seeded split, 90 % of each letter",
        ),
        _entry(
            "action-recognition", ACTION_RECOGNITION, 10, (410, 40),
            "action-recognition/CLASS/*.aedat; github.com/CrystalMiaoshu/PAFBenchmark; seeded split, 90 % a class",
        ),
    ]),
    "dvs128-gesture": DatasetEntry(
        DatasetInfo(
            "dvs128-gesture", 11, GESTURES, 2, (128, 128), 1176, 288,
            "DvsGesture/ with trials_to_train.txt and *.aedat, or ibmGestureTrain/ and ibmGestureTest/ as tonic "
            "unpacks them; research.ibm.com/dvsgesture; official split by user",
            sensor=GESTURE_SENSOR,
        ),
        _open_gestures,
        _find_gestures,
    ),
}  # fmt: skip
