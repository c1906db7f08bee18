"""The training loop: an ANN and images come in, a trained ANN and its history go out."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mst.checkpoints import CheckpointInfo
from mst.data import BatchLoader, ImageData, as_dataset, first_readable
from mst.data.samples import Batch
from mst.distributed import gather_values, largest_of, num_processes
from mst.errors import InputError
from mst.models import NetworkInput, ann_of, note_classes
from mst.progress import Stage
from mst.quantization import note_quantization, quantization_of, shape_thresholds
from mst.signals import StopRequest

from .acceleration import stored_channels_last
from .config import TrainConfig
from .distillation import teacher_of
from .evaluation import evaluate_checked
from .first_samples import check_first_samples
from .folder import PartialEpoch, TrainingFolder, flatten
from .order import EpochBatches, SeededImages
from .repeatable import repeatable
from .results import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    EpochRecord,
    TrainingDivergedError,
    TrainingObserver,
    TrainingResult,
    TrainingStoppedError,
)
from .state import has_training_state, load_training_state
from .steps import TrainingSteps, make_accelerator

STEPS_PER_CHECK = 10
"""Steps between two readings of the loss on an accelerator, each of which waits for the device; 1 on a CPU."""

SECONDS_WORTH_SAVING = 60.0
"""After an epoch of this length its state is written before its evaluation begins."""


def train(
    model: nn.Module,
    train_data: ImageData,
    test_data: ImageData,
    output: str | Path,
    config: TrainConfig,
    info: CheckpointInfo,
    *,
    resume: bool = False,
    observer: TrainingObserver | None = None,
    teacher: nn.Module | None = None,
) -> TrainingResult:
    """Train an ANN; after every epoch evaluate it and write the last and the best checkpoint.

    Linear warm-up and cosine schedule by step; cross-entropy with label smoothing, or with mixed labels. In processes
    that torchrun or accelerate launch started, each takes its share of every step. SIGTERM and Ctrl-C write the
    training state and stop.

    Args:
        model: a `MaskedSpikingTransformer`, or a network that `mst.quantize` returned; starts from its present weights.
            Wrappers of torch around it are left out (see `mst.models.unwrapped`).
        train_data: a data set or a list of samples (image, class number), (images, labels), or dicts with the keys of
            a Hugging Face data set; see `mst.data.ImageData`. The first sample is tried before any work begins.
        test_data: the same; a DataLoader will not do for either.
        output: folder for checkpoints, training state and logs; all processes must see the same folder.
        config: how to train.
        info: description that the checkpoints carry; figures of this training are added to its provenance.
        resume: continue from the training state in `output`.
        observer: callbacks for steps and epochs.
        teacher: with `TrainConfig.distillation`, the network to learn from besides the labels, usually the one before
            quantisation. It sees the same images and does not change.

    Raises:
        FileConflictError: `output` already holds a run and `resume` is off.
        MissingFileError: `resume` is on and there is nothing to resume.
        InputError: a spiking network; weights or images with NaN or infinity; samples of another form, images that the
            network does not take, or labels outside its classes; the state in `output` is damaged or belongs to other
            settings; too few images for one step; a model that a checkpoint cannot describe; a device that is not
            available; distillation without a teacher of the same classes, or the reverse; torch.compile, or images
            with the channels last, are asked for and do not work here.
        TrainingDivergedError: the loss became NaN or infinite; the last checkpoint stays.
        TrainingStoppedError: a signal asked for it; `resume` continues from there.
        OSError: `output` cannot be written.
    """
    model = ann_of(model, "mst.train", "train the ANN, then convert it with mst.convert")
    if not isinstance(output, str | PathLike):
        raise InputError(f"output must be the path of a folder, got {type(output).__name__}")
    for name, value, kind in (("config", config, TrainConfig), ("info", info, CheckpointInfo)):
        if not isinstance(value, kind):
            raise InputError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    train_data, test_data = as_dataset(train_data, "train_data"), as_dataset(test_data, "test_data")
    output = Path(output)
    note_classes(model, info.class_names)
    if resume and has_training_state(output):  # thresholds of the stored run may have one value per channel
        shape_thresholds(model, load_training_state(output)[0]["model"])
    is_last = config.channels_last
    in_format = stored_channels_last(model, first_readable(train_data, "train_data")[0]) if is_last else nullcontext()
    with StopRequest() as stop, repeatable(), in_format:
        trainer = _Trainer(model, train_data, test_data, output, config, info, teacher)
        return trainer.run(resume, observer or TrainingObserver(), stop)


class _Trainer:
    """One training run: its data, its steps, its folder and its epochs."""

    def __init__(
        self,
        model: nn.Module,
        train_data: Dataset[Any],
        test_data: Dataset[Any],
        output: Path,
        config: TrainConfig,
        info: CheckpointInfo,
        teacher: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.stop = StopRequest()
        image_shape, num_classes = check_first_samples(model, train_data, test_data)
        noted = quantization_of(model)
        if noted is not None and noted.image_shape is None:
            note_quantization(model, image_shape=image_shape)
        learned_from = teacher_of(model, teacher, config)
        if learned_from is not None:
            learned_from.check(first_readable(train_data, "train_data")[0], num_classes)
        self.accelerator = make_accelerator(config, output)
        self.batches = EpochBatches(
            len(train_data),  # type: ignore[arg-type]
            config.batch_size,
            config.accumulation_steps,
            config.seed,
            self.accelerator.num_processes,
            self.accelerator.process_index,
        )
        self._check_size()
        self.train_data = SeededImages(train_data, config.seed)
        self.loader = BatchLoader(
            self.train_data,
            batch_sampler=self.batches,
            num_workers=config.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        self.test_data = test_data
        self.steps = TrainingSteps(model, config, self.accelerator, self.batches.num_steps, num_classes, learned_from)
        self.intake = NetworkInput(model, has_warned=True)  # the model is now on the accelerator's device
        self.folder = TrainingFolder(output, config, info, self.steps)
        self.history: list[EpochRecord] = []
        self.begun = PartialEpoch()

    def _check_size(self) -> None:
        if self.batches.num_steps == 0:
            raise InputError(
                f"{self.batches.num_images} training images do not fill one step of {self.batches.images_per_step} "
                f"({self.accelerator.num_processes} process(es) x {self.config.accumulation_steps} batch(es) of "
                f"{self.config.batch_size})",
                remedy="lower batch_size",
            )

    def run(self, resume: bool, observer: TrainingObserver, stop: StopRequest) -> TrainingResult:
        """Train the epochs that are missing, or until a stop is asked for."""
        self.stop = stop
        if resume:
            self.history, self.begun = self.folder.restore()
        else:
            self.folder.begin()
        steps = self.batches.num_steps
        stage = Stage(observer.progress, self._name(), self.config.epochs * steps, "steps")
        if resume:
            stage.advance(len(self.history) * steps + self.begun.step)
        self._start_trackers()
        try:
            for epoch in range(len(self.history), self.config.epochs):
                record = self._epoch(epoch, stage)
                is_best = record.accuracy > self._best()
                self.history.append(record)
                self.begun = PartialEpoch()
                logged = {k: v for k, v in asdict(record).items() if k not in ("epoch", "seconds")}
                self.accelerator.log(logged, step=epoch)
                self._check_weights(PartialEpoch())
                self.folder.save_epoch(self.history, is_best)
                if observer.on_epoch is not None:
                    observer.on_epoch(record)
                self._stop_if_asked(epoch + 1)
        finally:
            for tracker in self.accelerator.trackers:  # end_training would also part the processes
                tracker.finish()
        path = self.folder.path
        return TrainingResult(tuple(self.history), self._best(), path / LAST_CHECKPOINT, path / BEST_CHECKPOINT)

    def _name(self) -> str:
        info = self.folder.info
        name = str(info.provenance.get("model", type(self.steps.raw_model).__name__))
        return f"training {name}" + (f" on {info.dataset}" if info.dataset else "")

    def _start_trackers(self) -> None:
        settings = flatten(self.folder.settings())
        shown = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
        self.accelerator.init_trackers("mst", config=shown)

    def _best(self) -> float:
        return max((record.accuracy for record in self.history), default=-1.0)

    def _epoch(self, epoch: int, stage: Stage) -> EpochRecord:
        began = time.perf_counter()
        with closing(self._begin_epoch(epoch)) as images_and_labels:  # workers end with the epoch, also after an error
            batches = _Timed(images_and_labels)
            total = self._train_epoch(epoch, batches, began, stage)
        trained = time.perf_counter() - began
        steps = self.batches.num_steps
        images = (steps - self.begun.step) * self.batches.images_per_step
        mean_loss = self._mean_over_processes(total) / steps
        self._check_finite(math.isfinite(mean_loss), f"the mean loss became {mean_loss}", epoch, steps - 1)
        self.steps.average_batch_norm()
        self._save_if_due(epoch, steps, total, began, SECONDS_WORTH_SAVING)
        config = self.config
        evaluation = evaluate_checked(
            self.steps.raw_model, self.intake, self.test_data, config.eval_batch_size, config.num_workers, config.seed
        )
        # The loss above is that of the weights before the last update.
        finite = bool(torch.isfinite(evaluation.logits).all())
        self._check_finite(finite, "the logits became NaN or infinite", epoch, steps - 1)
        return EpochRecord(
            epoch=epoch,
            loss=mean_loss,
            learning_rate=self.steps.learning_rate,
            accuracy=evaluation.accuracy,
            seconds=self.begun.seconds + time.perf_counter() - began,
            images_per_second=images / trained,
            data_wait=batches.waited / trained,
            quanta_per_neuron=evaluation.quanta_per_neuron,
        )

    def _begin_epoch(self, epoch: int) -> Generator[Batch, None, None]:
        self.batches.begin(epoch, self.begun.step)
        self.train_data.epoch = epoch
        self.steps.model.train()
        return iter(self.loader)

    def _train_epoch(self, epoch: int, batches: Iterator[Batch], began: float, stage: Stage) -> Tensor:
        """Take the steps of an epoch that are missing; returns the sum of the losses of all its steps."""
        steps = self.batches.num_steps
        total = self.steps.sum_from(self.begun.loss_sum)
        check_every = 1 if self.accelerator.device.type == "cpu" else STEPS_PER_CHECK
        unreported = 0
        for step in range(self.begun.step, steps):
            loss = self.steps.take(batches, epoch, step)
            total += loss
            unreported += 1
            if unreported == check_every or step == steps - 1:
                self._check_finite(math.isfinite(value := loss.item()), f"the loss became {value}", epoch, step)
                stage.advance(unreported, f"loss {value:.3f}")
                unreported = 0
                if step < steps - 1:
                    self._save_if_due(epoch, step + 1, total, began, 60 * self.config.checkpoint_minutes)
        return total

    def _mean_over_processes(self, total: Tensor) -> float:
        return sum(gather_values(float(total))) / num_processes()

    def _check_finite(self, finite: bool, what: str, epoch: int, step: int) -> None:
        if not finite:
            last = self.folder.path / LAST_CHECKPOINT
            kept = f"{last} holds the epoch before" if epoch else "No epoch was finished"
            raise TrainingDivergedError(
                f"{what} in epoch {epoch}, step {step}, at learning rate {self.steps.learning_rate:.3g}; lower "
                f"learning_rate or raise warmup_epochs. {kept}"
            )

    def _check_weights(self, begun: PartialEpoch) -> None:
        if self.accelerator.is_main_process:
            broken = self.steps.broken_parameters()
            self._check_finite(
                not broken, f"{', '.join(broken[:3])} became NaN or infinite", len(self.history), begun.step
            )

    def _save_if_due(self, epoch: int, steps_done: int, total: Tensor, began: float, after_seconds: float) -> None:
        """Within an epoch: write the state if a signal asks for it or the last one is old, and stop if asked."""
        due = time.monotonic() - self.folder.last_save >= after_seconds
        wanted = largest_of(2 if self.stop.signal is not None else int(due), self.accelerator.device)
        if not wanted:
            return
        self.steps.average_batch_norm()
        seconds = self.begun.seconds + time.perf_counter() - began
        begun = PartialEpoch(steps_done, self._mean_over_processes(total), seconds)
        self._check_weights(begun)
        self.folder.save_state(self.history, begun)
        if wanted == 2:
            self._stop(epoch, steps_done)

    def _stop_if_asked(self, epochs_done: int) -> None:
        asked = largest_of(int(self.stop.signal is not None), self.accelerator.device)
        if asked and epochs_done < self.config.epochs:
            self._stop(epochs_done, 0)

    def _stop(self, epoch: int, step: int) -> None:
        self.accelerator.wait_for_everyone()  # if one process ends early, the launcher ends the others while they write
        raise TrainingStoppedError(epoch, step, int(self.stop.signal or 15))


class _Timed:
    """An iterator that measures how long its consumer waits for it."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        began = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - began
        return batch
