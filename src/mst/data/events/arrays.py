"""Recordings in files of arrays: Matlab's .mat (ASL-DVS), and numpy's .npz and .npy.

.mat: arrays ts (µs), x, y, pol of one length; ASL-DVS counts its rows from below.
.npz: arrays t, x, y, p (or ts, pol), as many libraries cache events; sensor_size (height, width) in files of mst.
.npy: [N, 4] whole numbers x, y, p, t with t in milliseconds, as tonic serves DVS128 Gesture.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mst.errors import InputError
from mst.text import one_line

from ..unreadable import UnreadableEventsError
from .mat import MAX_BYTES, read_numeric_arrays
from .stream import Events, Recording, Sensor, make_events

ASL_DVS_SENSOR = Sensor(180, 240)

_MAX_TIME = 2**52  # µs; whole numbers up to here are exact in every type of number
_NAMES = {"t": ("t", "ts", "timestamps"), "x": ("x",), "y": ("y",), "p": ("p", "pol", "polarity")}
_WANTED = {alias for aliases in _NAMES.values() for alias in aliases} | {"sensor_size"}


def read_mat(path: Path, rows_from_below: bool = False) -> Recording:
    """Read a .mat file with arrays ts (or t), x, y, pol (or p).

    Args:
        rows_from_below: rows are counted from below, as in ASL-DVS, on its sensor of 180 rows.

    Raises:
        UnreadableEventsError: it is empty or damaged, an array is missing, or they do not fit each other.
    """
    if path.stat().st_size == 0:
        raise UnreadableEventsError(path, "the file is empty")
    try:
        content = read_numeric_arrays(path)
    except ValueError as error:
        raise UnreadableEventsError(path, f"it cannot be read as a .mat file ({one_line(error)})") from error
    recording = _from_columns(path, content)
    if not rows_from_below:
        return recording
    events = recording.events
    below = events["y"] >= ASL_DVS_SENSOR.height
    if below.any():
        at = int(below.argmax())
        raise UnreadableEventsError(path, f"row {events['y'][at]} is outside the sensor of {ASL_DVS_SENSOR}", event=at)
    events["y"] = ASL_DVS_SENSOR.height - 1 - events["y"]
    return recording


def write_mat(path: Path, events: Events, sensor: Sensor, rows_from_below: bool = False) -> None:
    """Write a .mat file with arrays ts, x, y, pol.

    Args:
        rows_from_below: count rows from below, as in ASL-DVS.

    Raises:
        InputError: times that are too large; rows from below of events outside ASL-DVS's sensor.
        OSError: it cannot be written.
    """
    del sensor
    from scipy.io import savemat

    _check_times(events)
    if (
        rows_from_below
        and len(events)
        and (events["y"].max() >= ASL_DVS_SENSOR.height or events["x"].max() >= ASL_DVS_SENSOR.width)
    ):
        raise InputError(f"there are events outside the sensor of {ASL_DVS_SENSOR}")
    columns = {"ts": events["t"], "x": events["x"], "y": events["y"], "pol": events["p"]}
    if rows_from_below:
        columns["y"] = ASL_DVS_SENSOR.height - 1 - events["y"]
    with path.open("wb") as file:
        savemat(file, {name: column[:, None] for name, column in columns.items()})


def read_npz(path: Path) -> Recording:
    """Read a .npz file with arrays t, x, y, p. Pickled objects in it are refused.

    Raises:
        UnreadableEventsError: it is empty or damaged, an array is missing, or they do not fit each other.
    """
    if path.stat().st_size == 0:
        raise UnreadableEventsError(path, "the file is empty")
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in members.items() if name in _WANTED}
            size = sum(info.file_size for info in wanted.values())
            if size > MAX_BYTES:
                raise ValueError(f"its arrays take {size:,} bytes")
            content: dict[str, Any] = dict.fromkeys(members)
            for name, info in wanted.items():
                content[name] = np.lib.format.read_array(io.BytesIO(archive.read(info)), allow_pickle=False)
    except Exception as error:  # numpy raises what its parsers of archives and headers raise
        raise UnreadableEventsError(path, f"it cannot be read as a .npz file ({one_line(error)})") from error
    return _from_columns(path, content)


def write_npz(path: Path, events: Events, sensor: Sensor) -> None:
    """Write a .npz file.

    Raises:
        InputError: times that whole numbers of other programs cannot hold.
        OSError: it cannot be written.
    """
    _check_times(events)
    columns: dict[str, Any] = {name: events[name] for name in ("t", "x", "y", "p")}
    with path.open("wb") as file:
        np.savez_compressed(file, sensor_size=np.array([sensor.height, sensor.width]), **columns)


def read_npy(path: Path) -> Recording:
    """Read a .npy file of DVS128 Gesture as tonic serves it: columns x, y, p, t, with t in milliseconds.

    Raises:
        UnreadableEventsError: it is empty, damaged, or of another shape.
    """
    if path.stat().st_size == 0:
        raise UnreadableEventsError(path, "the file is empty")
    try:
        content = path.read_bytes()
        table = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "uibf":
            raise ValueError(f"expected are numbers [N, 4], it holds {table.dtype} {table.shape}")
    except Exception as error:  # likewise
        raise UnreadableEventsError(path, f"it cannot be read as a .npy file ({one_line(error)})") from error
    x, y, p, t = (table[:, column] for column in range(4))
    recording = _from_columns(path, {"t": t, "x": x, "y": y, "p": p})
    recording.events["t"] *= 1000
    return recording


def write_npy(path: Path, events: Events, sensor: Sensor) -> None:
    """Write a .npy file as tonic serves DVS128 Gesture; times must be whole milliseconds.

    Raises:
        InputError: other times.
        OSError: it cannot be written.
    """
    del sensor
    if (events["t"] % 1000).any():
        raise InputError("this format holds whole milliseconds")
    columns = [events["x"], events["y"], events["p"], events["t"] // 1000]
    with path.open("wb") as file:
        np.save(file, np.stack([column.astype(np.int64) for column in columns], axis=1))


def _check_times(events: Events) -> None:
    if len(events) and not -_MAX_TIME <= int(events["t"].min()) <= int(events["t"].max()) <= _MAX_TIME:
        raise InputError(f"times must be within {_MAX_TIME:,} µs, got {events['t'].min()} to {events['t'].max()}")


def _from_columns(path: Path, content: Mapping[str, Any]) -> Recording:
    columns: dict[str, Any] = {}
    for name, aliases in _NAMES.items():
        found = next((alias for alias in aliases if alias in content), None)
        if found is None or content[found] is None:
            there = ", ".join(key for key in content if not key.startswith("__")) or "none"
            raise UnreadableEventsError(path, f"it has no array {' or '.join(aliases)}; there are {there}")
        column = np.asarray(content[found])
        if column.dtype.kind not in "uibf":
            raise UnreadableEventsError(path, f"array {found} holds {column.dtype}, not numbers")
        column = column.reshape(-1)
        if column.dtype.kind == "f" and not (np.isfinite(column).all() and (column == np.floor(column)).all()):
            raise UnreadableEventsError(path, f"array {found} holds numbers that are not whole")
        if len(column) and not (column.min() >= -_MAX_TIME and column.max() <= _MAX_TIME):
            raise UnreadableEventsError(path, f"array {found} holds numbers from {column.min()} to {column.max()}")
        columns[name] = column.astype(np.int64)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise UnreadableEventsError(path, f"its arrays differ in length: {lengths}")
    if lengths["t"] == 0:
        raise UnreadableEventsError(path, "there are no events in it")
    p = columns["p"]
    if set(np.unique(p).tolist()) <= {-1, 1}:
        columns["p"] = p = (p + 1) // 2
    for name, highest in (("x", 0xFFFF), ("y", 0xFFFF), ("p", 1)):
        bad = (columns[name] < 0) | (columns[name] > highest)
        if bad.any():
            at = int(bad.argmax())
            raise UnreadableEventsError(path, f"{name} {columns[name][at]} is out of range", event=at)
    return Recording(make_events(**columns), _sensor(path, content.get("sensor_size")))


def _sensor(path: Path, stated: Any) -> Sensor | None:
    if stated is None:
        return None
    try:
        height, width = np.asarray(stated).reshape(-1).tolist()
        return Sensor(height, width)
    except (ValueError, TypeError) as error:
        raise UnreadableEventsError(path, f"its sensor_size {stated!r} is not (height, width)") from error
