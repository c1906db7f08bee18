"""Streams of events as an event camera sends them, and the checks that a stream must pass.

Letters: N events of a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst.errors import InputError

from ..unreadable import SKIP_RECORDINGS, UnreadableEventsError

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""One event: time in microseconds; column and row in pixels from the top left corner; polarity, 1 where it became
brighter and 0 where it became darker."""

Events = NDArray[np.void]
"""[N] of `EVENT`, in the order of time."""


MAX_DURATION_US = 2**40
"""Twelve days; a recording that claims to be longer is damaged."""


@dataclass(frozen=True)
class Sensor:
    """The pixels of an event camera.

    Raises:
        InputError: a side that is not a whole number from 1 to 65,536.
    """

    height: int
    """Rows."""

    width: int
    """Columns."""

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            if not isinstance(side, int) or not 1 <= side <= 2**16:
                raise InputError(f"a sensor has 1 to 65,536 pixels per side, got {self.height} x {self.width}")

    def __str__(self) -> str:
        return f"{self.height} x {self.width} px"


@dataclass(frozen=True)
class Recording:
    """Content of a recording's file, unchecked."""

    events: Events
    """The events in the file's order."""

    sensor: Sensor | None = None
    """The sensor, if the file states it."""

    offset_of: Callable[[int], int] | None = None
    """Index of an event -> its offset in bytes; None for compressed files."""

    num_left_out: int = 0
    """Entries of the file that are not events of light: triggers, frames, events marked invalid."""


def make_events(t: Any, x: Any, y: Any, p: Any) -> Events:
    """Four columns of equal length -> [N] of `EVENT`.

    Args:
        t: microseconds.
        x, y: pixels, 0 to 65,535.
        p: 0 or 1.
    """
    events: Events = np.empty(len(t), EVENT)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def sound_events(recording: Recording, sensor: Sensor, name: Path | str, drop_bad: bool = False) -> tuple[Events, int]:
    """The events of a recording, after each of them has been checked.

    Args:
        recording: content of its file.
        sensor: the pixels; an event outside is bad.
        name: of the file, for errors.
        drop_bad: leave out events outside the sensor and events whose time runs backwards (earlier than one before
            them), instead of refusing the recording. A recording of which less than half would be left is refused even
            then.

    Returns:
        The events, and how many were left out.

    Raises:
        UnreadableEventsError: a bad event and drop_bad is off; or no event at all.
    """
    events = recording.events
    early = events["t"] < 0
    if early.any():
        at = int(early.argmax())
        raise _bad(name, recording, at, f"its time is {events['t'][at]:,} µs, before 0", can_be_dropped=False)
    outside = (events["x"] >= sensor.width) | (events["y"] >= sensor.height)
    inside = events if not outside.any() else events[~outside]
    latest = np.maximum.accumulate(inside["t"]) if len(inside) else inside["t"]
    backwards = inside["t"] < latest
    if not drop_bad:
        if outside.any():
            at = int(outside.argmax())
            raise _bad(
                name, recording, at, f"x {events['x'][at]}, y {events['y'][at]} is outside the sensor of {sensor}"
            )
        if backwards.any():
            at = int(backwards.argmax())
            raise _bad(name, recording, at, f"time runs backwards, from {latest[at]:,} to {events['t'][at]:,} µs")
    kept = inside if not backwards.any() else inside[~backwards]
    if len(kept) == 0:
        raise UnreadableEventsError(name, "there are no events in it")
    if 2 * len(kept) < len(events):
        raise UnreadableEventsError(name, f"only {len(kept):,} of its {len(events):,} events are valid")
    if int(kept["t"][-1]) - int(kept["t"][0]) >= MAX_DURATION_US:
        raise UnreadableEventsError(name, f"it claims to last {(kept['t'][-1] - kept['t'][0]) / 8.64e10:,.0f} days")
    return kept, len(events) - len(kept)


def _bad(
    name: Path | str, recording: Recording, event: int, what: str, can_be_dropped: bool = True
) -> UnreadableEventsError:
    offset = recording.offset_of(event) if recording.offset_of is not None else None
    if not can_be_dropped:
        return UnreadableEventsError(name, what, offset, event)
    remedy = f"{SKIP_RECORDINGS}; a network trained with --events.drop-bad-events true leaves out only such events"
    return UnreadableEventsError(name, what, offset, event, remedy)
