"""What a simulation found: predictions, spikes and operations, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mst.operations import OperationCount

from .early_exit import EarlyExit


@dataclass(frozen=True)
class SiteRecord:
    """The spikes of one site.

    num_neurons: per image.  threshold: λ in activation units, None if it differs by channel.
    sent_per_step: int64 [T], spikes that left the site, summed over images; of either sign, where neurons are signed.
    dropped_per_step: int64 [T], spikes that random masking took.
    """

    num_neurons: int
    threshold: float | None
    sent_per_step: Tensor
    dropped_per_step: Tensor


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation saw. Counts are exact integers; accuracies are fractions.

    All tensors lie on the CPU.

    logits: [N, classes], the read-out at each image's last step (rate coding: mean over its steps; lossless: as it is).
    step_logits: [T, N, classes], logits of each step, if they were kept.
    labels: int64 [N], where all images had one.
    accuracy, top5_accuracy: float64 [T]; entry t-1 is the accuracy of a run stopped after t steps. None without
        labels. An image that has left or settled keeps its prediction.
    sites: by name, in the order in which they fire.  operations: in the order in which they run.
    uncounted: operations whose cost is not known, see `Trace`.
    steps_taken: int64 [N], steps that each image needed: until it left by `early_exit` or had settled, else T.
    settled_at: int64 [N], lossless coding: steps after which no neuron of the image could fire any more, -1 where T
        steps were not enough. Its logits then are the ANN's. None under rate coding.
    input_steps: steps over which the images were spread.
    """

    coding: str
    num_steps: int
    num_images: int
    seed: int
    logits: Tensor
    step_logits: Tensor | None
    accuracy: Tensor | None
    top5_accuracy: Tensor | None
    sites: dict[str, SiteRecord]
    operations: tuple[OperationCount, ...]
    seconds: float
    uncounted: tuple[str, ...]
    steps_taken: Tensor
    settled_at: Tensor | None = None
    labels: Tensor | None = None
    input_steps: int = 1
    early_exit: EarlyExit | None = None

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
        """Images whose logits are the ANN's; 0 under rate coding."""
        return 0 if self.settled_at is None else int((self.settled_at > 0).sum())

    @property
    def spike_counts(self) -> dict[str, int]:
        """Site -> spikes that left it, summed over steps and images."""
        return {name: int(site.sent_per_step.sum()) for name, site in self.sites.items()}

    @property
    def dropped_counts(self) -> dict[str, int]:
        """Site -> spikes that random masking took, summed over steps and images."""
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
    def spikes_per_image_after_step(self) -> Tensor:
        """float64 [T]: spikes of all sites up to each step, mean over images."""
        return self.sent_per_step.cumsum(0).double() / self.num_images
