"""A simulated event camera: a still picture, seen by a sensor that moves, as events. What it makes is no recording.

The sensor makes three straight movements (saccades) around a triangle, back to where it began, as the cameras did that
N-MNIST and N-Caltech101 were recorded with. A pixel remembers the logarithm of the intensity at its last event; each
time the present one is a threshold above (below) that, it sends an event of polarity 1 (0) and the memory moves by that
threshold. Between two positions the logarithm is taken to change linearly, which gives the event its time.

Letters: K positions, H x W pixels of the sensor, h x w of the picture.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from .cache import content_digest
from .stream import Events, Sensor, make_events

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CameraConfig:
    """The simulated camera.

    Args:
        height, width: pixels of its sensor.
        margin: pixels on each side that the resting picture leaves free; it is scaled into the rest.
        saccade: pixels that a movement goes to the side, and down.
        duration_us: of all three movements, in µs.
        positions: moments per movement at which the picture is sampled.
        threshold: change of the natural logarithm of the intensity that makes an event, mean over the pixels.
        threshold_spread: its standard deviation over the pixels, a fixed pattern of the sensor.
        dark: intensity added to the picture's, whose own runs from 0 to 1; without it black would have no logarithm.
        noise_hz: events per pixel and second that no light caused.
        seed: of the pattern and of the noise.

    Raises:
        ValueError: a value out of range, or a margin that leaves no pixel.
    """

    height: int
    width: int
    margin: int = 2
    saccade: float = 3.0
    duration_us: int = 300_000
    positions: int = 16
    threshold: float = 0.25
    threshold_spread: float = 0.02
    dark: float = 0.1
    noise_hz: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        Sensor(self.height, self.width)
        if self.margin < 0 or 2 * self.margin >= min(self.height, self.width):
            raise ValueError(f"a margin of {self.margin} px leaves nothing of {self.height} x {self.width} px")
        for name in ("saccade", "duration_us", "positions", "threshold", "dark"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if min(self.threshold_spread, self.noise_hz) < 0:
            raise ValueError("threshold_spread and noise_hz must not be negative")

    @property
    def sensor(self) -> Sensor:
        """Its pixels."""
        return Sensor(self.height, self.width)


class SimulatedCamera:
    """Turns pictures into events; the same picture always into the same ones.

    Args:
        config: see there.
        picture_size: (height, width) of the pictures.
    """

    def __init__(self, config: CameraConfig, picture_size: tuple[int, int]) -> None:
        self.config = config
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
        """What the events follow from: the picture and the camera."""
        return content_digest(np.ascontiguousarray(picture).tobytes(), picture.shape, astuple(self.config))

    def record(self, picture: NDArray[np.uint8]) -> Events:
        """Look at a picture.

        Args:
            picture: uint8 [h, w].

        Returns:
            Events in the order of time; of equal times in the order of rows, then columns.
        """
        if picture.shape != self.picture_size:
            raise ValueError(f"the camera was made for pictures of {self.picture_size}, got {picture.shape}")
        picture = np.ascontiguousarray(picture)
        intensity = self._rows @ (picture / 255.0) @ self._columns.transpose(0, 2, 1)
        log_KP = np.log(intensity + self.config.dark).reshape(len(self._times_us), -1)
        t, pixel, p = self._crossings(log_KP)
        noise = np.random.default_rng(np.random.SeedSequence([self.config.seed, 1, int(self.digest(picture)[:15], 16)]))
        pixels = self.config.height * self.config.width
        strays = int(noise.poisson(self.config.noise_hz * pixels * self.config.duration_us * 1e-6))
        if len(t) == 0 and self.config.noise_hz > 0:  # a recording without an event would be none
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

    Where the picture is made smaller, a pixel sees the mean of what it covers. Outside, the picture's border goes on.
    """
    width = max(1.0, 1.0 / scale)  # of the triangle that weighs the picture's pixels
    at = (np.arange(pixels) + 0.5 - pixels / 2 - shifts[:, None]) / scale + picture_pixels / 2 - 0.5
    at = np.clip(at, 0.0, picture_pixels - 1.0)
    weight = np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(picture_pixels)) / width)
    sampling: Floats = weight / weight.sum(axis=-1, keepdims=True)
    return sampling
