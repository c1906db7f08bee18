"""Where the recordings of a split come from: files, or pictures seen by a simulated camera."""

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

from .cache import FrameCache, content_digest
from .camera import SimulatedCamera
from .formats import read_events
from .stream import Events, Sensor, UnreadableEventsError, sound_events

logger = logging.getLogger(__name__)


@runtime_checkable
class StoredRecording(Protocol):
    """A recording that is read when its events are asked for."""

    @property
    def name(self) -> str:
        """As a person would find it."""

    def digest(self) -> str:
        """Identifies its content."""

    def events(self, drop_bad: bool = False) -> Events:
        """Its events.

        Raises:
            UnreadableEventsError: it is damaged.
        """


@dataclass(frozen=True)
class EventFile:
    """A recording in a file.

    format: a key of `EVENT_FORMATS`.  sensor: no event may lie outside.  span: first and last time in µs of the part
    meant (None: all of it).  checks_sensor: whether a file that states another sensor is refused.
    """

    path: Path
    format: str
    sensor: Sensor
    span: tuple[int, int] | None = None
    checks_sensor: bool = False

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path) if self.span is None else f"{self.path} from {self.span[0]:,} to {self.span[1]:,} µs"

    def digest(self) -> str:
        """Of the whole file, its kind, and the part that is meant."""
        try:
            return content_digest(self.path.read_bytes(), self.format, self.sensor, self.span)
        except OSError as error:
            raise UnreadableEventsError(self.path, error.strerror or str(error)) from error

    def events(self, drop_bad: bool = False) -> Events:
        """See `sound_events`."""
        try:
            recording = read_events(self.path, self.format)
        except OSError as error:
            raise UnreadableEventsError(self.path, error.strerror or str(error)) from error
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
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[EventFile, int]:
        """A recording and its label."""
        return self.files[index], self.labels[index]

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed what identifies this split into `digest`."""
        for file, label in zip(self.files, self.labels, strict=True):
            where = "/".join(file.path.parts[-2:])  # wherever the data set lies
            digest.update(f"{where} {file.path.stat().st_size} {file.span} {label}\n".encode())


@dataclass(frozen=True)
class SeenPicture:
    """A picture as a simulated camera sees it. Its events are kept in the cache, for they take time to make."""

    name: str
    picture: np.ndarray
    camera: SimulatedCamera
    cache: FrameCache

    def digest(self) -> str:
        """Of the picture and the camera."""
        return self.camera.digest(self.picture)

    def events(self, drop_bad: bool = False) -> Events:
        """What the camera sends; never bad."""
        del drop_bad
        return self.cache.get((self.digest(), "events"), lambda: self.camera.record(self.picture))


@dataclass(frozen=True)
class SeenPictures:
    """Pictures uint8 [N, h, w] with labels int64 [N], seen by a simulated camera."""

    title: str
    pictures: Tensor
    labels: Tensor
    camera: SimulatedCamera
    cache: FrameCache

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


def read_sound_events(path: Path, sensor: tuple[int, int] | None = None) -> tuple[Events, Sensor]:
    """The events of one file, with the sensor that they lie on.

    Args:
        path: the file; its suffix says which format it is.
        sensor: (height, width); None takes what the file states, or else what its events reach.

    Raises:
        UnreadableEventsError: it is damaged.
        ValueError: an unknown suffix.
        OSError: it cannot be opened.
    """
    recording = read_events(path)
    if sensor is not None:
        pixels = Sensor(*sensor)
    elif recording.sensor is not None:
        pixels = recording.sensor
    else:
        reached = (int(recording.events[side].max(initial=0)) + 1 for side in ("y", "x"))
        pixels = Sensor(*reached)
    return sound_events(recording, pixels, path)[0], pixels
