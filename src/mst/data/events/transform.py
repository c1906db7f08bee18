"""From a recording to the tensor that a network sees: one frame of the whole, or one frame per slice of time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mst.errors import InputError

from ..images.preprocessing import Preprocessing
from .augment import EventAugmentConfig
from .augmentation import EventAugmentation
from .cache import FrameCache
from .representation import per_step_frames, represent
from .sources import StoredRecording
from .stream import Sensor


class EventTransform:
    """A recording -> float32 [C, height, width], or [K, C, height, width] for K slices over time.

    Frames are kept in the cache, except those of randomly changed events.

    Args:
        sensor: pixels of the recordings.
        preprocessing: what the network expects; its `events` describes the frames.
        augment: random changes; None for evaluation.
        cache: keeps the frames.
        num_slices: K; slice k holds the k-th of K equal parts of the recording, with its counts times K, so that the
            mean over the slices is the one frame of the whole. None: that frame.

    Raises:
        InputError: slices of a representation that has time bins of its own; changes that need tonic.
    """

    def __init__(
        self,
        sensor: Sensor,
        preprocessing: Preprocessing,
        augment: EventAugmentConfig | None,
        cache: FrameCache,
        num_slices: int | None = None,
    ) -> None:
        assert preprocessing.events is not None
        self.sensor = sensor
        self.how = preprocessing.events
        self.size = preprocessing.size
        self.cache = cache
        self.num_slices = num_slices
        if num_slices is not None and (self.how.kind, self.how.num_bins) != ("frames", 1):
            raise InputError(
                f"a network that sees {self.how.num_bins} time bins as channels ({self.how.kind}) cannot see slices "
                "over time",
                remedy="train one with --events.num-bins 1",
            )
        if num_slices is not None and (not isinstance(num_slices, int) or num_slices < 1):
            raise InputError(f"slices must be a whole number, at least 1, got {num_slices}")
        changes = augment is not None and augment.changes_anything
        self._augmentation = EventAugmentation(augment, sensor) if augment is not None and changes else None
        self._std = torch.tensor(preprocessing.std)[:, None, None]
        self._mean = torch.tensor(preprocessing.mean)[:, None, None]

    def __call__(self, recording: StoredRecording) -> Tensor:
        """Transform one recording, see the class.

        Raises:
            UnreadableEventsError: it is damaged.
        """
        if self._augmentation is not None:
            events, share = self._augmentation(recording.events(self.how.drop_bad_events))
            frames = represent(events, self.sensor, self.how, self.size)
            return self._normalised(frames, 1.0 / share)
        if self.num_slices is not None:
            frames = self.cache.get(
                (recording.digest(), self.sensor, self.how, self.size, "slices", self.num_slices),
                lambda: per_step_frames(
                    recording.events(self.how.drop_bad_events), self.sensor, self.how, self.size, self._slices()
                ),
            )
            return self._normalised(frames, float(self.num_slices))
        frames = self.cache.get(
            (recording.digest(), self.sensor, self.how, self.size),
            lambda: represent(recording.events(self.how.drop_bad_events), self.sensor, self.how, self.size),
        )
        return self._normalised(frames, 1.0)

    def _slices(self) -> int:
        assert self.num_slices is not None
        return self.num_slices

    def _normalised(self, frames: np.ndarray, factor: float) -> Tensor:
        scaled = torch.from_numpy(frames.astype(np.float32)).mul_(factor)
        return scaled.sub_(self._mean).div_(self._std)
