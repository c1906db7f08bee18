"""Cameras of AEDAT files: how an address of AEDAT 2.0 divides, and which camera a file states or shows.

An AEDAT 2.0 event has an address of 32 bits. How it divides depends on the camera:
  DVS128: polarity bit 0 (0: brighter), bits 1-7 the column from the right, bits 8-14 the row from below, bit 15 set for
  special events;
  DAVIS: bit 31 set for frames and motion sensor, row from below in bits 22-30, column from the right in bits 12-21,
  polarity bit 11, bit 10 an external trigger.
jAER states the camera in the header ("AEChip: ...DVS128"), other programs do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .stream import Sensor

Numbers = NDArray[np.int64]

Camera = Literal["dvs128", "davis240", "davis346", "davis640"]
"""Cameras whose AEDAT 2.0 files can be read."""


@dataclass(frozen=True)
class AddressLayout:
    """Packing by which a camera puts an event into the 32 bits of an AEDAT 2.0 address."""

    camera: Camera
    """The camera."""

    sensor: Sensor
    """Pixels of the camera."""

    is_light: Callable[[Numbers], NDArray[np.bool_]]
    """Addresses -> True for events of light, as opposed to triggers and frames."""

    unpack: Callable[[Numbers], tuple[Numbers, Numbers, Numbers]]
    """Addresses -> x, y, p."""

    pack: Callable[[Numbers, Numbers, Numbers], Numbers]
    """x, y, p -> addresses."""


def _davis(camera: Camera, height: int, width: int) -> AddressLayout:
    return AddressLayout(
        camera,
        Sensor(height, width),
        lambda address: (address >> 31 == 0) & (address >> 10 & 1 == 0),
        lambda address: (
            width - 1 - (address >> 12 & 0x3FF), height - 1 - (address >> 22 & 0x1FF), address >> 11 & 1
        ),
        lambda x, y, p: (height - 1 - y) << 22 | (width - 1 - x) << 12 | p << 11,
    )  # fmt: skip


# CIFAR10-DVS was recorded with the camera turned: the column counts along the address's row field, both backwards.
CIFAR10_DVS_LAYOUT = AddressLayout(
    "dvs128",
    Sensor(128, 128),
    lambda address: address >> 15 == 0,
    lambda address: (127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), 1 - (address & 1)),
    lambda x, y, p: (127 - x) << 8 | (127 - y) << 1 | (1 - p),
)
"""DVS128 of CIFAR10-DVS, with the pictures upright."""

LAYOUTS: dict[Camera, AddressLayout] = {
    "dvs128": AddressLayout(
        "dvs128",
        Sensor(128, 128),
        lambda address: address >> 15 == 0,
        lambda address: (127 - (address >> 1 & 0x7F), 127 - (address >> 8 & 0x7F), 1 - (address & 1)),
        lambda x, y, p: (127 - y) << 8 | (127 - x) << 1 | (1 - p),
    ),
    "davis240": _davis("davis240", 180, 240),
    "davis346": _davis("davis346", 260, 346),
    "davis640": _davis("davis640", 480, 640),
}
"""Layouts by camera; jAER counts rows from below and columns from the right."""

_CHIPS: dict[str, Camera] = {
    "dvs128": "dvs128", "davis240": "davis240", "sbret10": "davis240", "davis346": "davis346", "davis640": "davis640",
}  # fmt: skip
"""First part of a chip's name, in lower case -> camera; the rest is its variant."""


def stated_chip(header: bytes) -> str:
    """The chip that the header of an AEDAT file states, without its package; empty if it states none."""
    stated = re.search(rb"^#\s*(?:AEChip|Source\s+\d+):\s*(\S+)", header, re.MULTILINE)
    return "" if stated is None else stated[1].decode("utf-8", "replace").rpartition(".")[2]


def camera_of(chip: str) -> Camera | None:
    """The camera of a chip of this name; None if it is not known."""
    return next((camera for name, camera in _CHIPS.items() if chip.lower().startswith(name)), None)


def camera_with(sensor: tuple[int, int]) -> Camera | None:
    """The camera with a sensor of (height, width); None if there is none."""
    return next((name for name, known in LAYOUTS.items() if known.sensor == Sensor(*sensor)), None)


def shown_camera(address: Numbers) -> Camera | None:
    """The camera that the addresses of a file show by themselves; None if they leave a doubt.

    Only a DAVIS346 can be told: its columns or rows go beyond those of a DAVIS240.
    """
    x, y, _ = LAYOUTS["davis346"].unpack(address[LAYOUTS["davis346"].is_light(address)])
    if len(x) == 0 or min(x.min(), y.min()) < 0:
        return None
    columns, rows = 345 - x.min(), 259 - y.min()
    return "davis346" if columns >= 240 or rows >= 180 else None
