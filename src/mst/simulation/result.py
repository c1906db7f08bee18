"""Result of a simulation: predictions, spikes and operations, step by step.

Letters: T steps, N images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mst.operations import FunctionCount, NeuronSite, OperationCount

from .early_exit import EarlyExit


@dataclass(frozen=True, repr=False)
class SiteRecord:
    """The spikes of one site."""

    num_neurons: int
    """Neurons per image."""

    threshold: float | None
    """λ in activation units; None if each channel has its own."""

    sent_per_step: Tensor
    """int64 [T], spikes that left the site, summed over images; of either sign, where neurons are signed."""

    dropped_per_step: Tensor
    """int64 [T], spikes that masking dropped, summed over images."""

    def __repr__(self) -> str:
        sent, dropped = int(self.sent_per_step.sum()), int(self.dropped_per_step.sum())
        return f"SiteRecord({self.num_neurons:,} neurons, {sent:,} spikes sent, {dropped:,} dropped)"


@dataclass(frozen=True, repr=False)
class SimulationResult:
    """Result of `mst.simulate`. Counts are exact integers; accuracies are fractions. All tensors are on the CPU."""

    coding: str
    """Name of the coding; `CODINGS` has it."""

    num_steps: int
    """T."""

    num_images: int
    """N."""

    seed: int
    """Seed of the spike masks."""

    logits: Tensor
    """[N, ...], the read-out at each image's last step in the form that the network returns ([N, classes], or maps
    [N, C, height, width]): the mean over its steps, or as it is."""

    step_logits: Tensor | None
    """[T, N, ...], logits of each step, if they were kept."""

    accuracy: Tensor | None
    """float64 [T]; entry t-1 is the accuracy of a run stopped after t steps. An image that has left or settled keeps
    its prediction. None without labels."""

    top5_accuracy: Tensor | None
    """Likewise, for the label among the five largest logits."""

    sites: dict[str, SiteRecord]
    """Spikes by site, in the order in which the sites fire."""

    operations: tuple[OperationCount, ...]
    """Counts of the operations, in the order in which they run; empty if they were not recorded."""

    seconds: float
    """Duration of the run."""

    uncounted: tuple[str, ...]
    """Operations whose cost is not known, see `mst.operations.Trace`."""

    steps_taken: Tensor
    """int64 [N], steps that each image needed: until it left by `early_exit` or had settled, else T."""

    settled_at: Tensor | None = None
    """int64 [N], steps after which no neuron of the image could fire any more; -1 where T steps were not enough. Its
    logits then are the ANN's. None if the coding does not settle."""

    labels: Tensor | None = None
    """int64 [N], if all images had one."""

    input_steps: int = 1
    """Steps over which the images were spread."""

    early_exit: EarlyExit | None = None
    """Rule by which images left early."""

    functions: tuple[FunctionCount, ...] = ()
    """Counts of the functions between the sites, in the order in which they run; empty if they were not recorded."""

    neurons: tuple[NeuronSite, ...] = ()
    """Facts about the sites on which the cost of their neurons depends; empty if operations were not recorded."""

    input_values: int = 0
    """Values of one image; 0 if operations were not recorded."""

    in_slices: bool = False
    """True if recordings were shown in slices over time."""

    dtype: str = ""
    """Type that the network computes in: "float32", "bfloat16", "float32, autocast to bfloat16"."""

    sum_dtype: str = ""
    """Type of what is summed over time: membrane potentials, inputs of max-pools, logits. Never below "float32"."""

    def __repr__(self) -> str:
        """One line, without tensors: SimulationResult(rate, T=64, 360 images, 98.89 %, 1.2 M spikes per image)."""
        parts = [self.coding, f"T={self.num_steps}"]
        if self.num_images and self.mean_steps < self.num_steps:
            parts.append(f"{self.mean_steps:.4g} steps per image")
        parts.append("1 image" if self.num_images == 1 else f"{self.num_images} images")
        if self.settled_at is not None:
            parts.append(f"{self.num_settled} settled")
        if self.accuracy is not None:
            parts.append(f"{100 * float(self.accuracy[-1]):.2f} %")
        if self.num_images:
            parts.append(f"{_rounded(self.spikes_per_image)} spikes per image")
        return f"SimulationResult({', '.join(parts)})"

    @property
    def mean_steps(self) -> float:
        """Steps that an image needed, mean over images."""
        return float(self.steps_taken.double().mean())

    @property
    def images_per_step(self) -> Tensor:
        """int64 [T]: images that had not left or settled before that step."""
        steps = torch.arange(1, self.num_steps + 1)
        return (self.steps_taken[None] >= steps[:, None]).sum(dim=1)

    @property
    def num_settled(self) -> int:
        """Images whose logits are the ANN's; 0 if the coding does not settle."""
        return 0 if self.settled_at is None else int((self.settled_at > 0).sum())

    @property
    def spike_counts(self) -> dict[str, int]:
        """Site -> spikes that left it, summed over steps and images."""
        return {name: int(site.sent_per_step.sum()) for name, site in self.sites.items()}

    @property
    def dropped_counts(self) -> dict[str, int]:
        """Site -> spikes that masking dropped, summed over steps and images."""
        return {name: int(site.dropped_per_step.sum()) for name, site in self.sites.items()}

    @property
    def sent_per_step(self) -> Tensor:
        """int64 [T]: spikes that left any site, summed over images."""
        return torch.stack([site.sent_per_step for site in self.sites.values()]).sum(dim=0)

    @property
    def firing_rates(self) -> dict[str, float]:
        """Site -> spikes per neuron per step, over the steps that each image needed."""
        steps = max(1, int(self.steps_taken.sum()))
        return {n: count / (self.sites[n].num_neurons * steps) for n, count in self.spike_counts.items()}

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron per step over the whole network."""
        neurons = sum(site.num_neurons for site in self.sites.values())
        return sum(self.spike_counts.values()) / (neurons * max(1, int(self.steps_taken.sum())))

    @property
    def spikes_per_image(self) -> float:
        """Spikes of all sites over all steps, mean over images."""
        return sum(self.spike_counts.values()) / self.num_images

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and image, over all steps that an image took."""
        return self.spikes_per_image / sum(site.num_neurons for site in self.sites.values())

    @property
    def spikes_per_image_after_step(self) -> Tensor:
        """float64 [T]: spikes of all sites up to each step, mean over images."""
        return self.sent_per_step.cumsum(0).double() / self.num_images


def _rounded(count: float) -> str:
    """Two significant digits and a unit: 950, 1.2 k, 1.2 M."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{unit}"
    return f"{count:.0f}"
