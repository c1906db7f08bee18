"""The training loop, on accelerate: an ANN and images in, a trained ANN and its history out."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import distribute_bn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mst.data import leave_signals
from mst.models import (
    CheckpointInfo,
    describe_model,
    note_quantization,
    num_classes_of,
    quantization_of,
    save_checkpoint,
    shape_thresholds,
    synchronise_batch_norm,
)
from mst.neurons import name_sites

from .config import EpochRecord, TrainConfig, TrainingDivergedError, TrainingResult, TrainingStoppedError
from .evaluation import evaluate_dataset
from .order import EpochBatches, SeededImages, seed_step
from .processes import gather_values, join_processes, largest_of, runs_on_cpu
from .quanta import QuantaCounter
from .signals import StopRequest
from .state import has_training_state, load_training_state, remove_leftovers, save_training_state

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last.safetensors"
BEST_CHECKPOINT = "best.safetensors"


FREE_ON_RESUME = ("num_workers", "eval_batch_size", "device", "trackers", "checkpoint_minutes")
"""Settings that do not change a run's numbers."""

STEPS_PER_CHECK = 10
"""Training steps between two looks at the loss on an accelerator, each of which waits for it; on a CPU it is 1."""

SECONDS_WORTH_SAVING = 60.0
"""After so long an epoch its state is written before its evaluation begins."""

Progress = Callable[[int, float], None]
"""Called with (steps done since the last call, loss of the last step)."""


def train(
    model: nn.Module,
    train_data: Dataset[tuple[Tensor, int]],
    test_data: Dataset[tuple[Tensor, int]],
    output: str | Path,
    config: TrainConfig,
    info: CheckpointInfo,
    *,
    resume: bool = False,
    on_step: Progress | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Train an ANN; after every epoch evaluate it and write the last and the best checkpoint.

    Linear warm-up and cosine by step; cross-entropy with label smoothing, or with mixed labels. In processes that
    torchrun or accelerate launch started, each takes its share of every step. SIGTERM and Ctrl-C write the training
    state and stop.

    Args:
        model: a `MaskedSpikingTransformer` or what `mst.quantize` returned; starts from the weights it has.
        train_data, test_data: (image, label) pairs.
        output: folder for checkpoints, training state and logs; one that all processes see.
        config: how to train.
        info: what the checkpoints say of themselves; provenance is completed here.
        resume: go on from the training state in `output`.
        on_step, on_epoch: progress.  on_resume: told how many steps are done already.

    Raises:
        FileExistsError: `output` holds a run already and resume is off.
        FileNotFoundError: resume is on and there is nothing to resume.
        ValueError: the state in `output` belongs to other settings; too few images for one step; a model that a
            checkpoint could not describe.
        TrainingDivergedError: the loss became NaN or infinite; the last checkpoint stays.
        TrainingStoppedError: a signal asked for it; resume goes on from there.
        OSError: `output` cannot be written.
    """
    if resume and has_training_state(Path(output)):  # its thresholds may be one for each channel
        shape_thresholds(model, load_training_state(Path(output))[0]["model"])
    with StopRequest() as stop, _repeatable():
        trainer = _Trainer(model, train_data, test_data, Path(output), config, info, stop)
        return trainer.run(resume, on_step, on_epoch, on_resume)


class _Trainer:
    """One training run: its parts, prepared by accelerate, and its epochs."""

    def __init__(
        self,
        model: nn.Module,
        train_data: Dataset[tuple[Tensor, int]],
        test_data: Dataset[tuple[Tensor, int]],
        output: Path,
        config: TrainConfig,
        info: CheckpointInfo,
        stop: StopRequest | None = None,
    ) -> None:
        self.config, self.output, self.info = config, output, info
        noted = quantization_of(model)
        if noted is not None and noted.image_shape is None and len(train_data):  # type: ignore[arg-type]
            note_quantization(model, image_shape=tuple(train_data[0][0].shape))
        self.stop = stop or StopRequest()
        self.accelerator = _accelerator(config, output)
        self.batches = EpochBatches(
            len(train_data),  # type: ignore[arg-type]
            config.batch_size,
            config.accumulation_steps,
            config.seed,
            self.accelerator.num_processes,
            self.accelerator.process_index,
        )
        if self.batches.num_steps == 0:
            raise ValueError(
                f"{self.batches.num_images} training images do not fill one step of {self.batches.images_per_step} "
                f"({self.accelerator.num_processes} process(es) x {config.accumulation_steps} batch(es) of "
                f"{config.batch_size})"
            )
        self.train_data = SeededImages(train_data, config.seed)
        self.loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self.train_data,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            num_workers=config.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=leave_signals,
        )
        self.test_data = test_data
        if config.sync_batch_norm:
            synchronise_batch_norm(model)
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=_without_decay(model))
        optimizer = create_optimizer_v2(groups, opt=config.optimizer, lr=config.learning_rate)
        self.raw_model = model
        self.quanta = QuantaCounter(model)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        if self.accelerator.num_processes > 1:
            self.model.broadcast_buffers = False  # they are averaged after an epoch; at each step that would be waste
        # Mixed precision belongs to `_step` alone: prepare has put it into model.forward, where evaluation and the
        # caller's own use of the model would meet it too.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.scheduler = _schedule(optimizer, config, self.batches.num_steps)
        self.mixup = _mixup(config, model)
        self.loss: nn.Module = (
            SoftTargetCrossEntropy() if self.mixup else nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        )
        self.history: list[EpochRecord] = []
        self.begun = _Begun()
        self.last_save = time.monotonic()

    def run(
        self,
        resume: bool,
        on_step: Progress | None,
        on_epoch: Callable[[EpochRecord], None] | None,
        on_resume: Callable[[int], None] | None,
    ) -> TrainingResult:
        if resume:
            self._restore()
            if on_resume is not None:
                on_resume(len(self.history) * self.batches.num_steps + self.begun.step)
        else:
            self._begin()
        settings = _flatten(self._settings())
        shown = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
        self.accelerator.init_trackers("mst", config=shown)
        try:
            for epoch in range(len(self.history), self.config.epochs):
                record = self._epoch(epoch, on_step)
                is_best = record.accuracy > self._best()
                self.history.append(record)
                self.begun = _Begun()
                logged = {k: v for k, v in asdict(record).items() if k not in ("epoch", "seconds")}
                self.accelerator.log(logged, step=epoch)
                self._save(is_best)
                if on_epoch is not None:
                    on_epoch(record)
                self._stop_if_asked(epoch + 1)
        finally:
            for tracker in self.accelerator.trackers:  # end_training would part the processes, which go on
                tracker.finish()
        return TrainingResult(
            tuple(self.history), self._best(), self.output / LAST_CHECKPOINT, self.output / BEST_CHECKPOINT
        )

    def _best(self) -> float:
        return max((record.accuracy for record in self.history), default=-1.0)

    def _begin(self) -> None:
        if has_training_state(self.output):
            raise FileExistsError(
                f"{self.output} already holds a run; continue it with --resume, or choose another output folder"
            )
        self.output.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            remove_leftovers(self.output)

    def _settings(self) -> dict[str, Any]:
        """What has to be the same for a run to be continued: all that its numbers follow from."""
        train = {name: value for name, value in asdict(self.config).items() if name not in FREE_ON_RESUME}
        settings = {
            "train": train,
            "num_processes": self.accelerator.num_processes,
            "model": describe_model(self.raw_model),
            "dataset": self.info.dataset,
            "preprocessing": None if self.info.preprocessing is None else asdict(self.info.preprocessing),
            "provenance": self.info.provenance,
        }
        return dict(json.loads(json.dumps(settings)))  # as they come back from a file: lists for tuples

    def _restore(self) -> None:
        state, damaged = load_training_state(self.output)
        then, now = _flatten(state["config"]), _flatten(self._settings())
        later = {key for key in now.keys() - then.keys() if not now[key]}  # options that came later, and are off
        changed = [
            f"{key}: {then.get(key)} -> {now.get(key)}"
            for key in {**then, **now}
            if then.get(key) != now.get(key) and key not in later
        ]
        if changed:
            raise ValueError(
                f"{self.output} was trained with other settings, so it cannot go on; repeat the options it was started "
                f"with: {'; '.join(changed)}"
            )
        self.raw_model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        known = {field.name for field in fields(EpochRecord)}
        self.history = [EpochRecord(**{k: v for k, v in r.items() if k in known}) for r in state["history"]]
        self.begun = _Begun(state["step"], state["loss_sum"], state["seconds"])
        logger.info("resuming %s after epoch %d, step %d", self.output, state["epoch"], state["step"])
        self.accelerator.wait_for_everyone()  # all have read the state
        if self.accelerator.is_main_process:
            if damaged is not None:  # so that the next write does not take it for the state to fall back to
                damaged.unlink(missing_ok=True)
            remove_leftovers(self.output)
            if self.history and not self.begun.step and not _is_whole(self.output / LAST_CHECKPOINT):
                self._save_checkpoint(LAST_CHECKPOINT)

    def _epoch(self, epoch: int, on_step: Progress | None) -> EpochRecord:
        began = time.perf_counter()
        steps = self.batches.num_steps
        self.batches.begin(epoch, self.begun.step)
        self.train_data.epoch = epoch
        self.model.train()
        total = torch.tensor(
            self.begun.loss_sum, dtype=_sum_dtype(self.accelerator.device), device=self.accelerator.device
        )
        look_every = 1 if self.accelerator.device.type == "cpu" else STEPS_PER_CHECK
        unseen = 0
        batches = _Timed(iter(self.loader))
        for step in range(self.begun.step, steps):
            self.scheduler.step_update(epoch * steps + step)
            loss = self._step(batches, epoch, step)
            total += loss
            unseen += 1
            if unseen == look_every or step == steps - 1:
                self._check_finite(math.isfinite(value := loss.item()), f"the loss became {value}", epoch, step)
                if on_step is not None:
                    on_step(unseen, value)
                unseen = 0
                if step < steps - 1:
                    self._save_if_due(epoch, step + 1, total, began)
        trained = time.perf_counter() - began
        images = (steps - self.begun.step) * self.batches.images_per_step
        mean_loss = sum(gather_values(total.item())) / self.accelerator.num_processes / steps
        self._check_finite(math.isfinite(mean_loss), f"the mean loss became {mean_loss}", epoch, steps - 1)
        if self.accelerator.num_processes > 1:
            distribute_bn(self.raw_model, self.accelerator.num_processes, reduce=True)
        self._save_if_due(epoch, steps, total, began, SECONDS_WORTH_SAVING)
        evaluation = evaluate_dataset(
            self.raw_model,
            self.test_data,
            self.config.eval_batch_size,
            num_workers=self.config.num_workers,
            seed=self.config.seed,
        )
        # The loss above is that of the weights before the last update.
        finite = bool(torch.isfinite(evaluation.logits).all())
        self._check_finite(finite, "the logits became NaN or infinite", epoch, steps - 1)
        return EpochRecord(
            epoch=epoch,
            loss=mean_loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            accuracy=evaluation.accuracy,
            seconds=self.begun.seconds + time.perf_counter() - began,
            images_per_second=images / trained,
            data_wait=batches.waited / trained,
            quanta_per_neuron=evaluation.quanta_per_neuron,
        )

    def _check_finite(self, finite: bool, what: str, epoch: int, step: int) -> None:
        if not finite:
            kept = f"{self.output / LAST_CHECKPOINT} holds the epoch before" if epoch else "No epoch was finished"
            raise TrainingDivergedError(
                f"{what} in epoch {epoch}, step {step}, at learning rate "
                f"{self.optimizer.param_groups[0]['lr']:.3g}; lower learning_rate or raise warmup_epochs. {kept}"
            )

    def _step(self, batches: Iterator[tuple[Tensor, Tensor]], epoch: int, step: int) -> Tensor:
        """One update of the weights; returns the mean loss of this process's batches."""
        total = torch.zeros((), dtype=_sum_dtype(self.accelerator.device), device=self.accelerator.device)
        count = self.config.accumulation_steps
        for batch in range(count):
            images, targets = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in next(batches))
            seed_step(self.config.seed, epoch, step * count + batch, self.accelerator.process_index)
            if self.mixup is not None:
                images, targets = self.mixup(images, targets)
            is_last = batch == count - 1
            with (
                nullcontext() if is_last else self.accelerator.no_sync(self.model),
                # To the end of the backward pass: gradient checkpointing runs the forward, and the counting, again.
                self.quanta.counting() if self.config.spike_penalty else nullcontext(),
            ):
                loss = self._loss(images, targets)
                self.accelerator.backward(loss / count)
            total += loss.detach() / count
        if self.config.clip_grad_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        with self.accelerator.autocast():
            loss: Tensor = self.loss(self.model(images), targets)
            if self.config.spike_penalty:
                loss = loss + self.config.spike_penalty * self.quanta.per_neuron
            return loss

    def _save_if_due(
        self, epoch: int, steps_done: int, total: Tensor, began: float, after_seconds: float | None = None
    ) -> None:
        """Within an epoch: write the state if a signal asks for it or the last one is old, and stop if asked."""
        if after_seconds is None:
            after_seconds = 60 * self.config.checkpoint_minutes
        due = time.monotonic() - self.last_save >= after_seconds
        wanted = largest_of(2 if self.stop.signal is not None else int(due), self.accelerator.device)
        if not wanted:
            return
        if self.accelerator.num_processes > 1:
            distribute_bn(self.raw_model, self.accelerator.num_processes, reduce=True)
        loss_sum = sum(gather_values(total.item())) / self.accelerator.num_processes
        self._save_state(_Begun(steps_done, loss_sum, self.begun.seconds + time.perf_counter() - began))
        if wanted == 2:
            self._stop(epoch, steps_done)

    def _stop_if_asked(self, epochs_done: int) -> None:
        asked = largest_of(int(self.stop.signal is not None), self.accelerator.device)
        if asked and epochs_done < self.config.epochs:
            self._stop(epochs_done, 0)

    def _stop(self, epoch: int, step: int) -> None:
        self.accelerator.wait_for_everyone()  # a process that ends early has the launcher end the others, who may write
        number = self.stop.signal or 15
        raise TrainingStoppedError(
            f"stopped after {epoch} epoch(s) and {step} step(s); the training state is written, and --resume goes on",
            int(number),
        )

    def _save(self, is_best: bool) -> None:
        """Write the checkpoints of the epoch just finished, then the state."""
        if is_best:
            self._save_checkpoint(BEST_CHECKPOINT)
        self._save_checkpoint(LAST_CHECKPOINT)
        self._save_state(_Begun())

    def _save_checkpoint(self, name: str) -> None:
        if not self.accelerator.is_main_process:
            return
        record = self.history[-1]
        provenance = {
            **self.info.provenance,
            "epochs": record.epoch + 1,
            "accuracy": record.accuracy,
            "train": asdict(self.config),
            "num_processes": self.accelerator.num_processes,
        }
        info = CheckpointInfo(self.info.dataset, self.info.class_names, self.info.preprocessing, provenance)
        save_checkpoint(self.raw_model, self.output / name, info)

    def _save_state(self, begun: _Begun) -> None:
        self.last_save = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        broken = [name for name, p in self.raw_model.named_parameters() if not bool(torch.isfinite(p).all())]
        self._check_finite(not broken, f"{', '.join(broken[:3])} became NaN or infinite", len(self.history), begun.step)
        state = {
            "epoch": len(self.history),
            "step": begun.step,
            "loss_sum": begun.loss_sum,
            "seconds": begun.seconds,
            "model": self.raw_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "history": [asdict(r) for r in self.history],
            "config": self._settings(),
        }
        save_training_state(self.output, state)


@dataclass(frozen=True)
class _Begun:
    """An epoch under way: steps done, sum of their losses (mean over processes), seconds spent on it."""

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0


class _Timed:
    """An iterator that knows how long it was waited for."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - began
        return batch


def _schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> CosineLRScheduler:
    return CosineLRScheduler(
        optimizer,
        t_initial=config.epochs * steps_per_epoch,
        lr_min=config.min_learning_rate,
        warmup_t=config.warmup_epochs * steps_per_epoch,
        warmup_lr_init=config.warmup_learning_rate,
        t_in_epochs=False,
    )


def _without_decay(model: nn.Module) -> tuple[str, ...]:
    """Parameters that weight decay leaves alone besides biases and scales: thresholds, and what the model names."""
    own = getattr(model, "no_weight_decay", None)
    return (*(f"{name}.threshold" for name in name_sites(model)), *(own() if callable(own) else ()))


def _mixup(config: TrainConfig, model: nn.Module) -> Mixup | None:
    if not config.mixup and not config.cutmix:
        return None
    num_classes = num_classes_of(model)
    if num_classes is None:
        raise ValueError("mixup and cutmix need the number of classes; give the model an attribute num_classes")
    return Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=num_classes)


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which mps does not have


@contextmanager
def _repeatable() -> Iterator[None]:
    """Within the block cuDNN adds up the gradients of a convolution's weights in one order, so that a run can be
    repeated, and a resumed one equals one that was never stopped."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _is_whole(checkpoint: Path) -> bool:
    try:
        with safe_open(str(checkpoint), "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _accelerator(config: TrainConfig, output: Path) -> Accelerator:
    """A fresh accelerator for this run.

    Raises:
        ValueError: the device asked for is not the one that there is, or accelerate's launcher was given accumulation.
    """
    join_processes(config.device)
    if not torch.distributed.is_initialized():
        # Accelerate keeps its choices for the whole process; another run in it may choose otherwise.
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        cpu=runs_on_cpu(config.device),
        log_with=list(config.trackers) or None,
        project_dir=str(output),
    )
    if accelerator.gradient_accumulation_steps != 1:  # from the environment of accelerate launch
        raise ValueError(
            f"accelerate launch asks for {accelerator.gradient_accumulation_steps} accumulation steps; set "
            "train.accumulation_steps instead"
        )
    if config.device not in ("auto", accelerator.device.type):
        raise ValueError(
            f"device {config.device!r} is not available for training here, {accelerator.device.type!r} is; "
            "choose one of several GPUs with CUDA_VISIBLE_DEVICES"
        )
    return accelerator


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
