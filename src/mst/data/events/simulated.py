"""digits-dvs and fashion-mnist-dvs: real images, seen by a simulated event camera."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..entry import DatasetEntry, DatasetInfo, Finder, OpenedDataset, Opener
from ..images.digits import DIGITS
from ..images.fashion_mnist import FASHION_MNIST
from ..splits import StoredImages
from .cache import FrameCache, cache_folder
from .camera import CameraConfig, SimulatedCamera
from .sources import SeenPictures, as_bytes

DIGITS_CAMERA = CameraConfig(16, 16, margin=2, saccade=2.5)
FASHION_MNIST_CAMERA = CameraConfig(32, 32, margin=2, saccade=3.0)
"""Cameras of the simulated data sets. A change makes another data set: do not change a field without a new name."""


def _open(
    camera: CameraConfig, open_images: Opener, info: DatasetInfo, data_path: Path | None, in_memory: bool
) -> OpenedDataset:
    """The same split of the same images, seen by a simulated camera."""
    images = open_images(info, data_path, in_memory)
    cache = FrameCache(cache_folder())
    splits = []
    for part, split in (("training", images.train), ("test", images.test)):
        assert isinstance(split, StoredImages)
        pictures = as_bytes(split.images)
        seen = SimulatedCamera(camera, (pictures.shape[1], pictures.shape[2]))
        splits.append(SeenPictures(f"{info.name}, {part}", pictures, split.labels, seen, cache))
    return OpenedDataset(info, splits[0], splits[1])


def _entry(images: DatasetEntry, camera: CameraConfig, find: Finder, where: str) -> DatasetEntry:
    of = images.info
    info = DatasetInfo(
        f"{of.name}-dvs", of.num_classes, of.class_names, 2, (camera.height, camera.width), of.num_train, of.num_test,
        where, sensor=camera.sensor,
    )  # fmt: skip
    return DatasetEntry(info, partial(_open, camera, images.open), find)


DIGITS_DVS = _entry(
    DIGITS, DIGITS_CAMERA, lambda data_path: "simulated from scikit-learn's digits",
    "simulated: digits, seen by a moving event camera; the split of digits",
)  # fmt: skip

FASHION_MNIST_DVS = _entry(
    FASHION_MNIST, FASHION_MNIST_CAMERA, FASHION_MNIST.find,
    "simulated: fashion-mnist, seen by a moving event camera; needs the files of fashion-mnist",
)  # fmt: skip
