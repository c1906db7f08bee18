"""Single files of a user (pictures, arrays, recordings) -> what a network sees, made as its test images were."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mst.errors import InputError, MissingFileError
from mst.text import note, one_line

from .entry import DatasetInfo
from .events.cache import FrameCache
from .events.formats import EVENT_FORMATS, own_format, read_events
from .events.sources import EventFile
from .events.stream import Sensor
from .folders import list_folder, natural_order, some
from .images.decoding import IMAGE_SUFFIXES
from .images.files import ImageFiles
from .images.preprocessing import Preprocessing
from .unreadable import UnreadableEventsError, UnreadableImageError

ARRAY_SUFFIX = ".npy"
"""Suffix of arrays of pixels."""


def files_below(paths: Sequence[Path], takes_events: bool) -> list[Path]:
    """The files that are meant by some paths: files as they are, and everything readable below folders.

    Args:
        paths: files and folders.
        takes_events: True looks for recordings, False for pictures and arrays.

    Raises:
        MissingFileError: paths that do not exist.
        InputError: a folder without such a file.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise MissingFileError(f"no such file or folder: {some(missing)}")
    events = {suffix for each in EVENT_FORMATS.values() for suffix in each.suffixes}
    suffixes = events if takes_events else {*IMAGE_SUFFIXES, ARRAY_SUFFIX}
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        listing = list_folder(path)
        listing.report(path)
        inside = [name for name in listing.files if Path(name).suffix.lower() in suffixes]
        if not inside:
            kinds = "recordings of an event camera" if takes_events else "pictures"
            raise InputError(f"no {kinds} in it ({', '.join(sorted(suffixes))})", where=str(path))
        found += [path / name for name in natural_order(inside)]
    return found


class _Pictures:
    """Files as `ImageFiles` reads them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        return self._paths[index].open("rb"), 0

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        return str(self._paths[index])


class PictureInputs:
    """Pictures and arrays of pixels, as a network's test images were made.

    An array is [height, width], [height, width, C] or [C, height, width]: uint8, or floating point from 0 to 1.

    Args:
        paths: the files.
        preprocessing: of the network.
        as_tensors: resize tensors, as is done with data sets that are held in memory (digits, Fashion-MNIST, CIFAR);
            False resizes pictures, as is done with image files. Both round differently.

    Raises:
        InputError: a network whose images have neither 1 nor 3 channels.
    """

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing, as_tensors: bool = False) -> None:
        from .images.transform import ImageTransform  # its torchvision.transforms.v2 is needed here only

        if preprocessing.in_chans not in (1, 3):
            raise InputError(f"files hold pictures of 1 or 3 channels, the network takes {preprocessing.in_chans}")
        self.paths, self._how = paths, preprocessing
        self._files = ImageFiles(_Pictures(paths), preprocessing.in_chans)
        self._transform, self._as_tensors = ImageTransform(None, preprocessing, None), as_tensors
        self._noted: set[str] = set()

    def read(self, index: int) -> Tensor:
        """float32 [C, height, width].

        Raises:
            UnreadableImageError: a damaged file, or none of a picture.
        """
        path = self.paths[index]
        if path.suffix.lower() == ARRAY_SUFFIX:
            return self._transform(self._array(path))
        try:
            picture, _ = self._files.read(index)
        except InputError as error:
            raise UnreadableImageError(error.what, where=str(path)) from error
        self._remark(path, picture)
        if not self._as_tensors:
            return self._transform(picture)
        pixels = np.atleast_3d(np.array(picture))
        return self._transform(torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0))))

    def _array(self, path: Path) -> Tensor:
        channels = self._how.in_chans
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UnreadableImageError(f"not an array of NumPy ({one_line(error)})", where=str(path)) from error
        shape = array.shape
        if array.ndim == 2 and channels == 1:
            array = array[None]
        elif array.ndim == 3 and shape[0] != channels and shape[2] == channels:
            array = np.moveaxis(array, 2, 0)
        if array.ndim != 3 or array.shape[0] != channels or 0 in array.shape:
            raise UnreadableImageError(
                f"an array of shape {shape} is no picture of {channels} channels", where=str(path),
                remedy="save one picture to a file, [height, width, C] or [C, height, width]",
            )  # fmt: skip
        is_unit = array.dtype.kind == "f" and bool(np.isfinite(array).all()) and 0 <= array.min() <= array.max() <= 1
        if array.dtype != np.uint8 and not is_unit:
            raise UnreadableImageError(
                f"its values are {array.dtype} from {array.min():g} to {array.max():g}", where=str(path),
                remedy="save uint8 from 0 to 255, or floating point from 0 to 1",
            )  # fmt: skip
        return torch.from_numpy(np.ascontiguousarray(array if array.dtype == np.uint8 else array.astype(np.float32)))

    def _remark(self, path: Path, picture: Image.Image) -> None:
        """Note once what is changed in a picture to fit the network."""
        height, width = self._how.size
        with Image.open(path) as file:
            is_grey = file.mode in ("1", "L", "LA", "I", "I;16")
        remarks = {
            "size": f"it is {picture.height} x {picture.width} and is fitted to {height} x {width} pixels"
            if picture.size != (width, height) else "",
            "colour": "its colours become grey" if self._how.in_chans == 1 and not is_grey else "",
        }  # fmt: skip
        for kind, sentence in remarks.items():
            if sentence and kind not in self._noted:
                self._noted.add(kind)
                note(f"{path}: {sentence}, as in the network's test (noted once)")


class RecordingInputs:
    """Recordings of an event camera as frames, as a network's test recordings were made.

    Args:
        paths: the files.
        preprocessing: of the network, with its `events`.
        known: the network's data set, if it is one with a name here: its camera and its files' formats.
        sensor: pixels of the camera, where neither the data set nor a file states them.
        slices: see `EventTransform`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocessing: Preprocessing,
        known: DatasetInfo | None = None,
        sensor: Sensor | None = None,
        slices: int | None = None,
    ) -> None:
        self.paths, self._how, self._slices = paths, preprocessing, slices
        self._sensor = sensor or (None if known is None else known.sensor)
        self._formats = () if known is None else known.event_formats

    @cached_property
    def _cache(self) -> FrameCache:
        return FrameCache(None)

    def read(self, index: int) -> Tensor:
        """float32 [C, height, width], or [K, C, height, width] of K slices.

        Raises:
            UnreadableEventsError: a damaged file, or none of a recording; a camera that is not known, or another than
                the network's.
        """
        from .events.transform import EventTransform

        path, how = self.paths[index], self._how.events
        assert how is not None
        of_known = (each for each in self._formats if path.suffix.lower() in EVENT_FORMATS[each].suffixes)
        name = next(of_known, None) or own_format(path, how.camera)
        try:
            stated = read_events(path, name).sensor
        except (OSError, InputError) as error:
            if isinstance(error, UnreadableEventsError):
                raise
            raise UnreadableEventsError(path, one_line(error)) from error
        assert name is not None
        sensor = self._sensor or stated
        if sensor is None:
            raise UnreadableEventsError(
                path, "it does not state its camera's pixels", remedy="give --sensor HEIGHT,WIDTH"
            )
        file = EventFile(path, name, sensor, checks_sensor=True)
        return EventTransform(sensor, self._how, None, self._cache, self._slices)(file)


def inputs_of(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    known: DatasetInfo | None = None,
    sensor: Sensor | None = None,
    slices: int | None = None,
) -> PictureInputs | RecordingInputs:
    """The files below some paths, read for a network.

    Args:
        paths: files and folders.
        preprocessing: of the network.
        known: the network's data set, if it is one with a name here.
        sensor, slices: of recordings, see `RecordingInputs`.

    Raises:
        MissingFileError, InputError: as `files_below`; sensor or slices for a network that takes pictures.
    """
    if preprocessing.events is not None:
        return RecordingInputs(files_below(paths, True), preprocessing, known, sensor, slices)
    given: dict[str, Any] = {"sensor": sensor, "slices": slices}
    for name in [name for name, value in given.items() if value is not None]:
        raise InputError(f"{name} has no effect on a network that takes pictures")
    is_stored = known is not None and known.native_size is not None
    return PictureInputs(files_below(paths, False), preprocessing, is_stored)
