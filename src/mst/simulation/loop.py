"""The loop over time steps: it owns the state of each run and reads the network out at every step.

Letters: T steps, B images of a batch, K what the network returns for one image (its classes, or a map).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from mst.accuracy import check_labels
from mst.conversion import SpikingNetwork
from mst.data.samples import Batch
from mst.errors import InputError
from mst.incremental import Program
from mst.models import NetworkInput
from mst.neurons import BEFORE_FIRST_STEP, RunState, SignedIFNeuron, begin_run, running
from mst.text import note, one_line

from .examination import Prepared, check_reached, prepare, refuse_nan, trace_for
from .input_schedule import InputSchedule
from .options import SimulationOptions
from .outcome import BatchOutcome
from .passes import IncrementalPasses, NotIncrementalError, WholePasses, program_for
from .result import SimulationResult
from .totals import Totals

NEURON_STEPS_PER_CHUNK = 2**26
"""Neurons times images times steps computed at once where `steps_per_chunk` is left open: larger sites then fill a few
hundred megabytes at most, which measured best on a CPU."""

SETTLING_NEURON_STEPS_PER_CHUNK = 2**24
"""Likewise under a coding that settles."""

STEPS_OF_PART = 8
"""Steps that a CPU computes at once at least: of a batch that is too large for this it takes some images after the
others, because what belongs to an image (its membrane potentials, masks) is then read once for several steps."""

FEWEST_OF_PART = 2
"""Images that are taken at once at least."""

FIRST_OF_PART = 4
"""Images that are taken first, while the number of neurons is not known."""

SETTLING_STEPS_PER_CHUNK = 4
"""Maximum steps at once under a coding that settles: those after the last one that was needed are thrown away."""

WHOLE_BATCHES = 2
"""Batches of a size that are computed whole where `incremental` is None: what comes before an incremental simulation
(to record the network, to try the program) takes as long as one or two of them."""

ImageStepsCallback = Callable[[int], None]
"""Called with the number of image-steps done since its last call."""


def run_batches(
    snn: SpikingNetwork,
    batches: Iterable[Batch],
    options: SimulationOptions,
    *,
    first_image: int = 0,
    progress: ImageStepsCallback | None = None,
) -> SimulationResult:
    """Simulate batches that may be a part of a larger whole, or none.

    Args:
        snn: the network.
        batches: images and labels.
        options: see `mst.simulate`.
        first_image: index in the whole of the first image.
        progress: called with the number of image-steps done since its last call.

    Returns:
        The result of these images; of none, if there are no images.

    Raises:
        InputError: as `mst.simulate`; one step of one image does not fit into memory.
    """
    began = time.perf_counter()
    with torch.inference_mode(False), torch.no_grad():
        loop = _Loop(snn, options, first_image, progress)
        for images, labels in batches:
            begin, fits = 0, labels is None or len(labels) == len(images)
            while begin < len(images):
                end = min(len(images), begin + loop.images_at_once()) if fits else len(images)
                if not loop.add_if_it_fits(images[begin:end], None if labels is None else labels[begin:end], fits):
                    continue
                if labels is not None and begin == 0 < end < len(images):  # the first part has shown the classes
                    check_labels(labels, len(images), loop.totals.num_classes)
                begin = end
        return loop.totals.result(loop.prepared, time.perf_counter() - began)


class _Loop:
    """One call of `run_batches`."""

    def __init__(
        self,
        snn: SpikingNetwork,
        options: SimulationOptions,
        first_image: int,
        progress: ImageStepsCallback | None,
    ) -> None:
        self._snn, self._options = snn, options
        self._first_image = first_image
        self._progress = progress
        self._intake = NetworkInput(snn.network, options.in_slices)
        like = self._intake.like
        self.totals = Totals(snn.coding, options, torch.empty(0) if like is None else like)
        self.prepared = Prepared()
        self._traced: torch.Size | None = None
        self._programs: dict[torch.Size, Program | None] = {}
        self._seen: Counter[torch.Size] = Counter()
        self._neurons: int | None = None
        self._most_images = self._most_steps = sys.maxsize  # lowered where memory does not suffice
        self._steps_of_chunk = 1
        self._reported = self._already_reported = 0  # image-steps: of this attempt, of those before it
        self._takes_parts = (
            options.num_steps > 1
            and options.steps_per_chunk is None
            and options.batch_size is None
            and options.early_exit is None
            and not snn.coding.settles
            and (like is None or like.device.type == "cpu")
        )

    def images_at_once(self) -> int:
        """Images of a batch that are to be taken at once."""
        if not self._takes_parts:
            return self._most_images
        if self._neurons is None:
            return min(FIRST_OF_PART, self._most_images)
        steps = min(STEPS_OF_PART, self._options.num_steps)
        fit = max(FEWEST_OF_PART, NEURON_STEPS_PER_CHUNK // max(1, self._neurons * steps))
        return min(fit, self._most_images)

    def add_if_it_fits(self, images: Tensor, labels: Tensor | None, can_be_cut: bool) -> bool:
        """Simulate one batch and add it to the totals.

        A batch that runs out of memory cannot be taken up again where it was, because neurons have fired in place: all
        that has been counted of it is taken back, and it begins again with half the steps at once, or half the images.

        Args:
            images, labels: the batch.
            can_be_cut: True if the batch may be simulated in parts.

        Returns:
            False if it did not fit and less will be taken at once: it is to be added again.

        Raises:
            InputError: not even one step of one image fits.
        """
        before, traced = self.prepared, self._traced
        take_back = [each.snapshot() for each in (self.totals, before.counter, before.functions) if each is not None]
        self._reported = 0
        self._steps_of_chunk = 1
        try:
            batch, run = self._simulate(images, labels)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if not self._take_less(len(images), can_be_cut, one_line(error)):
                raise InputError(
                    f"one step of {len(images)} image(s) does not fit into memory ({one_line(error)})",
                    remedy="take fewer images at once (batch_size), or a smaller network",
                ) from error
        else:
            self.totals.add_outcome(batch)
            self.totals.add_spikes(run)
            return True
        for undo in take_back:  # here the error, and with it all tensors of the run, is gone
            undo()
        self.prepared, self._traced = before, traced
        self._already_reported += self._reported
        torch.cuda.empty_cache()  # does nothing where CUDA is not used
        return False

    def _take_less(self, images: int, can_be_cut: bool, reason: str) -> bool:
        """Halve the steps of a chunk or, if it was one, the images of a batch; False if neither is possible."""
        steps = self._steps_of_chunk
        if steps > 1:
            self._most_steps = steps // 2
        elif images > 1 and can_be_cut:
            self._most_images = images // 2
        else:
            return False
        less = f"{self._most_steps} steps" if steps > 1 else f"{self._most_images} images"
        note(
            f"out of memory with {images} image(s) and {steps} step(s) at once ({reason}): "
            f"the batch begins again, with at most {less} at once"
        )
        return True

    def _simulate(self, images: Tensor, labels: Tensor | None) -> tuple[BatchOutcome, RunState]:
        options = self._options
        first_image = self._first_image + self.totals.num_images
        images = self._intake.take(images, first_image)
        labels = None if labels is None else labels.to(images.device)
        if options.in_slices and (images.dim() not in (3, 5) or not 1 <= images.shape[1] <= options.num_steps):
            raise InputError(
                f"images in slices are [B, K, C, height, width] with K from 1 to the {options.num_steps} time steps, "
                f"got {tuple(images.shape)}"
            )
        first = images[:1, 0] if options.in_slices else images[:1]
        self._prepare(first)
        program = self._program(images[:, 0] if options.in_slices else images)
        run = begin_run(self._snn.network, seed=options.seed, batch_size=len(images), first_image=first_image)
        with ExitStack() as counting:
            for counter in (self.prepared.counter, self.prepared.functions):
                if counter is not None:
                    counting.enter_context(counter.counting(run))
            batch = self._run(run, images, labels, program)
        refuse_nan(run)
        return batch, run

    def _program(self, images: Tensor) -> Program | None:
        """The network as a program for images like these [B, ...], for incremental simulation; None for another."""
        options, shape = self._options, images.shape
        if options.incremental is None:
            is_open = self._snn.coding.settles and options.steps_per_chunk is None and options.early_exit is None
            self._seen[shape] += 1
            if not is_open or self._seen[shape] <= WHOLE_BATCHES:
                return None
        elif not options.incremental:
            return None
        if shape not in self._programs:
            try:
                self._programs[shape] = program_for(self._snn, images)
            except NotIncrementalError:
                if options.incremental:
                    raise
                self._programs[shape] = None
        return self._programs[shape]

    def _prepare(self, first: Tensor) -> None:
        """Examine the network before the first image [1, ...], and again for images of another size."""
        before = self._traced
        if first.shape == before or (before is not None and self.prepared.counter is None):
            return
        with self._intake.shown(first):
            if self.prepared.counter is None:
                self.prepared = prepare(self._snn, first, self._options)
            else:
                trace = trace_for(self._snn, first, in_slices=self._options.in_slices, is_examined=True)
                self.prepared.counter.set_fan_outs(trace.fan_outs)
        self._traced = first.shape

    def _run(self, run: RunState, images: Tensor, labels: Tensor | None, program: Program | None) -> BatchOutcome:
        options, coding = self._options, self._snn.coding
        if program is not None:  # one step at a time; images that have settled stay, at no cost
            options = replace(options, drop_settled=False, steps_per_chunk=1)
        shown = InputSchedule(images, options.num_steps, options.in_slices, coding.sends_changes, options.input_steps)
        batch = BatchOutcome(len(images), options, coding, labels)
        counter = self.prepared.counter
        if counter is not None and counter.counts_changes:
            self._rest(run, shown.before_first_step())
        passes = WholePasses(self._snn, self._intake, run, shown)
        if program is not None:
            passes = IncrementalPasses(self._snn, self._intake, run, shown, program, self.prepared, options.num_steps)
        start, chunk = 0, self._steps_at_once(options, run.batch_size)
        while start < options.num_steps and len(batch.here):
            self._steps_of_chunk = min(chunk, options.num_steps - start)
            run.begin_chunk(start, self._steps_of_chunk)
            logits = passes.logits()
            if start == 0:
                check_reached(run, self.prepared.sites)
            readout_TBK = batch.read(start, logits.reshape(run.steps_in_chunk, run.batch_size, *logits.shape[1:]))
            if labels is not None:
                self.totals.count_hits(start, run.steps_in_chunk, readout_TBK, batch.labels_here)
            unsettled = run.unsettled if coding.settles else None
            leaving = batch.leaving(start, readout_TBK, unsettled, shown.complete_at)
            start += run.steps_in_chunk
            self._report(run.steps_in_chunk * run.batch_size)
            if leaving is not None and bool(leaving.any()):
                self._let_leave(leaving, start, readout_TBK, batch)
                if len(batch.here):
                    refuse_nan(run, leaving)
                    run.keep_images(~leaving)
                    passes.keep_images(~leaving)
            # The first step has shown how many neurons there are.
            self._neurons = sum(counts.num_neurons for counts in run.counts.values())
            chunk = self._steps_at_once(options, run.batch_size)
        return batch

    def _steps_at_once(self, options: SimulationOptions, images: int) -> int:
        """Steps of the next chunk, for so many images; one while the number of neurons is not known."""
        return min(self._most_steps, self._steps_that_suit(options, images))

    def _steps_that_suit(self, options: SimulationOptions, images: int) -> int:
        if options.early_exit is not None:
            return 1
        if options.steps_per_chunk is not None:
            return options.steps_per_chunk
        if self._neurons is None:
            return 1
        neurons = max(1, images * self._neurons)
        if not self._snn.coding.settles:
            return max(STEPS_OF_PART if self._takes_parts else 1, NEURON_STEPS_PER_CHUNK // neurons)
        fit = max(1, SETTLING_NEURON_STEPS_PER_CHUNK // neurons)
        return 1 if options.drop_settled else min(fit, SETTLING_STEPS_PER_CHUNK)

    def _rest(self, run: RunState, nothing: Tensor) -> None:
        """Show the counters the network before its first step. It is the same for all images, unless a mask, which is
        drawn for each image, drops initial levels."""
        neurons = [each for each in self._snn.network.modules() if isinstance(each, SignedIFNeuron)]
        alike = not any(each.mask is not None and each.initial_levels is not None for each in neurons)
        run.begin_chunk(BEFORE_FIRST_STEP, 1)
        number = run.batch_size
        run.batch_size = 1 if alike else number
        with running(run):
            self._snn(nothing[: run.batch_size])
        if alike:
            run.repeat_image(number)

    def _let_leave(self, leaving: Tensor, done: int, readout_TBK: Tensor, batch: BatchOutcome) -> None:
        """Images leave after `done` steps and keep their prediction; leaving: bool [B]."""
        steps_left = self._options.num_steps - done
        if batch.labels is not None:
            self.totals.count_hits(done, steps_left, readout_TBK[-1:, leaving], batch.labels_here[leaving])
        self._report(int(leaving.sum()) * steps_left)
        batch.drop(done, leaving)

    def _report(self, image_steps: int) -> None:
        self._reported += image_steps
        again = min(image_steps, self._already_reported)
        self._already_reported -= again
        if self._progress is not None and image_steps > again:
            self._progress(image_steps - again)
