"""Options of the work on data sets themselves: check, show, download, make recordings. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mst.data.events.cameras import Camera
from mst.data.unreadable import BadImages
from mst.errors import InputError

RecordingFormat = Literal["dat", "npz", "bin", "aedat3"]
"""File formats in which recordings are made."""


@dataclass(frozen=True)
class DatasetCheckOptions:
    """A data set to open and count."""

    dataset: str
    """Name of a data set; folder:PATH for your own images, events:PATH for your own recordings."""

    data_path: Path | None = None
    """Folder with the data set's files; without it the usual places are searched."""

    decode: bool = False
    """Read every image or recording, and name those that are damaged."""

    sensor: tuple[int, int] | None = None
    """HEIGHT,WIDTH in pixels, for recordings of events:PATH whose files do not state it."""

    camera: Camera | None = None
    """Camera of AEDAT 2.0 files of events:PATH that do not state it: dvs128, davis240, davis346 or davis640."""


@dataclass(frozen=True)
class RecordingOptions:
    """One recording of an event camera.

    Raises:
        InputError: an index below 0.
    """

    recording: str
    """Name of an event data set, or the file of a recording."""

    data_path: Path | None = None
    """Folder with the data set's files; without it the usual places are searched."""

    index: int = 0
    """Number of the test recording of the data set, from 0."""

    sensor: tuple[int, int] | None = None
    """HEIGHT,WIDTH in pixels, for files that do not state it."""

    camera: Camera | None = None
    """Camera of AEDAT 2.0 files that do not state it: dvs128, davis240, davis346 or davis640."""

    def __post_init__(self) -> None:
        if self.index < 0:
            raise InputError(f"index must be at least 0, got {self.index}")


@dataclass(frozen=True)
class DownloadOptions:
    """A data set to download."""

    dataset: str
    """Name of an event data set that tonic can download."""

    data_path: Path = Path("data")
    """Folder into which the files are unpacked."""


@dataclass(frozen=True)
class RecordingsOptions:
    """Recordings to make of images, as a simulated event camera sees them.

    Raises:
        InputError: an unknown file format, or output inside the folder of the images.
    """

    folder: Path
    """Folder of images: one folder per class, or train/ and val/ with one folder per class in each."""

    output: Path = Path("runs/events")
    """Folder for the recordings."""

    sensor: tuple[int, int] = (64, 64)
    """HEIGHT,WIDTH of the simulated camera, in pixels."""

    file_format: RecordingFormat = "dat"
    """Format of the files; dat and npz state the sensor's size."""

    on_bad_image: BadImages = "fail"
    """Action at an image that cannot be read: fail, or skip it and report it."""

    def __post_init__(self) -> None:
        if self.file_format not in get_args(RecordingFormat):
            raise InputError(
                f"file_format must be one of {', '.join(get_args(RecordingFormat))}, got {self.file_format!r}"
            )
        if self.output.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"--output must lie outside the folder of the images, {self.folder}")
