"""The file formats of recordings, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .aedat import CIFAR10_DVS_LAYOUT, DAVIS346_LAYOUT, read_any_aedat, write_aedat2, write_aedat3
from .arrays import read_mat, read_npy, read_npz, write_mat, write_npy, write_npz
from .atis import read_bin, read_dat, write_bin, write_dat
from .stream import Events, Recording, Sensor


@dataclass(frozen=True)
class Format:
    """A file format.

    suffixes: of its files, small letters.  read: raises `UnreadableEventsError` at a damaged file.
    write: (path, events, sensor); raises ValueError for events that the format cannot hold. None: only read here.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Recording]
    write: Callable[[Path, Events, Sensor], None] | None = None


def _write_davis(path: Path, events: Events, sensor: Sensor) -> None:
    del sensor  # the layout is for one
    write_aedat2(path, events, DAVIS346_LAYOUT)


def _write_cifar10_dvs(path: Path, events: Events, sensor: Sensor) -> None:
    del sensor
    write_aedat2(path, events, CIFAR10_DVS_LAYOUT)


def _write_aedat3(path: Path, events: Events, sensor: Sensor) -> None:
    del sensor
    write_aedat3(path, events)


EVENT_FORMATS: dict[str, Format] = {
    "dat": Format((".dat",), read_dat, write_dat),
    "npz": Format((".npz",), read_npz, write_npz),
    "bin": Format((".bin",), read_bin, write_bin),
    "aedat3": Format((".aedat",), partial(read_any_aedat, layout=DAVIS346_LAYOUT), _write_aedat3),
    "aedat2-davis346": Format((".aedat",), partial(read_any_aedat, layout=DAVIS346_LAYOUT), _write_davis),
    "aedat2-cifar10-dvs": Format(
        (".aedat", ".aedat4"), partial(read_any_aedat, layout=CIFAR10_DVS_LAYOUT), _write_cifar10_dvs
    ),
    "aedat4": Format((".aedat4",), partial(read_any_aedat, layout=DAVIS346_LAYOUT)),
    "mat": Format((".mat",), read_mat, write_mat),
    "mat-asl-dvs": Format((".mat",), partial(read_mat, rows_from_below=True), partial(write_mat, rows_from_below=True)),
    "npy": Format((".npy",), read_npy, write_npy),
}
"""By name. An AEDAT file states its version; the names differ in what is written, and in the camera that version 2.0
does not state."""

OWN_FORMATS = ("dat", "npz", "bin", "aedat3", "aedat4", "mat")
"""What a folder of one's own recordings may hold, told apart by suffix; AEDAT 2.0 is taken for a DAVIS346's."""


def own_format(path: Path) -> str | None:
    """The format of a file of one's own, by its suffix; None if it is none of these."""
    suffix = path.suffix.lower()
    return next((name for name in OWN_FORMATS if suffix in EVENT_FORMATS[name].suffixes), None)


def read_events(path: str | Path, format_name: str | None = None) -> Recording:
    """Read one recording.

    Args:
        path: the file.
        format_name: a key of `EVENT_FORMATS`; None goes by the suffix.

    Raises:
        UnreadableEventsError: it is damaged, or of another kind.
        ValueError: an unknown format or suffix.
        OSError: it cannot be opened.
    """
    path = Path(path)
    name = format_name or own_format(path)
    if name not in EVENT_FORMATS:
        known = ", ".join(sorted({suffix for known in EVENT_FORMATS.values() for suffix in known.suffixes}))
        raise ValueError(f"{path}: the kind of file is not known; recordings end in {known}")
    return EVENT_FORMATS[name].read(path)


def write_events(path: str | Path, events: Events, sensor: Sensor, format_name: str) -> None:
    """Write one recording. The file appears whole or not at all.

    Raises:
        ValueError: an unknown format or one that is only read, or events that it cannot hold.
        OSError: it cannot be written.
    """
    write = EVENT_FORMATS[format_name].write if format_name in EVENT_FORMATS else None
    if write is None:
        known = ", ".join(name for name, known in EVENT_FORMATS.items() if known.write is not None)
        raise ValueError(f"events can be written as {known}; got {format_name!r}")
    path = Path(path)
    part = path.with_name(f".part-{path.name}")  # keeps the suffix, which numpy and scipy would else add
    try:
        write(part, events, sensor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
