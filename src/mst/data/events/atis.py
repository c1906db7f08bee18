"""Recordings of ATIS cameras: Prophesee's .dat (N-Cars) and the 5-byte events of N-MNIST and N-Caltech101 (.bin).

.dat, version 2: header lines that begin with %, two bytes (event type, event size 8), then little-endian events of
uint32 time in µs and uint32 with x in bits 0-13, y in bits 14-27 and the polarity in bit 28.
.bin: big-endian events of 40 bits: x (8), y (8), polarity (1), time in µs (23). An event with y = 240 is not an
event of light: the clock overflowed, and all later times are 2¹³ µs later.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mst.errors import InputError

from ..unreadable import UnreadableEventsError
from .stream import Events, Recording, Sensor, make_events

DAT_EVENT_TYPES = (0, 12)
"""Types of 2-D change events: that of N-Cars, and that of newer cameras (CD)."""

_DAT_EVENT = np.dtype([("t", "<u4"), ("address", "<u4")])
_X_BITS, _Y_SHIFT, _P_SHIFT = 0x3FFF, 14, 28

BIN_EVENT_BYTES = 5
BIN_OVERFLOW_ROW = 240
BIN_OVERFLOW_US = 2**13
_BIN_MAX_TIME = 2**23 - 1


def read_dat(path: Path) -> Recording:
    """Read a .dat file.

    Raises:
        UnreadableEventsError: the file is empty, truncated, of another version or of another kind.
    """
    content = path.read_bytes()
    if not content:
        raise UnreadableEventsError(path, "the file is empty")
    start = 0
    while content[start : start + 1] == b"%":
        end = content.find(b"\n", start)
        if end < 0:
            raise UnreadableEventsError(path, "the header does not end", start)
        start = end + 1
    if start == 0:
        raise UnreadableEventsError(path, f"not a .dat file of events: it begins with {content[:4].hex()}, not %", 0)
    header = content[:start].decode("latin-1")
    version = re.search(r"^% *Version +(\d+)", header, re.MULTILINE)
    if version is None or version[1] != "2":
        stated = f"version {version[1]}" if version else "no version"
        raise UnreadableEventsError(path, f"the header states {stated}; mst reads .dat files of version 2", 0)
    if len(content) < start + 2:
        raise UnreadableEventsError(path, "the file ends before its first event", len(content))
    kind, size = content[start], content[start + 1]
    if kind not in DAT_EVENT_TYPES or size != _DAT_EVENT.itemsize:
        raise UnreadableEventsError(
            path, f"events of type {kind} with {size} bytes; change events have type 0 or 12 and 8 bytes", start
        )
    start += 2
    _whole_events(path, content, start, _DAT_EVENT.itemsize)
    raw = np.frombuffer(content, _DAT_EVENT, offset=start)
    address = raw["address"]
    stray = address >> (_P_SHIFT + 1) != 0
    if stray.any():
        at = int(stray.argmax())
        raise UnreadableEventsError(
            path, f"bits 29 to 31 of address {address[at]:#010x} are set, which events do not have", start + 8 * at, at
        )
    sides = [re.search(rf"^% *{side} +(\d+)", header, re.MULTILINE) for side in ("Height", "Width")]
    try:
        sensor = Sensor(*(int(found[1][:9]) for found in sides if found)) if all(sides) else None
    except InputError as error:
        raise UnreadableEventsError(path, f"its header is damaged: {error.what}", 0) from error
    events = make_events(raw["t"], address & _X_BITS, (address >> _Y_SHIFT) & _X_BITS, address >> _P_SHIFT)
    return Recording(events, sensor, lambda event: start + 8 * event)


def write_dat(path: Path, events: Events, sensor: Sensor) -> None:
    """Write a .dat file, version 2, type 12, with the sensor's size in its header.

    Raises:
        InputError: a time that does not fit into 32 bits, or a coordinate into 14.
        OSError: it cannot be written.
    """
    _check_fit(events, 2**32 - 1, _X_BITS, "a .dat file")
    raw = np.empty(len(events), _DAT_EVENT)
    raw["t"] = events["t"]
    raw["address"] = (
        events["x"].astype(np.uint32)
        | events["y"].astype(np.uint32) << _Y_SHIFT
        | events["p"].astype(np.uint32) << _P_SHIFT
    )
    header = f"% Data file containing CD events.\n% Version 2\n% Height {sensor.height}\n% Width {sensor.width}\n"
    path.write_bytes(header.encode() + bytes([12, _DAT_EVENT.itemsize]) + raw.tobytes())


def read_bin(path: Path) -> Recording:
    """Read a .bin file of N-MNIST or N-Caltech101. It has no header; a file of another kind shows only by its length
    and by events that are not valid.

    Raises:
        UnreadableEventsError: it is empty or truncated.
    """
    content = path.read_bytes()
    if not content:
        raise UnreadableEventsError(path, "the file is empty")
    _whole_events(path, content, 0, BIN_EVENT_BYTES)
    raw = np.frombuffer(content, np.uint8).reshape(-1, BIN_EVENT_BYTES).astype(np.int64)
    overflow = raw[:, 1] == BIN_OVERFLOW_ROW
    t = (raw[:, 2] & 0x7F) << 16 | raw[:, 3] << 8 | raw[:, 4]
    t += BIN_OVERFLOW_US * np.cumsum(overflow)
    places = np.flatnonzero(~overflow)
    events = make_events(t[places], raw[places, 0], raw[places, 1], raw[places, 2] >> 7)
    return Recording(events, None, lambda event: BIN_EVENT_BYTES * int(places[event]), int(overflow.sum()))


def write_bin(path: Path, events: Events, sensor: Sensor) -> None:
    """Write a .bin file of 5-byte events.

    Raises:
        InputError: a time that does not fit into 23 bits, a coordinate above 255, or row 240, which means overflow.
        OSError: it cannot be written.
    """
    del sensor  # the format has no place for it
    _check_fit(events, _BIN_MAX_TIME, 255, "a .bin file")
    if (events["y"] == BIN_OVERFLOW_ROW).any():
        raise InputError(f"row {BIN_OVERFLOW_ROW} cannot be written to a .bin file, where it marks an overflow")
    t = events["t"]
    raw = np.empty((len(events), BIN_EVENT_BYTES), np.uint8)
    raw[:, 0], raw[:, 1] = events["x"], events["y"]
    raw[:, 2] = events["p"].astype(np.uint8) << 7 | (t >> 16 & 0x7F).astype(np.uint8)
    raw[:, 3], raw[:, 4] = t >> 8 & 0xFF, t & 0xFF
    path.write_bytes(raw.tobytes())


def _whole_events(path: Path, content: bytes, start: int, size: int) -> None:
    """Check that whole events follow the header, and at least one."""
    number, rest = divmod(len(content) - start, size)
    if rest:
        raise UnreadableEventsError(
            path, f"the file ends inside an event, {size - rest} of whose {size} bytes are missing",
            start + number * size, number,
        )  # fmt: skip
    if number == 0:
        raise UnreadableEventsError(path, "there are no events after the header", start)


def _check_fit(events: Events, max_time: int, max_coordinate: int, where: str) -> None:
    """Check that times and coordinates can be written."""
    if len(events) and (int(events["t"].min()) < 0 or int(events["t"].max()) > max_time):
        raise InputError(
            f"{where} holds times from 0 to {max_time:,} µs, got {events['t'].min()} to {events['t'].max()}"
        )
    if len(events) and max(int(events["x"].max()), int(events["y"].max())) > max_coordinate:
        raise InputError(f"{where} holds coordinates up to {max_coordinate}")
