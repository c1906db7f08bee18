"""The loop over time steps: it owns the state of each run and reads the network out at every step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mst.convert import ConversionError, Obstacle, SpikingNetwork, watch
from mst.neurons import RunState, running
from mst.train import check_labels, count_hits

from .operations import OperationCount, OperationRecorder, trace_operations

NEURON_STEPS_PER_CHUNK = 2**24
"""Neurons times images times steps computed at once where `steps_per_chunk` is left open."""

Batches = Tensor | tuple[Tensor, Tensor] | Iterable[Tensor | tuple[Tensor, Tensor]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class SiteRecord:
    """The spikes of one site.

    num_neurons: per image.  threshold: λ in activation units, None if it differs by channel.
    sent_per_step: int64 [T], spikes that left the site, summed over images.
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

    logits: [N, classes], the read-out after the last step (rate coding: mean over the steps).
    step_logits: [T, N, classes], logits of each step, if they were kept.
    accuracy, top5_accuracy: float64 [T]; entry t-1 is the accuracy of a run stopped after t steps. None without
        labels.  sites: by name, in the order in which they fire.  operations: in the order in which they run.
    uncounted: operations whose cost is not known, see `Trace`.
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
    uncounted: tuple[str, ...] = ()

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
        """Site -> spikes per neuron per step."""
        per_step = self.num_images * self.num_steps
        return {n: count / (self.sites[n].num_neurons * per_step) for n, count in self.spike_counts.items()}

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron per step over the whole network."""
        neurons = sum(site.num_neurons for site in self.sites.values())
        return sum(self.spike_counts.values()) / (neurons * self.num_images * self.num_steps)

    @property
    def spikes_per_image(self) -> float:
        """Spikes of all sites over all steps, mean over images."""
        return sum(self.spike_counts.values()) / self.num_images


def simulate(
    snn: SpikingNetwork,
    data: Batches,
    num_steps: int,
    *,
    steps_per_chunk: int | None = None,
    keep_step_logits: bool = False,
    record_operations: bool = True,
    seed: int = 0,
    first_image: int = 0,
    progress: Progress | None = None,
    allow_empty: bool = False,
    in_slices: bool = False,
) -> SimulationResult:
    """Present each image for T steps, sum the logits and read the prediction after every step.

    Several steps are computed at once by folding them into the batch axis. That changes nothing: only neurons
    couple steps, and they take them one after another. (Floating-point sums may differ in their last bits between
    chunk lengths, which in float32 can move a spike of a neuron that is exactly at its threshold.) Memory does not
    grow with T, but for `step_logits`.

    Args:
        snn: what `mst.convert` returned.
        data: images [B, ...]; or a pair (images, labels); or an iterable of either (a DataLoader).
        num_steps: T >= 1.
        steps_per_chunk: steps computed at once; None chooses by the number of neurons.
        keep_step_logits: keep the logits of each step, [T, N, classes].
        record_operations: count MACs and ACs too (a few per cent of the time).
        seed: of the spike masks. Masks depend on (seed, site, step, image), so neither batch size nor chunk
            length changes them.
        first_image: index of the first image in a larger whole of which this is a part (see `simulate_dataset`).
        progress: called with the number of image-steps done since its last call.
        allow_empty: return a result of no images instead of raising, where there are none.
        in_slices: images have a time axis, [B, K, C, height, width] with K <= T, and step t sees slice t·K // T: with
            K = T each step its own. The neurons' state carries over from slice to slice. The ANN to compare with sees
            the mean.

    Returns:
        Accuracy at every step, spikes per site, operations.

    Raises:
        ValueError: snn is not converted, T or steps_per_chunk below 1, no data, batches of another form, labels
            outside the classes, images of a shape that the network does not take, or more slices than steps.
        ConversionError: the network does what spikes cannot carry, which `mst.convert` could not see without an image.

    Source: Masked Spiking Transformer (ICCV 2023), inference; released code (logits summed over steps).
    """
    if not isinstance(snn, SpikingNetwork):
        raise ValueError(f"simulate takes what mst.convert returns, got {type(snn).__name__}; convert the model first")
    if num_steps < 1:
        raise ValueError(f"num_steps (T) must be at least 1, got {num_steps}")
    if steps_per_chunk is not None and steps_per_chunk < 1:
        raise ValueError(f"steps_per_chunk must be at least 1, got {steps_per_chunk}")
    began = time.perf_counter()
    simulation = _Simulation(
        snn, num_steps, steps_per_chunk, keep_step_logits, record_operations, seed, first_image, progress, in_slices
    )
    with torch.no_grad():
        for images, labels in _batches(data):
            simulation.add_batch(images, labels)
    return simulation.result(time.perf_counter() - began, allow_empty)


def _batches(data: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(data, Tensor):
        yield data, None
    elif isinstance(data, tuple | list) and len(data) == 2 and _is_pair(data):
        yield data[0], data[1]  # type: ignore[misc]
    else:
        for batch in data:
            if isinstance(batch, Tensor):
                yield batch, None
            elif isinstance(batch, tuple | list) and len(batch) == 1 and isinstance(batch[0], Tensor):
                yield batch[0], None
            elif isinstance(batch, tuple | list) and len(batch) == 2 and _is_pair(batch):
                yield batch[0], batch[1]
            else:
                raise ValueError(f"a batch is images or (images, labels), got {_form(batch)}")


def _is_pair(values: Any) -> bool:
    """Whether the two are images and labels, not two batches of images."""
    images, labels = values
    return isinstance(images, Tensor) and isinstance(labels, Tensor) and labels.dim() < images.dim()


def _form(batch: object) -> str:
    inside = f" of {', '.join(type(item).__name__ for item in batch)}" if isinstance(batch, tuple | list) else ""
    return type(batch).__name__ + inside


class _Simulation:
    """Totals over the batches of one call of `simulate`."""

    def __init__(
        self,
        snn: SpikingNetwork,
        num_steps: int,
        steps_per_chunk: int | None,
        keep_step_logits: bool,
        record_operations: bool,
        seed: int,
        first_image: int,
        progress: Progress | None,
        in_slices: bool,
    ) -> None:
        self.snn = snn
        self.in_slices = in_slices
        self.num_steps = num_steps
        self.steps_per_chunk = steps_per_chunk
        self.keep_step_logits = keep_step_logits
        self.record_operations = record_operations
        self.seed = seed
        self.first_image = first_image
        self.progress = progress
        self.num_images = 0
        self.num_labelled = 0
        self.logits: list[Tensor] = []
        self.step_logits: list[Tensor] = []
        self.sites: dict[str, SiteRecord] = {}
        self.recorder: OperationRecorder | None = None
        self.uncounted: tuple[str, ...] = ()
        like = next((t for t in [*snn.parameters(), *snn.buffers()] if t.is_floating_point()), None)
        self.device = like.device if like is not None else torch.device("cpu")
        self.dtype = like.dtype if like is not None else torch.get_default_dtype()
        self.hits = {k: torch.zeros(num_steps, dtype=torch.int64, device=self.device) for k in (1, 5)}

    def add_batch(self, images: Tensor, labels: Tensor | None) -> None:
        images = images.to(self.device, self.dtype)
        batch = images.shape[0]
        if batch == 0:
            return
        if self.in_slices and (images.dim() not in (3, 5) or not 1 <= images.shape[1] <= self.num_steps):
            raise ValueError(
                f"images in slices are [B, K, C, height, width] with K from 1 to the {self.num_steps} time steps, got "
                f"{tuple(images.shape)}"
            )
        if self.num_images == 0:
            self._look_at(images[:1, 0] if self.in_slices else images[:1])
        run = RunState(self.seed, batch, first_image=self.first_image + self.num_images)
        if self.recorder is None:
            self._run(run, images, labels)
        else:
            with self.recorder.recording(run):
                self._run(run, images, labels)
        self.num_images += batch
        self._add_spikes(run)

    def _look_at(self, image: Tensor) -> None:
        """Before the first image: is there anything that spikes cannot carry, and what is there to count?"""
        if self.in_slices:
            seen, still = (watch(self.snn.network, image, is_static=is_static) for is_static in (False, True))
            of_slices = Counter(seen.max_pools) - Counter(still.max_pools)  # of spikes they pass, as with still images
            obstacles = [
                *seen.obstacles,
                *(Obstacle(where, "a max-pool that is a function, of slices over time", "make it an nn.MaxPool2d")
                  for where in of_slices),
            ]  # fmt: skip
            if obstacles and self.snn.examined:  # it converts: what stands in the way is before the first neuron
                obstacles = [
                    replace(each, what=f"{each.what} (with slices; a still image may pass)") for each in obstacles
                ]
            if obstacles:
                raise ConversionError(tuple(obstacles))
        if self.record_operations:
            trace = trace_operations(self.snn.network, image, is_static=not self.in_slices)
            self.uncounted = trace.uncounted
            self.recorder = OperationRecorder(
                self.snn.network, trace.operations, self.num_steps, count_input=self.in_slices
            )
        elif not self.snn.examined and not self.in_slices:
            obstacles = watch(self.snn.network, image).obstacles
            if obstacles:
                raise ConversionError(tuple(obstacles))

    def _run(self, run: RunState, images: Tensor, labels: Tensor | None) -> None:
        batch, total = run.batch_size, None
        kept: list[Tensor] = []
        start, chunk = 0, self.steps_per_chunk or 1
        while start < self.num_steps:
            run.begin_chunk(start, min(chunk, self.num_steps - start))
            with running(run):
                logits = self.snn(self._seen(images, start, run.steps_in_chunk))
            logits_TBK = logits.view(run.steps_in_chunk, batch, -1)
            running_TBK = logits_TBK.cumsum(dim=0)
            if total is not None:
                running_TBK += total
            total = running_TBK[-1]
            if labels is not None:
                self._count_hits(start, running_TBK, labels)
            if self.keep_step_logits:
                kept.append(logits_TBK)
            if self.progress is not None:
                self.progress(run.steps_in_chunk * batch)
            start += run.steps_in_chunk
            if self.steps_per_chunk is None:  # the first step has told how many neurons there are
                neurons = batch * sum(counts.num_neurons for counts in run.counts.values())
                chunk = max(1, NEURON_STEPS_PER_CHUNK // max(1, neurons))
        assert total is not None
        self.logits.append((total / self.num_steps).cpu())
        self.num_labelled += 0 if labels is None else batch
        if kept:
            self.step_logits.append(torch.cat(kept).cpu())

    def _seen(self, images: Tensor, start: int, steps: int) -> Tensor:
        """What the network sees in these steps, [steps*B, ...]: the images each time, or a slice of each."""
        if not self.in_slices:
            return images.repeat(steps, *[1] * (images.dim() - 1))
        at = torch.arange(start, start + steps, device=images.device) * images.shape[1] // self.num_steps
        return images[:, at].transpose(0, 1).flatten(0, 1)

    def _count_hits(self, start: int, running_TBK: Tensor, labels: Tensor) -> None:
        steps, batch, classes = running_TBK.shape
        if start == 0:
            check_labels(labels, batch, classes)
        top1, top5 = count_hits(running_TBK, labels)
        self.hits[1][start : start + steps] += top1
        self.hits[5][start : start + steps] += top5

    def _add_spikes(self, run: RunState) -> None:
        for name, counts in run.counts.items():
            sent, dropped = torch.cat(counts.sent).cpu(), torch.cat(counts.dropped).cpu()
            before = self.sites.get(name)
            if before is not None:
                sent, dropped = sent + before.sent_per_step, dropped + before.dropped_per_step
            self.sites[name] = SiteRecord(counts.num_neurons, counts.threshold, sent, dropped)

    def result(self, seconds: float, allow_empty: bool) -> SimulationResult:
        if self.num_images == 0 and not allow_empty:
            raise ValueError("there are no images to simulate")
        labelled = self.num_labelled == self.num_images > 0
        return SimulationResult(
            coding=self.snn.coding,
            num_steps=self.num_steps,
            num_images=self.num_images,
            seed=self.seed,
            logits=torch.cat(self.logits) if self.logits else torch.empty(0),
            step_logits=torch.cat(self.step_logits, dim=1) if self.step_logits else None,
            accuracy=self.hits[1].cpu().double() / self.num_images if labelled else None,
            top5_accuracy=self.hits[5].cpu().double() / self.num_images if labelled else None,
            sites=self.sites,
            operations=self.recorder.counts() if self.recorder is not None else (),
            seconds=seconds,
            uncounted=self.uncounted,
        )
