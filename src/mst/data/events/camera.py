"""A simulated event camera: events of a sensor that moves in front of a still picture. They are not a real recording.

The sensor makes three straight movements (saccades) around a triangle, back to where it began, like the cameras
that recorded N-MNIST and N-Caltech101. A pixel remembers the logarithm of the intensity at its last event; each
time the present one is a threshold above (below) that, it sends an event of polarity 1 (0) and the memory moves by that
threshold. Between two positions the logarithm is taken to change linearly, which gives the event its time.

Letters: K positions, H x W pixels of the sensor, h x w of the picture.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from mst.errors import InputError

from .cache import content_digest
from .stream import Events, Sensor, make_events

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CameraConfig:
    """The simulated camera.

    Raises:
        InputError: a value out of range, or a margin that does not leave a pixel.
    """

    height: int
    """Rows of its sensor."""

    width: int
    """Columns of its sensor."""

    margin: int = 2
    """Pixels on each side that the resting picture leaves free; the picture is scaled to fit the rest."""

    saccade: float = 3.0
    """Pixels by which a movement shifts the sensor down, and to the side."""

    duration_us: int = 300_000
    """Duration of all three movements, in µs."""

    positions: int = 16
    """Moments per movement at which the picture is sampled."""

    threshold: float = 0.25
    """Change of the natural logarithm of the intensity that makes an event, mean over the pixels."""

    threshold_spread: float = 0.02
    """Standard deviation of the threshold over the pixels, a fixed pattern of the sensor."""

    dark: float = 0.1
    """Intensity added to the picture's, which runs from 0 to 1; without it black would not have a logarithm."""

    noise_hz: float = 0.5
    """Events per pixel and second that are not caused by light."""

    seed: int = 0
    """Seed of the pattern and of the noise."""

    def __post_init__(self) -> None:
        Sensor(self.height, self.width)
        if self.margin < 0 or 2 * self.margin >= min(self.height, self.width):
            raise InputError(f"a margin of {self.margin} px does not leave a pixel of {self.height} x {self.width} px")
        for name in ("saccade", "duration_us", "positions", "threshold", "dark"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")
        if min(self.threshold_spread, self.noise_hz) < 0:
            raise InputError("threshold_spread and noise_hz must not be negative")

    @property
    def sensor(self) -> Sensor:
        """Its pixels."""
        return Sensor(self.height, self.width)


class SimulatedCamera:
    """Turns pictures into events; the same picture always gives the same events.

    Args:
        config: the camera.
        picture_size: (height, width) of the pictures in pixels.
    """

    def __init__(self, config: CameraConfig, picture_size: tuple[int, int]) -> None:
        self.config = config
        self._identity = astuple(config)
        self.picture_size = picture_size
        moments = np.linspace(0.0, 3.0, 3 * config.positions + 1)
        corners = np.array([[0.0, 0.0], [1.0, 0.5], [1.0, -0.5], [0.0, 0.0]]) * config.saccade  # rows, columns
        self._times_us = moments / 3.0 * config.duration_us
        down, right = (np.interp(moments, range(4), corners[:, axis]) for axis in (0, 1))
        scale = min(
            (config.height - 2 * config.margin) / picture_size[0], (config.width - 2 * config.margin) / picture_size[1]
        )
        # Rest lies in the middle of the triangle, so that the picture stays on the sensor.
        self._rows = _sampling(config.height, picture_size[0], scale, down - down.mean())
        self._columns = _sampling(config.width, picture_size[1], scale, right - right.mean())
        pattern = np.random.default_rng(np.random.SeedSequence([config.seed, 0]))
        shape = (config.height, config.width)
        self._thresholds = [
            np.maximum(config.threshold / 4, pattern.normal(config.threshold, config.threshold_spread, shape)).ravel()
            for _ in range(2)
        ]  # of OFF and ON events

    def digest(self, picture: NDArray[np.uint8]) -> str:
        """Identifies the picture and the camera, from which the events follow."""
        return content_digest(np.ascontiguousarray(picture).tobytes(), picture.shape, self._identity)

    def record(self, picture: NDArray[np.uint8]) -> Events:
        """Events of one picture.

        Args:
            picture: uint8 [h, w].

        Returns:
            Events in the order of time; at equal times in the order of rows, then columns.

        Raises:
            InputError: a picture of another size.
        """
        if picture.shape != self.picture_size:
            raise InputError(f"the camera was made for pictures of {self.picture_size}, got {picture.shape}")
        picture = np.ascontiguousarray(picture)
        intensity = self._rows @ (picture / 255.0) @ self._columns.transpose(0, 2, 1)
        log_KP = np.log(intensity + self.config.dark).reshape(len(self._times_us), -1)
        t, pixel, p = self._crossings(log_KP)
        noise = np.random.default_rng(np.random.SeedSequence([self.config.seed, 1, int(self.digest(picture)[:15], 16)]))
        pixels = self.config.height * self.config.width
        strays = int(noise.poisson(self.config.noise_hz * pixels * self.config.duration_us * 1e-6))
        if len(t) == 0 and self.config.noise_hz > 0:  # an empty recording would not be valid
            strays = max(1, strays)
        t = np.concatenate([t, noise.uniform(0, self.config.duration_us, strays)])
        pixel = np.concatenate([pixel, noise.integers(0, pixels, strays)])
        p = np.concatenate([p, noise.integers(0, 2, strays)])
        whole = np.minimum(t, self.config.duration_us - 1).astype(np.int64)
        order = np.lexsort((pixel, whole))
        return make_events(whole[order], pixel[order] % self.config.width, pixel[order] // self.config.width, p[order])

    def _crossings(self, log_KP: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Time, pixel and polarity of every crossing of a threshold."""
        off, on = self._thresholds
        memory = log_KP[0].copy()
        times, pixels, polarities = [], [], []
        for k in range(1, len(log_KP)):
            now, before = log_KP[k], log_KP[k - 1]
            change = now - memory
            for polarity, threshold in ((1, on), (0, -off)):
                number = np.floor(change / threshold)
                moved = np.flatnonzero(number >= 1)
                if len(moved) == 0:
                    continue
                count = number[moved].astype(np.int64)
                pixel = np.repeat(moved, count)
                nth = np.arange(len(pixel)) - np.repeat(np.cumsum(count) - count, count) + 1
                level = memory[pixel] + nth * threshold[pixel]
                way = now[pixel] - before[pixel]
                share = np.clip((level - before[pixel]) / np.where(way == 0, 1.0, way), 0.0, 1.0)
                times.append(self._times_us[k - 1] + share * (self._times_us[k] - self._times_us[k - 1]))
                pixels.append(pixel)
                polarities.append(np.full(len(pixel), polarity))
                memory[moved] += count * threshold[moved]
        nothing = np.empty(0, np.int64)
        return (
            np.concatenate(times) if times else np.empty(0),
            np.concatenate([nothing, *pixels]),
            np.concatenate([nothing, *polarities]),
        )


def _sampling(pixels: int, picture_pixels: int, scale: float, shifts: Floats) -> Floats:
    """Linear interpolation along one axis, for each position: float64 [K, pixels, picture_pixels].

    If the picture is made smaller, a pixel sees the mean of the area it covers. Outside, its border continues.
    """
    width = max(1.0, 1.0 / scale)  # of the triangle that weighs the picture's pixels
    at = (np.arange(pixels) + 0.5 - pixels / 2 - shifts[:, None]) / scale + picture_pixels / 2 - 0.5
    at = np.clip(at, 0.0, picture_pixels - 1.0)
    weight = np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(picture_pixels)) / width)
    sampling: Floats = weight / weight.sum(axis=-1, keepdims=True)
    return sampling
