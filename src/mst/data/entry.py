"""What an entry of the registry of data sets holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .events.stream import Sensor
from .splits import RawSplit


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set.

    native_size: (height, width) in pixels; None if the images differ.  num_train, num_test: images.
    mean, std: of pixel values from 0 to 1, per channel; None: of the training images.
    crop_ratio: see `Preprocessing`.  sensor: of the event camera; None for images. Recordings have one channel for each
        polarity, and as many as their representation gives them once they are frames.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    in_chans: int
    native_size: tuple[int, int] | None
    num_train: int
    num_test: int
    where: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_ratio: float = 1.0
    sensor: Sensor | None = None


@dataclass(frozen=True)
class Opened:
    """A data set whose files have been found."""

    info: DatasetInfo
    train: RawSplit
    test: RawSplit


Opener = Callable[[DatasetInfo, Path | None, bool], Opened]
"""(what is known, data path, whether image files are to be read into memory) -> both splits."""

Finder = Callable[[Path | None], str | None]


@dataclass(frozen=True)
class DatasetEntry:
    """A data set of the registry. find: where its files are, without opening them; None if they are not there."""

    info: DatasetInfo
    open: Opener
    find: Finder
