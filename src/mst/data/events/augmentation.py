"""Random changes of a recording before it becomes frames: those of tonic, and some of mst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mst.errors import InputError
from mst.extras import install_command

from .augment import EventAugmentConfig
from .stream import Events, Sensor


class EventAugmentation:
    """Events of a recording -> changed events, and the share of its duration that they stand for.

    All randomness follows from torch's generator.

    Args:
        config: what to change.
        sensor: changed events that lie outside are removed.

    Raises:
        InputError: an option needs tonic, which is not installed.
    """

    def __init__(self, config: EventAugmentConfig, sensor: Sensor) -> None:
        self.config = config
        self.sensor = sensor
        self._steps = _tonic_steps(config, sensor)

    def __call__(self, events: Events) -> tuple[Events, float]:
        """[N] -> ([M], share of the duration). If no event would be left, the recording stays as it was."""
        events, share = self._window(events)
        changed = events.astype(_SIGNED)
        start = changed["t"][0]
        changed["t"] -= start  # tonic assumes that a recording begins at 0
        if self._steps:
            kept = np.random.get_state()  # noqa: NPY002 (tonic draws from numpy's global generator)
            try:
                np.random.seed(int(torch.randint(2**32, (1,))))  # noqa: NPY002
                for step in self._steps:
                    changed = step(changed) if len(changed) else changed
            finally:
                np.random.set_state(kept)  # noqa: NPY002
        if self.config.spatial_jitter:
            moves = torch.randn(2, len(changed)).mul_(self.config.spatial_jitter**0.5).round_().to(torch.int32).numpy()
            changed["y"] += moves[0]
            changed["x"] += moves[1]
        if self.config.shift:
            down, right = torch.randint(-self.config.shift, self.config.shift + 1, (2,)).tolist()
            changed["y"] += down
            changed["x"] += right
        inside = (
            (changed["x"] >= 0) & (changed["x"] < self.sensor.width)
            & (changed["y"] >= 0) & (changed["y"] < self.sensor.height)
        )  # fmt: skip
        changed = changed[inside]
        changed = changed[np.argsort(changed["t"], kind="stable")]
        changed["t"] += start
        return (changed.astype(events.dtype), share) if len(changed) else (events, share)

    def _window(self, events: Events) -> tuple[Events, float]:
        """The events of a random stretch of time."""
        if self.config.time_window == 1.0:
            return events, 1.0
        drawn, at = torch.rand(2, dtype=torch.float64).tolist()
        share = self.config.time_window**drawn
        duration = int(events["t"][-1] - events["t"][0]) + 1
        start = events["t"][0] + at * (1.0 - share) * duration
        first, end = np.searchsorted(events["t"], [start, start + share * duration])
        return (events[first:end], share) if end > first else (events, 1.0)


_SIGNED = np.dtype([("t", "<i8"), ("x", "<i4"), ("y", "<i4"), ("p", "<i4")])
"""Room for coordinates that leave the sensor."""


def _tonic_steps(config: EventAugmentConfig, sensor: Sensor) -> list[Callable[[Any], Any]]:
    if not config.needs_tonic:
        return []
    try:
        from tonic import transforms
    except ImportError as error:
        raise InputError(
            "these changes of events are carried out by tonic, which is not installed",
            where=", ".join(config.needs_tonic),
            remedy=install_command("events"),
        ) from error
    size = (sensor.width, sensor.height, 2)
    steps: dict[str, Callable[[], Any]] = {
        "horizontal_flip": lambda: transforms.RandomFlipLR(size, 0.5),
        "polarity_flip": lambda: transforms.RandomFlipPolarity(config.polarity_flip),
        "time_reversal": lambda: transforms.RandomTimeReversal(config.time_reversal),
        "event_drop": lambda: transforms.EventDrop(size),
        "time_jitter_us": lambda: transforms.TimeJitter(config.time_jitter_us, clip_negative=False),
        "noise_events": lambda: transforms.UniformNoise(size, config.noise_events),
    }
    return [steps[name]() for name in config.needs_tonic]
