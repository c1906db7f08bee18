"""Entry of a data set in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .events.stream import Sensor
from .splits import RawSplit

DEFAULT_DATA_PATH = Path("data")
"""Folder in which files are searched, and into which they are downloaded, if no data path is given; relative to the
working folder."""


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that need none of its files."""

    name: str
    """Name of the data set, as `--dataset` takes it."""

    num_classes: int
    """Classes; 0 if they are known only after opening, as for folder:PATH."""

    class_names: tuple[str, ...]
    """Class names in the order of their labels; empty if they are taken from the files, or unknown."""

    in_chans: int
    """Channels of an image. Recordings have one per polarity; their frames have as many as their representation."""

    native_size: tuple[int, int] | None
    """(height, width) in pixels; None if the images differ in size."""

    num_train: int
    """Training images or recordings of the complete data set."""

    num_test: int
    """Test images or recordings of the complete data set."""

    where: str
    """Files that are needed and where they come from, for people."""

    mean: tuple[float, ...] | None = None
    """Mean of the pixel values from 0 to 1, per channel; None: measured on the training images."""

    std: tuple[float, ...] | None = None
    """Standard deviation of the pixel values, per channel; None: measured."""

    crop_ratio: float = 1.0
    """Default of `Preprocessing.crop_ratio`."""

    sensor: Sensor | None = None
    """Pixels of the event camera; None for images."""

    event_formats: tuple[str, ...] = ()
    """Keys of `EVENT_FORMATS` of its files, where their suffixes alone do not tell how they are read."""


@dataclass(frozen=True)
class OpenedDataset:
    """A data set whose files have been found."""

    info: DatasetInfo
    """Its facts, completed from the files."""

    train: RawSplit
    """Training samples as they are stored."""

    test: RawSplit
    """Test samples as they are stored."""


Opener = Callable[[DatasetInfo, Path | None, bool], OpenedDataset]
"""(facts, data path, True if image files are to be read into memory) -> both splits."""

Finder = Callable[[Path | None], str | None]
"""data path -> where the files are, for people, without opening them; None if they are not there."""

Downloader = Callable[[Path], None]
"""Downloads and unpacks the files into a folder."""


@dataclass(frozen=True)
class DatasetEntry:
    """A data set of the registry."""

    info: DatasetInfo
    """Facts known without its files."""

    open: Opener
    """Opens both splits. Raises MissingFileError if the files are not there and InputError if they are damaged."""

    find: Finder
    """Finds the files without opening them."""

    download: Downloader | None = None
    """Downloads the files for `mst datasets download`; None if that is not possible, or if `open` downloads them."""
