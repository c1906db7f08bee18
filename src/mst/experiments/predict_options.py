"""Options of `mst predict`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mst.errors import InputError

from .options import check_counts, check_steps


@dataclass(frozen=True)
class PredictionOptions:
    """The network, and how long it looks at each image."""

    checkpoint: Path
    """The checkpoint, zoo:NAME or hf:USER/NAME."""

    time_steps: int = 64
    """T; the answer after each t <= T is shown."""

    top: int = 3
    """Classes that are shown for an image: those with the largest scores at the end."""

    drawn: int = 8
    """Images in the picture, the first ones; 0 draws none."""

    batch_size: int = 32
    """Images at once."""

    slices: int | None = None
    """Cut each recording of an event camera into this many parts over time and show them one after another. By default
    every step sees the whole recording."""

    sensor: tuple[int, int] | None = None
    """HEIGHT,WIDTH in pixels of the camera, for recordings that do not state it. By default that of the network's data
    set."""

    masking_ratio: float | None = None
    """Mask with another ratio than the checkpoint's; 0: not at all."""

    seed: int = 0
    """Seed of the masks."""

    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, ..."""

    threads: int | None = None
    """CPU threads; by default as many as the work is worth."""

    def __post_init__(self) -> None:
        check_counts(top=self.top, batch_size=self.batch_size, threads=self.threads)
        check_steps(self.time_steps, self.slices)
        if self.drawn < 0:
            raise InputError(f"drawn must be 0 or more, got {self.drawn}")
