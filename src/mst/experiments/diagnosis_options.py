"""Options of a diagnosis, see `mst.diagnose`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mst.errors import InputError

from .options import CheckpointOptions, CodingName, ScheduleName, check_counts, check_steps

ReferenceName = Literal["auto", "unclipped", "clipped"]

MOST_BITS = 16
"""Bits of a site that a diagnosis tries at most."""


@dataclass(frozen=True)
class DiagnosedCheckpoint(CheckpointOptions):
    """The network and the images that it is diagnosed on."""

    max_images: int | None = 64
    """Test images to diagnose on, evenly spaced; the network runs on them once for each of its sites."""

    batch_size: int = 16
    """Images at once; the outputs of all sites are kept for a batch."""

    calibration_images: int = 256
    """Training images that set the thresholds where other levels are tried."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(calibration_images=self.calibration_images)


@dataclass(frozen=True)
class DiagnosisOptions:
    """Trials of a diagnosis."""

    bits: tuple[int, ...] = (4, 5, 6, 8)
    """Numbers of bits to try at all sites at once; b bits are 2^b - 1 levels above the lowest."""

    reference: ReferenceName = "auto"
    """Network that errors are measured against: unclipped, sites act as the ReLU that they replaced or, before
    products, as the identity; clipped, sites only limit their input to the range of their levels. auto takes clipped
    where the network is far nearer to it, as after training with quantisation, in which it has learned to clip."""

    agreement: float = 0.99
    """Share of the images whose prediction must be the reference's (for bits) or the quantised network's (for time
    steps) before a number is called enough."""

    codings: tuple[CodingName, ...] = ("rate", "lossless")
    """Codings to simulate for the number of time steps."""

    schedule: ScheduleName | None = None
    """Lossless: firing schedule, as for `mst simulate`."""

    burst: int = 4
    """Lossless: maximum spikes per neuron per step."""

    time_steps: int = 64
    """T of these simulations; lossless ones end before, once all images have settled."""

    simulated_images: int = 8
    """Images that are simulated; 0 leaves the simulations out."""

    seed: int = 0
    """Seed of the masks."""

    def __post_init__(self) -> None:
        check_steps(self.time_steps)
        check_counts(burst=self.burst)
        if any(not 1 <= bits <= MOST_BITS for bits in self.bits):
            raise InputError(f"bits must be from 1 to {MOST_BITS}, got {', '.join(map(str, self.bits))}")
        if not 0 < self.agreement <= 1:
            raise InputError(f"agreement is a share of the images, above 0 and at most 1, got {self.agreement}")
        if self.simulated_images < 0:
            raise InputError(f"simulated_images must be 0 (no simulation) or more, got {self.simulated_images}")
