"""From a stream of events to the input of a network: count frames, voxel grids, or one frame for each time step.

Letters: N events, B time bins, C channels, P polarities (2), T time steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from mst.errors import InputError

from .cameras import Camera
from .stream import Events, Sensor

Kind = Literal["frames", "voxels"]
Image = TypeVar("Image", NDArray[np.uint32], NDArray[np.float32])


@dataclass(frozen=True)
class EventRepresentation:
    """Representation of events as an image of several channels; part of the preprocessing in a network's checkpoint.

    Raises:
        InputError: an unknown kind, or fewer than one bin (two for voxels).

    Source: frames: Masked Spiking Transformer (ICCV 2023), 9 bins, padded, nearest. voxels: Zhu et al., "Unsupervised
        Event-based Learning of Optical Flow, Depth, and Egomotion" (CVPR 2019).
    """

    kind: Kind = "frames"
    """frames counts the events of each bin and polarity, 2 channels per bin; voxels adds their polarities (+1, -1) to
    the two nearest of num_bins moments with linear weights, 1 channel per moment."""

    num_bins: int = 9
    """Time bins of equal length, from a recording's first event to its last."""

    pad_to_square: bool = True
    """Pad the sensor's picture with zeros to a square of its longer side before it is resized."""

    sensor: tuple[int, int] | None = None
    """HEIGHT,WIDTH of the sensor in pixels, for your own recordings whose files do not state it."""

    camera: Camera | None = None
    """Camera of your own recordings in AEDAT 2.0: dvs128, davis240, davis346 or davis640. By default the one that the
    file's header states."""

    drop_bad_events: bool = False
    """Leave out events outside the sensor and events whose time runs backwards, instead of refusing the recording."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(
                f"the representation of events must be one of {', '.join(get_args(Kind))}, got {self.kind!r}"
            )
        least = 2 if self.kind == "voxels" else 1
        if not isinstance(self.num_bins, int) or isinstance(self.num_bins, bool) or self.num_bins < least:
            raise InputError(f"{self.kind} need at least {least} time bin(s), got {self.num_bins!r}")
        for name in ("pad_to_square", "drop_bad_events"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.camera not in (None, *get_args(Camera)):
            raise InputError(f"camera must be one of {', '.join(get_args(Camera))}, got {self.camera!r}")
        if self.sensor is not None:
            given: object = self.sensor
            if not isinstance(given, list | tuple) or len(given) != 2:
                raise InputError(f"sensor must be (height, width), got {given!r}")
            Sensor(*given)
            object.__setattr__(self, "sensor", tuple(given))

    @property
    def in_chans(self) -> int:
        """Channels of the image."""
        return self.num_bins * (2 if self.kind == "frames" else 1)

    def native_size(self, sensor: Sensor) -> tuple[int, int]:
        """(height, width) of the image before it is resized."""
        side = max(sensor.height, sensor.width)
        return (side, side) if self.pad_to_square else (sensor.height, sensor.width)


def represent(
    events: Events, sensor: Sensor, how: EventRepresentation, size: tuple[int, int]
) -> NDArray[np.uint32] | NDArray[np.float32]:
    """The image of a recording.

    Args:
        events: at least one, in the order of time.
        sensor: the pixels; no event may lie outside.
        how: kind, bins, padding.
        size: (height, width) of the result.

    Returns:
        [C, height, width]: frames as uint32 counts, channel 2·bin + polarity; voxels as float32.
    """
    if how.kind == "voxels":
        return _voxels(events, sensor, how, size)
    return per_step_frames(events, sensor, how, size, how.num_bins).reshape(-1, *size)


def per_step_frames(
    events: Events, sensor: Sensor, how: EventRepresentation, size: tuple[int, int], num_steps: int
) -> NDArray[np.uint32]:
    """Events counted by time step and polarity: step t sees the t-th of T equal slices of the recording.

    Every event counts once if the image is not larger than the sensor's picture; if it is larger, a pixel's count is
    repeated (nearest).

    Args:
        events, sensor, how, size: as for `represent`; `how.kind` and `how.num_bins` have no effect.
        num_steps: T.

    Returns:
        uint32 [T, P, height, width].
    """
    t = events["t"]
    duration = int(t[-1] - t[0]) + 1
    step = (t - t[0]) * num_steps // duration
    return _counted(events, step * 2 + events["p"], 2 * num_steps, sensor, how, size).reshape(num_steps, 2, *size)


def _counted(
    events: Events, channel: NDArray[np.int64], num_channels: int, sensor: Sensor, how: EventRepresentation,
    size: tuple[int, int],
) -> NDArray[np.uint32]:  # fmt: skip
    rows, columns, grid = _places(events, sensor, how, size)
    index = (channel * grid[0] + rows) * grid[1] + columns
    counts = np.bincount(index, minlength=num_channels * grid[0] * grid[1]).reshape(num_channels, *grid)
    return _enlarge(counts.astype(np.uint32), size)


def _voxels(events: Events, sensor: Sensor, how: EventRepresentation, size: tuple[int, int]) -> NDArray[np.float32]:
    """An event of polarity ±1 at t* (0 for the first event, B-1 for the last) adds ±max(0, 1 - |b - t*|) to bin b."""
    rows, columns, grid = _places(events, sensor, how, size)
    t = (events["t"] - events["t"][0]).astype(np.float64)
    position = t * ((how.num_bins - 1) / max(1.0, t[-1]))
    earlier = np.minimum(position.astype(np.int64), how.num_bins - 2)
    later_share = position - earlier
    sign = events["p"].astype(np.float64) * 2 - 1
    pixels = grid[0] * grid[1]
    index = earlier * pixels + rows * grid[1] + columns
    total = np.bincount(index, sign * (1 - later_share), how.num_bins * pixels)
    total += np.bincount(index + pixels, sign * later_share, how.num_bins * pixels)
    return _enlarge(total.reshape(how.num_bins, *grid).astype(np.float32), size)


def _places(
    events: Events, sensor: Sensor, how: EventRepresentation, size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
    """Row and column of each event in a grid, and the grid's size: never larger than the sensor's picture."""
    padded = how.native_size(sensor)
    rows = events["y"].astype(np.int64) + (padded[0] - sensor.height) // 2
    columns = events["x"].astype(np.int64) + (padded[1] - sensor.width) // 2
    grid = (min(size[0], padded[0]), min(size[1], padded[1]))
    return rows * grid[0] // padded[0], columns * grid[1] // padded[1], grid


def _enlarge(image: Image, size: tuple[int, int]) -> Image:
    """[C, h, w] -> [C, height, width], each pixel repeated."""
    height, width = image.shape[1:]
    if (height, width) == size:
        return image
    rows = np.arange(size[0]) * height // size[0]
    columns = np.arange(size[1]) * width // size[1]
    return image[:, rows[:, None], columns[None, :]]
