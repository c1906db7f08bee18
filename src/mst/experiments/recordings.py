"""Recordings of event cameras: one of a data set or a file, and those that a simulated camera makes of images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mst.data import (
    EVENT_FORMATS,
    CameraConfig,
    DataSplits,
    EventRepresentation,
    Events,
    Sensor,
    SimulatedCamera,
    StoredRecording,
    UnreadableSampleError,
    load_dataset,
    open_image_files,
    read_sound_events,
    write_events,
)
from mst.errors import FileConflictError, InputError
from mst.files import prepare_folder, write_json
from mst.progress import ProgressCallback, Stage
from mst.text import note

from .dataset_options import RecordingOptions, RecordingsOptions

CAMERA_FILE = "camera.json"
"""Description of the simulated camera, in the folder of the recordings."""


@dataclass(frozen=True)
class OpenedRecording:
    """One recording."""

    events: Events
    """[N] of `EVENT`, in the order of time."""

    sensor: Sensor
    """Pixels of the camera."""

    title: str
    """Name for people."""


@dataclass(frozen=True)
class MadeRecordings:
    """Recordings that were made of images."""

    num_recordings: int
    """Recordings written."""

    num_events: int
    """Events in all of them."""

    num_skipped: int
    """Images that could not be read."""

    sensor: Sensor
    """Pixels of the simulated camera."""

    output: Path
    """Folder of the recordings; load_dataset opens it as events:OUTPUT."""

    states_sensor: bool
    """True if the files state the sensor; otherwise `EventRepresentation.sensor` must."""


def open_recording(options: RecordingOptions) -> OpenedRecording:
    """Open one recording: a file, or a test recording of a data set.

    Raises:
        InputError: a data set of images, an index beyond its recordings, an option without effect, or a damaged file.
        MissingFileError: the files are not there.
    """
    path = Path(options.recording)
    if path.is_file():
        if options.data_path is not None or options.index:
            raise InputError(f"data_path and index have no effect on {path}, which is a file with one recording")
        return OpenedRecording(*read_sound_events(path, options.sensor, options.camera), path.name)
    events = EventRepresentation(sensor=options.sensor, camera=options.camera)
    splits = load_dataset(options.recording, options.data_path, events=events)
    if splits.info.sensor is None:
        raise InputError(f"{options.recording} holds images, not recordings of an event camera")
    if options.index >= len(splits.test):
        raise InputError(
            f"index must be from 0 to {len(splits.test) - 1} for the test recordings of {options.recording}, "
            f"got {options.index}"
        )
    return _test_recording(splits, options.index)


def first_recording(splits: DataSplits) -> OpenedRecording | None:
    """The first test recording that can be read; None for a data set of images, or if none can be read."""
    for index in range(len(splits.test) if splits.info.sensor is not None else 0):
        try:
            return _test_recording(splits, index)
        except UnreadableSampleError:
            continue
    return None


def _test_recording(splits: DataSplits, index: int) -> OpenedRecording:
    recording, label = splits.test.raw.read(index)
    assert isinstance(recording, StoredRecording)
    assert splits.info.sensor is not None
    names = splits.info.class_names
    title = f"{splits.info.name}, test recording {index}, {names[label] if names else label}"
    how = splits.preprocessing.events
    events = recording.events(how is not None and how.drop_bad_events)
    return OpenedRecording(events, splits.info.sensor, title)


def make_recordings(options: RecordingsOptions, *, progress: ProgressCallback | None = None) -> MadeRecordings:
    """Write the events that a simulated camera sees of each image, one file each, in the images' splits and classes.

    A run that was interrupted may be repeated: the same images always give the same files.

    Args:
        options: images, camera and output.
        progress: called after every image.

    Raises:
        MissingFileError: no such folder of images.
        InputError: as `open_image_files`; an image that cannot be read and may not be skipped.
        FileConflictError: the output folder holds other files, or recordings that were made otherwise.
        OSError: a file cannot be written.
    """
    if not (options.output / CAMERA_FILE).is_file() and options.output.is_dir() and any(options.output.iterdir()):
        raise FileConflictError(f"{options.output} holds other files", remedy="choose a new folder for the recordings")
    opened = open_image_files(options.folder, in_chans=1)
    config = CameraConfig(*options.sensor)
    _write_description(options, config, len(opened.train), len(opened.test))
    camera = _FittingCamera(config)
    made = skipped = num_events = 0
    stage = Stage(progress, "simulating the camera", len(opened.train) + len(opened.test), "images")
    for part, split in (("train", opened.train), ("test", opened.test)):
        for index in range(len(split)):
            try:
                picture, label = split.read(index)
            except UnreadableSampleError as error:
                if options.on_bad_image == "fail":
                    raise
                note(f"skipped: {error.problem}")
                skipped += 1
            else:
                events = camera.record(picture)
                suffix = EVENT_FORMATS[options.file_format].suffixes[0]
                name = f"{index:06d}-{Path(split.name(index)).stem}{suffix}"
                path = options.output / part / opened.class_names[label] / name
                write_events(path, events, config.sensor, options.file_format)
                made, num_events = made + 1, num_events + len(events)
            stage.advance()
    states_sensor = EVENT_FORMATS[options.file_format].states_sensor
    return MadeRecordings(made, num_events, skipped, config.sensor, options.output, states_sensor)


def _write_description(options: RecordingsOptions, config: CameraConfig, num_train: int, num_test: int) -> None:
    """Write camera.json, or check that the recordings already there were made in the same way."""
    path = prepare_folder(options.output) / CAMERA_FILE
    description = {
        "simulated": True, "images": str(options.folder), "num_train": num_train, "num_test": num_test,
        "format": options.file_format, "camera": asdict(config),
    }  # fmt: skip
    if path.is_file() and _read_json(path) != json.loads(json.dumps(description)):
        raise FileConflictError(
            f"{options.output} holds recordings made otherwise ({path.name})", remedy="choose a new folder"
        )
    write_json(path, description)


def _read_json(path: Path) -> Any:
    """Content of a JSON file; None if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


class _FittingCamera:
    """A simulated camera for pictures of any size; large ones are first reduced, which saves time."""

    def __init__(self, config: CameraConfig) -> None:
        self.config = config
        self.cameras: dict[tuple[int, ...], SimulatedCamera] = {}

    def record(self, picture: Image.Image) -> Events:
        largest = 2 * max(self.config.height, self.config.width)
        if max(picture.size) > largest:
            picture.thumbnail((largest, largest), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture, np.uint8)
        if pixels.shape not in self.cameras:
            self.cameras[pixels.shape] = SimulatedCamera(self.config, pixels.shape)
        return self.cameras[pixels.shape].record(pixels)
