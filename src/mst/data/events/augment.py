"""Random changes of a recording before it becomes frames: those of tonic, and some of mst."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from mst.errors import InputError

from .stream import Events, Sensor

_TONIC = ("horizontal_flip", "polarity_flip", "time_reversal", "event_drop", "time_jitter_us", "noise_events")


@dataclass(frozen=True)
class EventAugmentConfig:
    """Random changes of training recordings.

    All but shift, time_window and spatial_jitter are carried out by tonic and need the extra `events`.

    Raises:
        InputError: a value out of range or of another type.
    """

    shift: int = 0
    """Move the picture by up to this many pixels each way; events that leave the sensor are lost."""

    time_window: float = 1.0
    """Smallest share of a recording's duration that is shown, in (0, 1]; the share is drawn log-uniformly and the
    counts are scaled by its inverse. A network that will see slices over time (mst simulate --slices) needs it, for
    example 0.03, because otherwise it is never trained on less than a whole recording. 1 shows all."""

    horizontal_flip: bool = False
    """Mirror each recording with probability 1/2."""

    polarity_flip: float = 0.0
    """Probability of exchanging brighter and darker, in [0, 1]."""

    time_reversal: float = 0.0
    """Probability of playing a recording backwards with polarities exchanged, in [0, 1]."""

    event_drop: bool = False
    """Leave out random events, or those of a random box or time, or none (EventDrop; Gu et al., IJCAI 2021)."""

    spatial_jitter: float = 0.0
    """Variance in px² of each event's position, rounded to whole pixels."""

    time_jitter_us: float = 0.0
    """Standard deviation of each event's time, in µs."""

    noise_events: int = 0
    """Events added at random positions and times."""

    def __post_init__(self) -> None:
        for name, kinds in (("shift", int), ("noise_events", int), ("horizontal_flip", bool), ("event_drop", bool)):
            if not isinstance(getattr(self, name), kinds):
                raise InputError(f"{name} must be of type {kinds.__name__}, got {getattr(self, name)!r}")
        if not 0.0 < self.time_window <= 1.0:
            raise InputError(f"time_window must be in (0, 1], got {self.time_window}")
        for name in ("polarity_flip", "time_reversal"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("shift", "spatial_jitter", "time_jitter_us", "noise_events"):
            if not 0 <= getattr(self, name) <= 10_000_000:
                raise InputError(f"{name} must be from 0 to 10,000,000, got {getattr(self, name)}")

    @property
    def changes_anything(self) -> bool:
        """True if any option is on."""
        return any(getattr(self, field.name) != field.default for field in fields(self))

    @property
    def needs_tonic(self) -> tuple[str, ...]:
        """The options in use that tonic carries out."""
        return tuple(name for name in _TONIC if getattr(self, name))


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
            remedy="install it with pip install masked-spiking-transformer[events]",
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
