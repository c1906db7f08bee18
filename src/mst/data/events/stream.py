"""What an event camera gives: a stream of events, and what makes a stream sound.

Letters: N events of a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""One event: time in microseconds; column and row in pixels from the top left corner; polarity, 1 where it became
brighter and 0 where it became darker."""

Events = NDArray[np.void]
"""[N] of `EVENT`, in the order of time."""


class UnreadableSampleError(ValueError):
    """A sample of a data set cannot be read: a damaged file, or one of another kind."""


class UnreadableEventsError(UnreadableSampleError):
    """A recording is damaged, or no recording. Names the file and, where there is one, the offset in bytes."""

    def __init__(self, path: Path | str, what: str, offset: int | None = None, event: int | None = None) -> None:
        at = f", byte {offset:,}" if offset is not None else ""
        of = f" (event {event:,})" if event is not None else ""
        super().__init__(
            f"{path}{at}{of}: {what}; replace or remove the file, or leave out such recordings with --on-bad-image skip"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """How it travels from a worker process: as its text."""
        return _error_of_text, (str(self),)


def _error_of_text(text: str) -> UnreadableEventsError:
    error = UnreadableEventsError.__new__(UnreadableEventsError)
    error.args = (text,)
    return error


MAX_DURATION_US = 2**40
"""Twelve days; a recording that says it is longer is damaged."""


@dataclass(frozen=True)
class Sensor:
    """The pixels of an event camera.

    Raises:
        ValueError: a side that is no whole number from 1 to 65,536.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            if not isinstance(side, int) or not 1 <= side <= 2**16:
                raise ValueError(f"a sensor has 1 to 65,536 pixels a side, got {self.height} x {self.width}")

    def __str__(self) -> str:
        return f"{self.height} x {self.width} px"


@dataclass(frozen=True)
class Recording:
    """What a reader found in a file.

    events: as they lie there, in the file's order.  sensor: if the file tells.
    offset_of: index of an event -> offset in bytes; None for compressed files.
    num_left_out: events of the file that are none of light (triggers, frames, marked invalid).
    """

    events: Events
    sensor: Sensor | None = None
    offset_of: Callable[[int], int] | None = None
    num_left_out: int = 0


def make_events(t: Any, x: Any, y: Any, p: Any) -> Events:
    """Four columns of equal length -> [N] of `EVENT`.

    Args:
        t: microseconds.  x, y: pixels, 0 to 65,535.  p: 0 or 1.
    """
    events: Events = np.empty(len(t), EVENT)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def sound_events(recording: Recording, sensor: Sensor, name: Path | str, drop_bad: bool = False) -> tuple[Events, int]:
    """The events of a recording, after a look at each of them.

    Args:
        recording: what was read.
        sensor: no event may lie outside it.
        name: of the file, for errors.
        drop_bad: leave out events outside the sensor and events whose time runs backwards (earlier than one before
            them), instead of refusing the recording; a recording of which less than half is left is refused even so.

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
        raise UnreadableEventsError(name, f"only {len(kept):,} of its {len(events):,} events make sense")
    if int(kept["t"][-1]) - int(kept["t"][0]) >= MAX_DURATION_US:
        raise UnreadableEventsError(name, f"it says that it lasts {(kept['t'][-1] - kept['t'][0]) / 8.64e10:,.0f} days")
    return kept, len(events) - len(kept)


def _bad(
    name: Path | str, recording: Recording, event: int, what: str, can_be_dropped: bool = True
) -> UnreadableEventsError:
    offset = recording.offset_of(event) if recording.offset_of is not None else None
    remedy = " (a network trained with --events.drop-bad-events true is shown the others)" if can_be_dropped else ""
    return UnreadableEventsError(name, f"{what}{remedy}", offset, event)
