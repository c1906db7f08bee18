"""Options of traces, see `mst.simulation.trace_images`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from mst.errors import InputError

MOST_IMAGES, MOST_SITES, MOST_NEURONS = 16, 16, 1024
"""Limits of what is recorded."""


@dataclass(frozen=True)
class TraceOptions:
    """Neurons and images that are recorded step by step, for `mst report`."""

    trace_sites: tuple[str, ...] | None = None
    """Record the spikes and membrane potentials of these sites: attention, mlp, all, a role or a glob of site names;
    at most the first 16 that match. With --trace-images alone only class scores and attention maps are recorded."""

    trace_images: tuple[int, ...] | None = None
    """Images to record, by their place among the test images from 0, at most 16; 0,1,2 by default where sites are
    given."""

    trace_neurons: int = 64
    """Neurons of a site to record at most, evenly spaced, up to 1,024."""

    def __post_init__(self) -> None:
        images = self.trace_images
        if images is not None and not (0 < len(images) <= MOST_IMAGES and min(images) >= 0):
            raise InputError(f"trace_images are 1 to {MOST_IMAGES} numbers of images from 0, got {list(images)}")
        if self.trace_sites is not None and not self.trace_sites:
            raise InputError("trace_sites names no site", remedy="leave it out")
        if not 1 <= self.trace_neurons <= MOST_NEURONS:
            raise InputError(f"trace_neurons must be from 1 to {MOST_NEURONS}, got {self.trace_neurons}")
        if not self.is_on and self.trace_neurons != TraceOptions.trace_neurons:
            raise InputError("trace_neurons has no effect without trace_sites")

    @property
    def is_on(self) -> bool:
        """True if anything is recorded."""
        return self.trace_sites is not None or self.trace_images is not None
