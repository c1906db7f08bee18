"""File formats of recordings, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mst.errors import InputError
from mst.files import write_atomically

from .aedat import read_any_aedat, write_aedat2, write_aedat3
from .arrays import read_mat, read_npy, read_npz, write_mat, write_npy, write_npz
from .atis import read_bin, read_dat, write_bin, write_dat
from .cameras import CIFAR10_DVS_LAYOUT, LAYOUTS, AddressLayout, Camera
from .stream import Events, Recording, Sensor


@dataclass(frozen=True)
class Format:
    """A file format."""

    suffixes: tuple[str, ...]
    """Suffixes of its files, in lower case."""

    read: Callable[[Path], Recording]
    """Reads a file. Raises UnreadableEventsError if it is damaged."""

    write: Callable[[Path, Events, Sensor], None] | None = None
    """Writes a file. Raises InputError for events that the format cannot hold. None: the format is only read."""

    states_sensor: bool = False
    """True if files written in this format state the sensor's size."""


def _write_aedat2(path: Path, events: Events, sensor: Sensor, layout: AddressLayout) -> None:
    del sensor  # the layout is that of one camera
    write_aedat2(path, events, layout)


def _aedat2(layout: AddressLayout, suffixes: tuple[str, ...] = (".aedat",)) -> Format:
    return Format(suffixes, partial(read_any_aedat, layout=layout), partial(_write_aedat2, layout=layout))


def _write_aedat3(path: Path, events: Events, sensor: Sensor) -> None:
    del sensor
    write_aedat3(path, events)


EVENT_FORMATS: dict[str, Format] = {
    "dat": Format((".dat",), read_dat, write_dat, states_sensor=True),
    "npz": Format((".npz",), read_npz, write_npz, states_sensor=True),
    "bin": Format((".bin",), read_bin, write_bin),
    "aedat3": Format((".aedat",), read_any_aedat, _write_aedat3),
    **{f"aedat2-{camera}": _aedat2(layout) for camera, layout in LAYOUTS.items()},
    "aedat2-cifar10-dvs": _aedat2(CIFAR10_DVS_LAYOUT, (".aedat", ".aedat4")),
    "aedat4": Format((".aedat4",), read_any_aedat),
    "mat": Format((".mat",), read_mat, write_mat),
    "mat-asl-dvs": Format((".mat",), partial(read_mat, rows_from_below=True), partial(write_mat, rows_from_below=True)),
    "npy": Format((".npy",), read_npy, write_npy),
}
"""Formats by name. An AEDAT file states its version; the names differ in the version that is written, and in the camera
of version 2.0, which not every file states."""

OWN_FORMATS = ("dat", "npz", "bin", "aedat3", "aedat4", "mat")
"""Formats of a user's own recordings, told apart by suffix. The camera of AEDAT 2.0 is that which the file states or
shows, unless it is named."""


def own_format(path: Path, camera: Camera | None = None) -> str | None:
    """Format of a user's own recording, by its suffix; None if the suffix is not known.

    Args:
        path: the file.
        camera: of AEDAT 2.0 files; None takes the camera that the file states or shows.
    """
    suffix = path.suffix.lower()
    if camera is not None and suffix == ".aedat":
        return f"aedat2-{camera}"
    return next((name for name in OWN_FORMATS if suffix in EVENT_FORMATS[name].suffixes), None)


def read_events(path: str | Path, format_name: str | None = None) -> Recording:
    """Read one recording.

    Args:
        path: the file.
        format_name: a key of `EVENT_FORMATS`; None goes by the suffix.

    Raises:
        UnreadableEventsError: the file is damaged, or of another kind.
        InputError: an unknown format or suffix.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    name = format_name or own_format(path)
    if name not in EVENT_FORMATS:
        known = ", ".join(sorted({suffix for known in EVENT_FORMATS.values() for suffix in known.suffixes}))
        raise InputError("this kind of file is not known", where=str(path), remedy=f"recordings end in {known}")
    return EVENT_FORMATS[name].read(path)


def writable_formats() -> tuple[str, ...]:
    """Names of the formats that `write_events` writes."""
    return tuple(name for name, known in EVENT_FORMATS.items() if known.write is not None)


def write_events(path: str | Path, events: Events, sensor: Sensor, format_name: str) -> None:
    """Write one recording. The file appears whole or not at all.

    Args:
        path: the file.
        events: [N] of `EVENT`.
        sensor: pixels of the camera.
        format_name: one of `writable_formats()`.

    Raises:
        InputError: an unknown format or one that is only read, or events that the format cannot hold.
        OSError: the file cannot be written.
    """
    write = EVENT_FORMATS[format_name].write if format_name in EVENT_FORMATS else None
    if write is None:
        raise InputError(f"events can be written as {', '.join(writable_formats())}, got {format_name!r}")
    write_atomically(Path(path), lambda temporary: write(Path(temporary), events, sensor), durable=False)
