"""Two simulations of one network, spike by spike; and one simulation of a graph, with its accuracy and spikes.

Letters: B images of a batch, T steps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .execution import Step

Steps = Callable[[Tensor, int], Iterator[Step]]
"""(images [B, ...], T) -> the steps of a run from its beginning."""

Progress = Callable[[int], None]
"""Called with the number of image-steps done since its last call."""


@dataclass(frozen=True)
class SiteDifference:
    """The spikes of one site in two simulations."""

    spikes: int
    """Spikes of the first, over all images and steps."""

    differing: int
    """Neurons times steps times images in which the two differ."""

    compared: int
    """All neurons times steps times images."""


@dataclass(frozen=True)
class Verification:
    """Two simulations of the same images."""

    sites: dict[str, SiteDifference]
    """By path of the site."""

    num_images: int
    """N."""

    num_steps: int
    """T."""

    largest_difference: float
    """Largest difference between two logits after T steps, each the mean over the steps."""

    same_answers: int
    """Images for which both give the same class after T steps."""

    @property
    def spikes(self) -> int:
        """Spikes of the first simulation."""
        return sum(site.spikes for site in self.sites.values())

    @property
    def differing(self) -> int:
        """Neurons times steps times images that differ."""
        return sum(site.differing for site in self.sites.values())

    @property
    def compared(self) -> int:
        """All neurons times steps times images."""
        return sum(site.compared for site in self.sites.values())


def compare_spikes(
    ours: Steps, theirs: Steps, batches: Iterable[Tensor], num_steps: int, progress: Progress | None = None
) -> Verification:
    """Run two simulations side by side and compare each neuron at each step.

    Args:
        ours, theirs: the simulations; see `network_steps`, `LoadedNetwork.steps`.
        batches: images [B, ...].
        num_steps: T.
        progress: called after each step.

    Returns:
        The differences.
    """
    counts: dict[str, list[int]] = {}
    images_done = same = 0
    largest = 0.0
    for images in batches:
        sums: list[Tensor | None] = [None, None]
        for pair in zip(ours(images, num_steps), theirs(images, num_steps), strict=True):
            for site, theirs_spikes in pair[1].spikes.items():
                ours_spikes = pair[0].spikes[site].reshape(theirs_spikes.shape)
                count = counts.setdefault(site, [0, 0, 0])
                count[0] += int((ours_spikes != 0).sum())
                count[1] += int((ours_spikes != theirs_spikes).sum())
                count[2] += theirs_spikes.numel()
            sums = [step.logits.double() if before is None else before + step.logits
                    for before, step in zip(sums, pair, strict=True)]  # fmt: skip
            if progress is not None:
                progress(len(images))
        first, second = (total / num_steps for total in sums if total is not None)
        largest = max(largest, float((first - second).abs().max()))
        same += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        images_done += len(images)
    sites = {site: SiteDifference(*count) for site, count in counts.items()}
    return Verification(sites, images_done, num_steps, largest, same)


@dataclass(frozen=True)
class GraphRun:
    """A simulation of labelled images."""

    accuracy: float
    """After T steps, a fraction."""

    spikes_per_image: float
    """Spikes of all sites over T steps."""

    num_images: int
    """N."""


def run_steps(
    steps: Steps, batches: Iterable[tuple[Tensor, Tensor]], num_steps: int, progress: Progress | None = None
) -> GraphRun:
    """Simulate labelled images.

    Args:
        steps: the simulation.
        batches: images [B, ...] and labels [B].
        num_steps: T.
        progress: called after each step.

    Returns:
        Accuracy and spikes.
    """
    hits = spikes = number = 0
    for images, labels in batches:
        total: Tensor | None = None
        for step in steps(images, num_steps):
            total = step.logits.double() if total is None else total + step.logits
            spikes += sum(int(torch.count_nonzero(each)) for each in step.spikes.values())
            if progress is not None:
                progress(len(images))
        assert total is not None
        hits += int((total.argmax(dim=1) == labels.to(total.device)).sum())
        number += len(images)
    return GraphRun(hits / max(1, number), spikes / max(1, number), number)
