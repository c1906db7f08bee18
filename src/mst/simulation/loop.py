"""The loop over time steps: it owns the state of each run and reads the network out at every step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mst.accuracy import check_labels, count_hits
from mst.conversion import ConversionError, Obstacle, SpikingNetwork
from mst.dataflow import trace_dataflow
from mst.neurons import BEFORE_FIRST_STEP, RunState, begin_run, running
from mst.operations import ChangeCounter, OperationCounter, SpikeCounter, trace_operations

from .early_exit import EarlyExit, ExitWatch
from .input_schedule import Presentation
from .result import SimulationResult, SiteRecord

NEURON_STEPS_PER_CHUNK = 2**24
"""Neurons times images times steps computed at once where `steps_per_chunk` is left open."""

LOSSLESS_STEPS_PER_CHUNK = 4
"""No more steps at once under lossless coding: those behind the last that was needed are thrown away."""

Batches = Tensor | tuple[Tensor, Tensor] | Iterable[Tensor | tuple[Tensor, Tensor]]
Progress = Callable[[int], None]


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
    input_steps: int = 1,
    early_exit: EarlyExit | None = None,
    drop_settled: bool = False,
) -> SimulationResult:
    """Present each image for T steps and read the prediction after every step.

    Rate coding: the prediction is that of the mean of the logits so far. Lossless coding: of the logits as they are;
    a batch ends before T when none of its neurons can fire any more, its logits then being the ANN's.

    Several steps are computed at once by folding them into the batch axis. That changes nothing: only neurons
    couple steps, and they take them one after another. (Floating-point sums may differ in their last bits between
    chunk lengths, which in float32 can move a spike of a neuron that is exactly at its threshold.) Memory does not
    grow with T, but for `step_logits`.

    Args:
        snn: what `mst.convert` returned.
        data: images [B, ...]; or a pair (images, labels); or an iterable of either (a DataLoader).
        num_steps: T >= 1.
        steps_per_chunk: steps computed at once; None chooses by the number of neurons, under lossless coding few.
        keep_step_logits: keep the logits of each step, [T, N, classes].
        record_operations: count MACs and ACs too (a few per cent of the time).
        seed: of the spike masks. Masks depend on (seed, site, step, image), so neither batch size nor chunk
            length changes them.
        first_image: index of the first image in a larger whole of which this is a part (see `simulate_dataset`).
        progress: called with the number of image-steps done since its last call.
        allow_empty: return a result of no images instead of raising, where there are none.
        in_slices: images have a time axis, [B, K, C, height, width] with K <= T, and step t sees slice t·K // T: with
            K = T each step its own. The neurons' state carries over from slice to slice. The ANN to compare with sees
            the mean. Under lossless coding the slices add up to that mean.
        input_steps: lossless coding: spread each image over the first so many steps instead of showing it whole.
        early_exit: let each image leave when this rule says so; see `calibrate_early_exit`. Steps are then computed one
            at a time.
        drop_settled: lossless coding: let each image leave when it has settled, instead of all when the last has. What
            is left is then computed in a smaller batch, whose floating-point sums may differ in their last bits.

    Returns:
        Accuracy at every step, spikes per site, operations, steps that each image took.

    Raises:
        ValueError: snn is not converted, T or steps_per_chunk below 1, no data, batches of another form, labels
            outside the classes, images of a shape that the network does not take, more slices than steps, or options
            that do not go together.
        ConversionError: the network does what spikes cannot carry, which `mst.convert` could not see without an image.

    Source: Masked Spiking Transformer (ICCV 2023), inference; released code (logits summed over steps).
    """
    if not isinstance(snn, SpikingNetwork):
        raise ValueError(f"simulate takes what mst.convert returns, got {type(snn).__name__}; convert the model first")
    settings = _Settings(
        num_steps, steps_per_chunk, keep_step_logits, record_operations, seed, in_slices, input_steps, early_exit,
        drop_settled,
    )  # fmt: skip
    settings.check(snn.is_lossless)
    began = time.perf_counter()
    simulation = _Simulation(snn, settings, first_image, progress)
    with torch.no_grad():
        for images, labels in _batches(data):
            simulation.add_batch(images, labels)
    return simulation.result(time.perf_counter() - began, allow_empty)


@dataclass(frozen=True)
class _Settings:
    """Arguments of `simulate` that hold for every batch."""

    num_steps: int
    steps_per_chunk: int | None
    keep_step_logits: bool
    record_operations: bool
    seed: int
    in_slices: bool
    input_steps: int
    early_exit: EarlyExit | None
    drop_settled: bool

    def check(self, is_lossless: bool) -> None:
        """Refuse values out of range and options that do not go together."""
        if self.num_steps < 1:
            raise ValueError(f"num_steps (T) must be at least 1, got {self.num_steps}")
        if self.steps_per_chunk is not None and self.steps_per_chunk < 1:
            raise ValueError(f"steps_per_chunk must be at least 1, got {self.steps_per_chunk}")
        if not is_lossless and (self.input_steps != 1 or self.drop_settled):
            raise ValueError(
                "input_steps and drop_settled belong to lossless coding; rate coding shows the image at each step"
            )
        if not 1 <= self.input_steps <= self.num_steps:
            raise ValueError(f"input_steps must be from 1 to the {self.num_steps} time steps, got {self.input_steps}")
        if self.in_slices and self.input_steps != 1:
            raise ValueError("slices over time are spread already; input_steps is for still images")
        if self.early_exit is None:
            return
        if self.steps_per_chunk not in (None, 1):
            raise ValueError("with early exit steps are computed one at a time; leave steps_per_chunk out")
        if self.keep_step_logits:
            raise ValueError("an image that has left has no logits; keep the step logits of a run without early exit")
        if self.in_slices:
            raise ValueError("early exit is for still images: a recording that is cut short has not been seen whole")
        self.early_exit.check(self.num_steps)

    def chunk(self, is_lossless: bool, neurons: int) -> int:
        """Steps to compute at once, for so many neurons of all images."""
        if self.early_exit is not None:
            return 1
        if self.steps_per_chunk is not None:
            return self.steps_per_chunk
        fit = max(1, NEURON_STEPS_PER_CHUNK // max(1, neurons))
        if not is_lossless:
            return fit
        return 1 if self.drop_settled else min(fit, LOSSLESS_STEPS_PER_CHUNK)


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

    def __init__(self, snn: SpikingNetwork, settings: _Settings, first_image: int, progress: Progress | None) -> None:
        self.snn, self.settings = snn, settings
        self.first_image = first_image
        self.progress = progress
        self.num_images = 0
        self.logits: list[Tensor] = []
        self.step_logits: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.steps_taken: list[Tensor] = []
        self.settled_at: list[Tensor] = []
        self.sites: dict[str, SiteRecord] = {}
        self.counter: OperationCounter | None = None
        self.uncounted: tuple[str, ...] = ()
        like = next((t for t in [*snn.parameters(), *snn.buffers()] if t.is_floating_point()), None)
        self.device = like.device if like is not None else torch.device("cpu")
        self.dtype = like.dtype if like is not None else torch.get_default_dtype()
        self.hits = {k: torch.zeros(settings.num_steps, dtype=torch.int64, device=self.device) for k in (1, 5)}

    def add_batch(self, images: Tensor, labels: Tensor | None) -> None:
        images = images.to(self.device, self.dtype)
        labels = None if labels is None else labels.to(self.device)
        batch, num_steps = images.shape[0], self.settings.num_steps
        if batch == 0:
            return
        if self.settings.in_slices and (images.dim() not in (3, 5) or not 1 <= images.shape[1] <= num_steps):
            raise ValueError(
                f"images in slices are [B, K, C, height, width] with K from 1 to the {num_steps} time steps, got "
                f"{tuple(images.shape)}"
            )
        if self.num_images == 0:
            self._look_at(images[:1, 0] if self.settings.in_slices else images[:1])
        first_image = self.first_image + self.num_images
        run = begin_run(self.snn.network, seed=self.settings.seed, batch_size=batch, first_image=first_image)
        if self.counter is None:
            self._run(run, images, labels)
        else:
            with self.counter.counting(run):
                self._run(run, images, labels)
        self.num_images += batch
        self._add_spikes(run)

    def _look_at(self, image: Tensor) -> None:
        """Before the first image: is there anything that the coding cannot carry, and what is there to count?"""
        network, in_slices = self.snn.network, self.settings.in_slices
        if in_slices and not self.snn.is_lossless:
            self._refuse_slices(image)
        if self.settings.record_operations:
            counter = ChangeCounter if self.snn.is_lossless else SpikeCounter
            trace = trace_operations(
                network, image, is_static=not in_slices, any_function=self.snn.is_lossless,
                counts_changes=counter.counts_changes,
            )  # fmt: skip
            self.uncounted = trace.uncounted
            self.counter = counter(network, trace.operations, self.settings.num_steps, in_slices)
        elif not self.snn.examined and not in_slices:
            obstacles = trace_dataflow(network, image).obstacles
            if obstacles:
                raise ConversionError(tuple(obstacles))

    def _refuse_slices(self, image: Tensor) -> None:
        seen, still = (trace_dataflow(self.snn.network, image, is_static=is_static) for is_static in (False, True))
        of_slices = Counter(seen.max_pools) - Counter(still.max_pools)  # of spikes they pass, as with still images
        obstacles = [
            *seen.obstacles,
            *(Obstacle(where, "a max-pool that is a function, of slices over time", "make it an nn.MaxPool2d")
              for where in of_slices),
        ]  # fmt: skip
        if obstacles and self.snn.examined:  # it converts: what stands in the way is before the first neuron
            obstacles = [replace(each, what=f"{each.what} (with slices; a still image may pass)") for each in obstacles]
        if obstacles:
            raise ConversionError(tuple(obstacles))

    def _run(self, run: RunState, images: Tensor, labels: Tensor | None) -> None:
        settings, lossless = self.settings, self.snn.is_lossless
        shown = Presentation(images, settings.num_steps, settings.in_slices, lossless, settings.input_steps)
        if lossless and self.counter is not None:  # what is there before anything has changed
            run.begin_chunk(BEFORE_FIRST_STEP, 1)
            with running(run):
                self.snn(shown.nothing())
        batch = _BatchOutcome(len(images), settings, lossless, labels)
        start, chunk = 0, settings.steps_per_chunk or 1
        while start < settings.num_steps and len(batch.here):
            run.begin_chunk(start, min(chunk, settings.num_steps - start))
            with running(run):
                logits = self.snn(shown.at(start, run.steps_in_chunk))
            readout_TBK = batch.read(start, logits.view(run.steps_in_chunk, run.batch_size, -1))
            if labels is not None:
                self._count_hits(start, run.steps_in_chunk, readout_TBK, batch.labels_here)
            unsettled = run.unsettled if lossless else None
            leaving = batch.leaving(start, readout_TBK, unsettled, shown.complete_at)
            done = start + run.steps_in_chunk
            self._advance(run.steps_in_chunk * run.batch_size)
            if bool(leaving.any()):
                if labels is not None:  # who has left keeps the prediction
                    self._count_hits(
                        done, settings.num_steps - done, readout_TBK[-1:, leaving], batch.labels_here[leaving]
                    )
                self._advance(int(leaving.sum()) * (settings.num_steps - done))
                batch.drop(done, leaving)
                if len(batch.here):
                    run.keep_images(~leaving)
                    shown.keep_images(~leaving)
            start = done
            # the first step has told how many neurons there are
            neurons = run.batch_size * sum(counts.num_neurons for counts in run.counts.values())
            chunk = settings.chunk(lossless, neurons)
        self._add_outcome(batch)

    def _advance(self, image_steps: int) -> None:
        if self.progress is not None and image_steps:
            self.progress(image_steps)

    def _count_hits(self, start: int, steps: int, readout_TBK: Tensor, labels: Tensor) -> None:
        """Count the hits of `steps` steps; one read-out may stand for all of them."""
        if start == 0:
            check_labels(labels, *readout_TBK.shape[1:])
        top1, top5 = count_hits(readout_TBK, labels)
        self.hits[1][start : start + steps] += top1
        self.hits[5][start : start + steps] += top5

    def _add_spikes(self, run: RunState) -> None:
        for name, counts in run.counts.items():
            sent, dropped = (self._padded(torch.cat(each).cpu()) for each in (counts.sent, counts.dropped))
            before = self.sites.get(name)
            if before is not None:
                sent, dropped = sent + before.sent_per_step, dropped + before.dropped_per_step
            self.sites[name] = SiteRecord(counts.num_neurons, counts.threshold, sent, dropped)

    def _padded(self, per_step: Tensor) -> Tensor:
        """Nothing is sent in the steps after the last image has left."""
        padded = torch.zeros(self.settings.num_steps, dtype=per_step.dtype)
        padded[: len(per_step)] = per_step
        return padded

    def _add_outcome(self, batch: _BatchOutcome) -> None:
        assert batch.logits is not None
        self.logits.append(batch.logits.cpu())
        self.steps_taken.append(batch.steps_taken.cpu())
        self.settled_at.append(batch.settled_at.cpu())
        if batch.labels is not None:
            self.labels.append(batch.labels.cpu())
        if batch.step_logits is not None:
            self.step_logits.append(batch.step_logits.cpu())

    def result(self, seconds: float, allow_empty: bool) -> SimulationResult:
        if self.num_images == 0 and not allow_empty:
            raise ValueError("there are no images to simulate")
        labelled = sum(map(len, self.labels)) == self.num_images > 0
        return SimulationResult(
            coding=self.snn.coding,
            num_steps=self.settings.num_steps,
            num_images=self.num_images,
            seed=self.settings.seed,
            logits=_cat(self.logits),
            step_logits=torch.cat(self.step_logits, dim=1) if self.step_logits else None,
            accuracy=self.hits[1].cpu().double() / self.num_images if labelled else None,
            top5_accuracy=self.hits[5].cpu().double() / self.num_images if labelled else None,
            sites=self.sites,
            operations=self.counter.counts() if self.counter is not None else (),
            seconds=seconds,
            uncounted=self.uncounted,
            steps_taken=_cat(self.steps_taken),
            settled_at=_cat(self.settled_at) if self.snn.is_lossless else None,
            labels=torch.cat(self.labels) if labelled else None,
            input_steps=self.settings.input_steps,
            early_exit=self.settings.early_exit,
        )


def _cat(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0)


class _BatchOutcome:
    """What the images of one batch come to: which are still here, and with which logits and when the others left."""

    def __init__(self, size: int, settings: _Settings, lossless: bool, labels: Tensor | None) -> None:
        self._settings, self._lossless = settings, lossless
        self._watch = ExitWatch(settings.early_exit) if settings.early_exit is not None else None
        self._total: Tensor | None = None
        self.here = torch.arange(size)
        self.logits: Tensor | None = None
        self.step_logits: Tensor | None = None
        self.labels = labels
        self.steps_taken = torch.full((size,), settings.num_steps)
        self.settled_at = torch.full((size,), -1)

    @property
    def labels_here(self) -> Tensor:
        assert self.labels is not None
        return self.labels[self.here.to(self.labels.device)] if len(self.here) < len(self.labels) else self.labels

    def read(self, start: int, logits_TBK: Tensor) -> Tensor:
        """Logits of these steps -> what the predictions are read from, [T, B, classes]: logits, or their sum so far."""
        steps, _, classes = logits_TBK.shape
        if self._lossless:
            readout_TBK = logits_TBK
        else:
            readout_TBK = logits_TBK.cumsum(dim=0)
            if self._total is not None:
                readout_TBK += self._total
            self._total = readout_TBK[-1]
        if self.logits is None:
            self.logits = logits_TBK.new_empty(len(self.steps_taken), classes)
        self.logits[self.here.to(self.logits.device)] = self._mean(readout_TBK[-1], start + steps)
        if self._settings.keep_step_logits:
            if self.step_logits is None:
                self.step_logits = logits_TBK.new_empty(self._settings.num_steps, len(self.steps_taken), classes)
            here = self.here.to(self.step_logits.device)
            self.step_logits[start:, here] = logits_TBK[-1]  # stands for the steps to come, if there are none
            self.step_logits[start : start + steps, here] = logits_TBK
        return readout_TBK

    def _mean(self, readout: Tensor, steps: int) -> Tensor:
        return readout if self._lossless else readout / steps

    def leaving(self, start: int, readout_TBK: Tensor, unsettled_TB: Tensor | None, complete_at: int) -> Tensor:
        """bool [B]: who leaves after these steps. Notes who has settled and when."""
        done = start + len(readout_TBK)
        leaving = torch.zeros(len(self.here), dtype=torch.bool, device=readout_TBK.device)
        if unsettled_TB is not None:
            settled_TB = ~unsettled_TB
            settled_TB[: max(0, complete_at - start)] = False
            first = (start + 1 + settled_TB.to(torch.uint8).argmax(dim=0)).cpu()
            now = settled_TB.any(dim=0)
            before = self.settled_at[self.here] > 0
            new = self.here[now.cpu() & ~before]
            self.settled_at[new] = self.steps_taken[new] = first[now.cpu() & ~before]
            if self._settings.drop_settled or self._watch is not None or bool(now.all()):
                leaving |= now
        if self._watch is not None:
            leaving |= self._watch.leaving(done, self._mean(readout_TBK[-1], done))
        return leaving

    def drop(self, done: int, leaving: Tensor) -> None:
        """These images leave after `done` steps."""
        gone = leaving.cpu()
        self.steps_taken[self.here[gone]] = self.steps_taken[self.here[gone]].clamp_max(done)
        self.here = self.here[~gone]
        if self._total is not None:
            self._total = self._total[~leaving]
        if self._watch is not None:
            self._watch.keep_images(~leaving)
