"""Recordings in the AEDAT formats of jAER and DV.

AEDAT 2.0: header lines that begin with #, then big-endian events of uint32 address and uint32 time in µs, which may
wrap around. How an address divides depends on the camera, see `cameras`.
AEDAT 3.1 (DVS128 Gesture as first published): packets with a header of 28 bytes; little-endian polarity events of
uint32 (bit 0 valid, bit 1 polarity, y bits 2-16, x bits 17-31) and int32 time in µs, to which the packet's overflow
count adds multiples of 2³¹.
AEDAT 4 (CIFAR10-DVS as tonic serves it): compressed packets, decoded by the package aedat.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst.errors import InputError
from mst.extras import install_command
from mst.text import one_line

from ..unreadable import UnreadableEventsError
from .cameras import LAYOUTS, AddressLayout, Numbers, camera_of, shown_camera, stated_chip
from .stream import Events, Recording, Sensor, make_events

_AEDAT2_EVENT = np.dtype([("address", ">u4"), ("t", ">u4")])
_AEDAT3_EVENT = np.dtype([("data", "<u4"), ("t", "<i4")])
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY_EVENT = 1
_MAX_STREAMS = 64


def read_aedat2(path: Path, layout: AddressLayout | None) -> Recording:
    """Read an AEDAT 2.0 file.

    Args:
        layout: of the camera; None takes the camera that the header states or the addresses show.

    Raises:
        UnreadableEventsError: the file is empty, truncated, of another version or of another kind, or holds an address
            outside the camera's pixels; its camera is not known, or is another one.
    """
    content = path.read_bytes()
    start = _skip_header(path, content, "2.0")
    number, rest = divmod(len(content) - start, 8)
    if rest:
        raise UnreadableEventsError(
            path, f"the file ends inside an event, {8 - rest} of whose 8 bytes are missing", start + 8 * number, number
        )
    if number == 0:
        raise UnreadableEventsError(path, "there are no events after the header", start)
    raw = np.frombuffer(content, _AEDAT2_EVENT, offset=start)
    address = raw["address"].astype(np.int64)
    layout = _layout(path, stated_chip(content[:start]), layout, address)
    places = np.flatnonzero(layout.is_light(address))
    x, y, p = layout.unpack(address[places])
    outside = (x < 0) | (y < 0)
    if outside.any():
        at = int(outside.argmax())
        raise UnreadableEventsError(
            path, f"address {address[places[at]]:#010x} is not a pixel of a sensor of {layout.sensor}",
            start + 8 * int(places[at]), int(places[at]),
        )  # fmt: skip
    events = make_events(_unwrap(raw["t"].astype(np.uint32))[places], x, y, p)
    return Recording(events, layout.sensor, lambda event: start + 8 * int(places[event]), number - len(places))


def _layout(path: Path, chip: str, given: AddressLayout | None, address: Numbers) -> AddressLayout:
    """The layout of the addresses: of the camera stated, given or shown."""
    stated = camera_of(chip)
    if stated is not None and given is not None and given.camera != stated:
        raise UnreadableEventsError(
            path, f"its header states the camera {chip}, but it is to be read as {given.camera}"
        )
    if given is not None:
        return given
    camera = stated if chip else shown_camera(address)
    if camera is not None:
        return LAYOUTS[camera]
    what = f"its header states the camera {chip}, which is not known" if chip else "its header states no camera"
    raise UnreadableEventsError(
        path, f"{what}, and what its addresses mean depends on the camera",
        remedy=f"name it with --events.camera {'|'.join(LAYOUTS)} (mst datasets: --camera; mst.read_events: the format "
        "aedat2-CAMERA)",
    )  # fmt: skip


def write_aedat2(path: Path, events: Events, layout: AddressLayout) -> None:
    """Write an AEDAT 2.0 file.

    Raises:
        InputError: events outside the camera's sensor, or times that do not fit into 32 bits.
        OSError: it cannot be written.
    """
    if len(events) and (int(events["t"].min()) < 0 or int(events["t"].max()) >= 2**32):
        raise InputError("an AEDAT 2.0 file holds times from 0 to 4,294,967,295 µs")
    if len(events) > 1 and int(np.abs(np.diff(events["t"])).max()) >= 2**31:
        raise InputError("in an AEDAT 2.0 file a gap of 2,147,483,648 µs would be read as an overflow of the clock")
    if len(events) and (events["x"].max() >= layout.sensor.width or events["y"].max() >= layout.sensor.height):
        raise InputError(f"there are events outside the sensor of {layout.sensor}")
    raw = np.empty(len(events), _AEDAT2_EVENT)
    raw["address"] = layout.pack(*(events[name].astype(np.int64) for name in ("x", "y", "p")))
    raw["t"] = events["t"]
    chip = f"# AEChip: {layout.camera.upper()}\r\n" if layout in LAYOUTS.values() else ""  # others turn the picture
    header = f"#!AER-DAT2.0\r\n{chip}# events: big-endian uint32 address, uint32 time in us\r\n"
    path.write_bytes(header.encode() + raw.tobytes())


def read_aedat3(path: Path) -> Recording:
    """Read the polarity events of an AEDAT 3.1 file; other packets are skipped.

    Raises:
        UnreadableEventsError: the file is empty, truncated, of another version or of another kind.
    """
    content = path.read_bytes()
    at = _skip_header(path, content, "3.")
    camera = camera_of(stated_chip(content[:at]))
    sensor = None if camera is None else LAYOUTS[camera].sensor
    parts: list[Events] = []
    offsets: list[Numbers] = []
    left_out = 0
    while at < len(content):
        if at + _PACKET.size > len(content):
            raise UnreadableEventsError(path, "the file ends inside the header of a packet", at)
        kind, _, size, time_at, overflow, capacity, number, _ = _PACKET.unpack_from(content, at)
        body = at + _PACKET.size
        if kind < 0 or size < 1 or overflow < 0 or not 0 <= number <= capacity:
            raise UnreadableEventsError(path, f"a packet of {number} events with {size} bytes is not valid", at)
        if body + capacity * size > len(content):
            raise UnreadableEventsError(path, f"the file ends inside a packet of {capacity:,} events", at)
        if kind == _POLARITY_EVENT:
            if size != _AEDAT3_EVENT.itemsize or time_at != 4:
                raise UnreadableEventsError(path, f"polarity events of {size} bytes; they have 8", at)
            raw = np.frombuffer(content, _AEDAT3_EVENT, number, body)
            valid = np.flatnonzero(raw["data"] & 1)
            data = raw["data"][valid].astype(np.int64)
            t = raw["t"][valid].astype(np.int64) + (overflow << 31)
            parts.append(make_events(t, data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, data >> 1 & 1))
            offsets.append(body + 8 * valid)
            left_out += number - len(valid)
        else:
            left_out += number
        at = body + capacity * size
    if not parts:
        raise UnreadableEventsError(path, "there are no events of light in it")
    places = np.concatenate(offsets)
    return Recording(np.concatenate(parts), sensor, lambda event: int(places[event]), left_out)


def write_aedat3(path: Path, events: Events, events_per_packet: int = 4096) -> None:
    """Write an AEDAT 3.1 file of polarity events.

    Raises:
        InputError: a coordinate or a time that does not fit.
        OSError: it cannot be written.
    """
    if len(events) and (events["x"].max() > 0x7FFF or events["y"].max() > 0x7FFF):
        raise InputError("an AEDAT 3.1 file holds coordinates up to 32,767")
    if len(events) and (int(events["t"].min()) < 0 or int(events["t"].max()) >= 2**62):
        raise InputError("an AEDAT 3.1 file holds times from 0 to 2⁶² - 1 µs")
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"]
    overflows = events["t"] >> 31
    for overflow in np.unique(overflows):
        same = events[overflows == overflow]
        for first in range(0, len(same), events_per_packet):
            part = same[first : first + events_per_packet]
            raw = np.empty(len(part), _AEDAT3_EVENT)
            x, y, p = (part[name].astype(np.uint32) for name in ("x", "y", "p"))
            raw["data"] = x << 17 | y << 2 | p << 1 | 1
            raw["t"] = part["t"] & 0x7FFFFFFF
            number = len(part)
            parts += [_PACKET.pack(_POLARITY_EVENT, 0, 8, 4, int(overflow), number, number, number), raw.tobytes()]
    path.write_bytes(b"".join(parts))


def read_aedat4(path: Path) -> Recording:
    """Read the events of an AEDAT 4 file, with the package aedat.

    Raises:
        UnreadableEventsError: it cannot be decoded, or does not hold a stream of events.
        InputError: the package is not installed.
    """
    try:
        import aedat
    except ImportError as error:
        raise InputError(
            "AEDAT 4 files need the package aedat",
            remedy=install_command("events"),
        ) from error
    _check_aedat4(path)
    parts: list[Events] = []
    sensor = None
    try:
        decoder = aedat.Decoder(str(path))
        streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        if not streams:
            raise UnreadableEventsError(path, "there is no stream of events in it")
        first = min(streams)
        sensor = Sensor(int(streams[first]["height"]), int(streams[first]["width"]))
        for packet in decoder:
            if packet["stream_id"] == first:
                columns = packet["events"]
                parts.append(make_events(columns["t"], columns["x"], columns["y"], columns["on"]))
    except (UnreadableEventsError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder raises bare exceptions, and its panics are not Exceptions
        raise UnreadableEventsError(path, f"it cannot be decoded as AEDAT 4 ({one_line(error)})") from error
    if not parts:
        raise UnreadableEventsError(path, "there are no events in it")
    return Recording(np.concatenate(parts), sensor)


def _check_aedat4(path: Path) -> None:
    """Check that the header is complete and its description is XML; otherwise the decoder would end the process."""
    content = path.read_bytes()
    if not content:
        raise UnreadableEventsError(path, "the file is empty")
    start = content.find(b"\r\n") + 2
    size = int.from_bytes(content[start : start + 4], "little")
    header = content[start + 4 : start + 4 + size]
    if len(header) < size or size < 16:
        raise UnreadableEventsError(path, f"it cannot be decoded as AEDAT 4 (a header of {size:,} bytes)", start)
    first, last = header.find(b"<"), header.rfind(b">")
    try:
        ElementTree.fromstring(header[first : last + 1].decode("utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UnreadableEventsError(
            path, f"it cannot be decoded as AEDAT 4 (its description: {one_line(error)})", start
        ) from error
    at = start + 4 + size
    while at + 8 <= len(content):
        stream, length = struct.unpack_from("<ii", content, at)
        if not 0 <= stream < _MAX_STREAMS or length < 0:
            break  # the table after the packets
        if at + 8 + length > len(content):
            raise UnreadableEventsError(path, f"it cannot be decoded as AEDAT 4 (cut in a packet of {length:,})", at)
        at += 8 + length


def read_any_aedat(path: Path, layout: AddressLayout | None = None) -> Recording:
    """Read an AEDAT file; its header states the version.

    Args:
        layout: as for `read_aedat2`, for version 2.0.

    Raises:
        UnreadableEventsError: as the reader of its version.
        InputError: likewise.
    """
    with path.open("rb") as file:
        first = file.read(16)
    if first.startswith(b"#!AER-DAT4"):
        return read_aedat4(path)
    return read_aedat3(path) if first.startswith(b"#!AER-DAT3") else read_aedat2(path, layout)


def _skip_header(path: Path, content: bytes, version: str) -> int:
    """Offset of the first event."""
    if not content:
        raise UnreadableEventsError(path, "the file is empty")
    stated = re.match(rb"#!AER-DAT([\d.]+)", content)
    if stated is None:
        raise UnreadableEventsError(path, f"not an AEDAT file: it begins with {content[:10]!r}", 0)
    found = stated[1].decode()
    if not found.startswith(version):
        raise UnreadableEventsError(path, f"the header states AEDAT {found}; expected is {version}", 0)
    end_mark = re.search(rb"^#!END-HEADER\r?\n", content, re.MULTILINE)
    if end_mark:
        return end_mark.end()
    at = last = 0
    while content[at : at + 1] == b"#":
        end = content.find(b"\n", at)
        if end < 0 or min(content[at:end]) < 9:
            break
        last, at = at, end + 1
    # An address may begin with the byte of # and soon contain that of a line's end. Then events begin before it.
    looks_like_an_event = at - last < 8 and (len(content) - at) % 8 and (len(content) - last) % 8 == 0
    return last if looks_like_an_event else at


def _unwrap(t: NDArray[np.uint32]) -> Numbers:
    """32-bit times -> 64 bits: a fall by more than 2³¹ is an overflow of the clock, a smaller one a step back."""
    if len(t) == 0:
        return t.astype(np.int64)
    steps = np.diff(t).astype(np.int32).astype(np.int64)  # modulo 2³², nearest to 0
    return int(t[0]) + np.concatenate([[0], np.cumsum(steps)])
