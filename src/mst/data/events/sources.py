"""Sources of the recordings of a split: files, or pictures seen by a simulated camera."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mst.text import one_line

from ..unreadable import UnreadableEventsError
from .cache import FrameCache, content_digest
from .camera import SimulatedCamera
from .cameras import Camera
from .formats import own_format, read_events
from .stream import Events, Sensor, sound_events

logger = logging.getLogger(__name__)


@runtime_checkable
class StoredRecording(Protocol):
    """A recording that is read when its events are asked for."""

    @property
    def name(self) -> str:
        """Name, as a person would find it."""

    def digest(self) -> str:
        """Identifies its content."""

    def events(self, drop_bad: bool = False) -> Events:
        """Its events.

        Raises:
            UnreadableEventsError: it is damaged.
        """


@dataclass(frozen=True)
class EventFile:
    """A recording in a file."""

    path: Path
    """The file."""

    format: str
    """Key of `EVENT_FORMATS`."""

    sensor: Sensor
    """Pixels of the camera; an event outside is bad."""

    span: tuple[int, int] | None = None
    """First and last time in µs of the part that is the recording; None: the whole file."""

    checks_sensor: bool = False
    """Refuse a file that states another sensor."""

    @property
    def name(self) -> str:
        """Path, and the part of the file."""
        return str(self.path) if self.span is None else f"{self.path} from {self.span[0]:,} to {self.span[1]:,} µs"

    def digest(self) -> str:
        """Identifies the file's content, its kind, and the part of it."""
        try:
            return content_digest(self.path.read_bytes(), self.format, self.sensor, self.span)
        except OSError as error:
            raise UnreadableEventsError(self.path, error.strerror or one_line(error)) from error

    def events(self, drop_bad: bool = False) -> Events:
        """Its events in the order of time, checked by `sound_events`.

        Raises:
            UnreadableEventsError: the file is damaged, or drop_bad is off and an event is bad.
        """
        try:
            recording = read_events(self.path, self.format)
        except OSError as error:
            raise UnreadableEventsError(self.path, error.strerror or one_line(error)) from error
        if self.checks_sensor and recording.sensor not in (None, self.sensor):
            raise UnreadableEventsError(
                self.path, f"it states a sensor of {recording.sensor}, where the data set's is {self.sensor}"
            )
        events, dropped = sound_events(recording, self.sensor, self.path, drop_bad)
        if dropped:
            logger.warning("%s: %d of %d events left out", self.path, dropped, len(recording.events))
        if self.span is not None:
            first, end = np.searchsorted(events["t"], [self.span[0], self.span[1] + 1])
            events = events[first:end]
            if len(events) == 0:
                raise UnreadableEventsError(self.name, "there are no events in this part of it")
        return events


@dataclass(frozen=True)
class EventFiles:
    """Recordings in files, with their labels. The fingerprint covers names and sizes, not events."""

    files: Sequence[EventFile]
    """The recordings."""

    labels: Sequence[int]
    """Their labels."""

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[EventFile, int]:
        """A recording and its label."""
        return self.files[index], self.labels[index]

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed what identifies this split into `digest`."""
        for file, label in zip(self.files, self.labels, strict=True):
            where = "/".join(file.path.parts[-2:])  # independent of the folder in which the data set lies
            digest.update(f"{where} {file.path.stat().st_size} {file.span} {label}\n".encode())


@dataclass(frozen=True)
class SeenPicture:
    """A picture as a simulated camera sees it."""

    name: str
    """Name for people."""

    picture: np.ndarray
    """uint8 [h, w]."""

    camera: SimulatedCamera
    """The camera."""

    cache: FrameCache
    """Keeps the events, which take time to simulate."""

    def digest(self) -> str:
        """Identifies the picture and the camera."""
        return self.camera.digest(self.picture)

    def events(self, drop_bad: bool = False) -> Events:
        """The events that the camera sends; never bad."""
        del drop_bad
        return self.cache.get((self.digest(), "events"), lambda: self.camera.record(self.picture))


@dataclass(frozen=True)
class SeenPictures:
    """Pictures seen by a simulated camera."""

    title: str
    """Name of the split, for people."""

    pictures: Tensor
    """uint8 [N, h, w]."""

    labels: Tensor
    """int64 [N]."""

    camera: SimulatedCamera
    """The camera."""

    cache: FrameCache
    """Keeps the events."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[SeenPicture, int]:
        """A recording and its label."""
        name = f"{self.title}, picture {index}"
        return SeenPicture(name, self.pictures[index].numpy(), self.camera, self.cache), int(self.labels[index])

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed pictures, labels and camera into `digest`."""
        digest.update(self.pictures.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        digest.update(repr(self.camera.config).encode())


def as_bytes(images: Tensor) -> Tensor:
    """Pictures [N, 1, h, w], uint8 or float from 0 to 1 -> uint8 [N, h, w]."""
    flat = images[:, 0]
    return flat if flat.dtype == torch.uint8 else (flat * 255).round().to(torch.uint8)


def read_sound_events(
    path: Path, sensor: tuple[int, int] | None = None, camera: Camera | None = None
) -> tuple[Events, Sensor]:
    """The events of one file, with the sensor that they lie on.

    Args:
        path: the file; its suffix determines the format.
        sensor: (height, width); None takes the one that the file states, or the smallest that holds all events.
        camera: see `own_format`.

    Raises:
        UnreadableEventsError: the file is damaged.
        InputError: an unknown suffix.
        OSError: the file cannot be opened.
    """
    recording = read_events(path, own_format(path, camera))
    if sensor is not None:
        pixels = Sensor(*sensor)
    elif recording.sensor is not None:
        pixels = recording.sensor
    else:
        reached = (int(recording.events[side].max(initial=0)) + 1 for side in ("y", "x"))
        pixels = Sensor(*reached)
    return sound_events(recording, pixels, path)[0], pixels
