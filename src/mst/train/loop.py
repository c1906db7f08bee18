"""The training loop, on accelerate: an ANN and images in, a trained ANN and its history out."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mst.models import CheckpointInfo, MaskedSpikingTransformer, save_checkpoint

from .evaluation import evaluate
from .state import STATE_FILE, load_training_state, save_training_state, seed_epoch

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last.safetensors"
BEST_CHECKPOINT = "best.safetensors"


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: where the cosine starts, at the first step of all.
        min_learning_rate: where the cosine ends, after the last step.
        warmup_epochs: in these first epochs a linear rise towards learning_rate takes the cosine's place.
        warmup_learning_rate: where that rise starts.
        weight_decay: on matrices only: not on biases, BatchNorm, thresholds and position tables.
        clip_grad_norm: largest norm of the gradient; 0 turns clipping off.
        label_smoothing: in [0, 1).
        mixup: alpha of mixup; 0 turns it off.
        cutmix: alpha of cutmix; 0 turns it off.
        seed: of weights, order, augmentation and masks.
        eval_batch_size: images per batch of the evaluation after each epoch.
        num_workers: processes that prepare images.
        mixed_precision: of the forward and backward pass; "no" computes in float32.
        device: "auto" takes an accelerator if there is one; or "cpu", "cuda", "mps", ...

    Raises:
        ValueError: a value outside its range.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-5
    warmup_epochs: int = 1
    warmup_learning_rate: float = 1e-6
    weight_decay: float = 0.05
    clip_grad_norm: float = 5.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    eval_batch_size: int = 256
    num_workers: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "min_learning_rate", "warmup_learning_rate", "warmup_epochs", "weight_decay", "clip_grad_norm",
            "mixup", "cutmix", "num_workers", "seed",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leave nothing of {self.epochs} epochs")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(f"mixup and cutmix pair images: batch_size must be even, got {self.batch_size}")


@dataclass(frozen=True)
class EpochRecord:
    """loss: mean over the steps.  accuracy: on the test split, a fraction.  seconds: of the whole epoch."""

    epoch: int
    loss: float
    learning_rate: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """last_checkpoint, best_checkpoint: files.  best_accuracy: of the best epoch, a fraction."""

    history: tuple[EpochRecord, ...]
    best_accuracy: float
    last_checkpoint: Path
    best_checkpoint: Path


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite."""


_FREE_ON_RESUME = ("num_workers", "eval_batch_size", "device")
"""Settings that do not change a run's numbers."""

STEPS_PER_CHECK = 10
"""Training steps between two looks at the loss on an accelerator, each of which waits for it; on a CPU it is 1."""

Progress = Callable[[int, float], None]
"""Called with (steps done since the last call, loss of the last step)."""


def train(
    model: MaskedSpikingTransformer,
    train_data: Dataset[tuple[Tensor, int]],
    test_data: Dataset[tuple[Tensor, int]],
    output: Path,
    config: TrainConfig,
    info: CheckpointInfo,
    *,
    resume: bool = False,
    on_step: Progress | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Train an ANN; after every epoch evaluate it and write the last and the best checkpoint.

    AdamW; linear warm-up and cosine by step; cross-entropy with label smoothing, or with mixed labels.

    Args:
        model: starts from the weights it has.
        train_data, test_data: (image, label) pairs.
        output: folder for checkpoints, training state and TensorBoard logs.
        config: how to train.
        info: what the checkpoints say of themselves; provenance is completed here.
        resume: go on from the training state in `output`.
        on_step, on_epoch: progress.  on_resume: told how many epochs are done already.

    Raises:
        FileExistsError: `output` holds a run already and resume is off.
        FileNotFoundError: resume is on and there is nothing to resume.
        ValueError: the state in `output` belongs to other settings; too few images for one batch.
        TrainingDivergedError: the loss became NaN or infinite; the last checkpoint stays.
        OSError: `output` cannot be written.
    """
    return _Trainer(model, train_data, test_data, output, config, info).run(resume, on_step, on_epoch, on_resume)


class _Trainer:
    """One training run: its parts, prepared by accelerate, and its epochs."""

    def __init__(
        self,
        model: MaskedSpikingTransformer,
        train_data: Dataset[tuple[Tensor, int]],
        test_data: Dataset[tuple[Tensor, int]],
        output: Path,
        config: TrainConfig,
        info: CheckpointInfo,
    ) -> None:
        self.config, self.output, self.info = config, output, info
        self.accelerator = _accelerator(config, output)
        self.order = torch.Generator()
        loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            train_data, config.batch_size, shuffle=True, drop_last=True, generator=self.order,
            num_workers=config.num_workers,
        )  # fmt: skip
        if len(loader) == 0:
            raise ValueError(f"{len(train_data)} training images do not fill one batch of {config.batch_size}")  # type: ignore[arg-type]
        groups = param_groups_weight_decay(
            model, config.weight_decay, no_weight_decay_list=tuple(model.no_weight_decay())
        )
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.raw_model = model
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        # Mixed precision belongs to `_step` alone: prepare has put it into model.forward, where evaluation and the
        # caller's own use of the model would meet it too.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.test_loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            test_data, config.eval_batch_size, num_workers=config.num_workers
        )
        self.scheduler = CosineLRScheduler(
            optimizer,
            t_initial=config.epochs * len(loader),
            lr_min=config.min_learning_rate,
            warmup_t=config.warmup_epochs * len(loader),
            warmup_lr_init=config.warmup_learning_rate,
            t_in_epochs=False,
        )
        self.mixup = (
            Mixup(
                config.mixup,
                config.cutmix,
                label_smoothing=config.label_smoothing,
                num_classes=model.num_classes,
            )
            if config.mixup or config.cutmix
            else None
        )
        self.loss: nn.Module = (
            SoftTargetCrossEntropy() if self.mixup else nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        )

    def run(
        self,
        resume: bool,
        on_step: Progress | None,
        on_epoch: Callable[[EpochRecord], None] | None,
        on_resume: Callable[[int], None] | None,
    ) -> TrainingResult:
        history = self._restore() if resume else self._begin()
        if resume and on_resume is not None:
            on_resume(len(history))
        best = max((record.accuracy for record in history), default=-1.0)
        self.accelerator.init_trackers("tensorboard")
        try:
            for epoch in range(len(history), self.config.epochs):
                record = self._epoch(epoch, on_step)
                history.append(record)
                self.accelerator.log(
                    {"loss": record.loss, "learning_rate": record.learning_rate, "accuracy": record.accuracy},
                    step=epoch,
                )
                self._save(history, is_best=record.accuracy > best)
                best = max(best, record.accuracy)
                if on_epoch is not None:
                    on_epoch(record)
        finally:
            self.accelerator.end_training()
        return TrainingResult(tuple(history), best, self.output / LAST_CHECKPOINT, self.output / BEST_CHECKPOINT)

    def _begin(self) -> list[EpochRecord]:
        if (self.output / STATE_FILE).exists():
            raise FileExistsError(
                f"{self.output} already holds a run; continue it with --resume true, or choose another output folder"
            )
        self.output.mkdir(parents=True, exist_ok=True)
        return []

    def _settings(self) -> dict[str, Any]:
        """What has to be the same for a run to be continued: all that its numbers follow from."""
        train = {name: value for name, value in asdict(self.config).items() if name not in _FREE_ON_RESUME}
        settings = {
            "train": train,
            "model": asdict(self.raw_model.config),
            "dataset": self.info.dataset,
            "preprocessing": None if self.info.preprocessing is None else asdict(self.info.preprocessing),
            "provenance": self.info.provenance,
        }
        return dict(json.loads(json.dumps(settings)))  # as they come back from a file: lists for tuples

    def _restore(self) -> list[EpochRecord]:
        state = load_training_state(self.output)
        then, now = _flatten(state["config"]), _flatten(self._settings())
        changed = [f"{k}: {then.get(k)} -> {now.get(k)}" for k in {**then, **now} if then.get(k) != now.get(k)]
        if changed:
            raise ValueError(
                f"{self.output} was trained with other settings, so it cannot go on; repeat the options it was started "
                f"with: {'; '.join(changed)}"
            )
        self.raw_model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        logger.info("resuming %s after epoch %d", self.output, state["epoch"])
        return [EpochRecord(**record) for record in state["history"]]

    def _epoch(self, epoch: int, on_step: Progress | None) -> EpochRecord:
        began = time.perf_counter()
        seed_epoch(self.config.seed, epoch)
        self.order.manual_seed(int(torch.randint(2**31, ())))
        self.model.train()
        total = torch.zeros((), device=self.accelerator.device)
        look_every = 1 if self.accelerator.device.type == "cpu" else STEPS_PER_CHECK
        unseen = 0
        for step, (images, labels) in enumerate(self.loader):
            self.scheduler.step_update(epoch * len(self.loader) + step)
            loss = self._step(images, labels)
            total += loss.detach()
            unseen += 1
            if unseen == look_every or step == len(self.loader) - 1:
                self._check_finite(math.isfinite(value := loss.item()), f"the loss became {value}", epoch, step)
                if on_step is not None:
                    on_step(unseen, value)
                unseen = 0
        mean_loss = total.item() / len(self.loader)
        self._check_finite(math.isfinite(mean_loss), f"the mean loss became {mean_loss}", epoch, len(self.loader) - 1)
        evaluation = evaluate(self.raw_model, self.test_loader, seed=self.config.seed)
        # The loss above is that of the weights before the last update.
        finite = bool(torch.isfinite(evaluation.logits).all())
        self._check_finite(finite, "the logits became NaN or infinite", epoch, len(self.loader) - 1)
        return EpochRecord(
            epoch=epoch,
            loss=mean_loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            accuracy=evaluation.accuracy,
            seconds=time.perf_counter() - began,
        )

    def _check_finite(self, finite: bool, what: str, epoch: int, step: int) -> None:
        if not finite:
            kept = f"{self.output / LAST_CHECKPOINT} holds the epoch before" if epoch else "No epoch was finished"
            raise TrainingDivergedError(
                f"{what} in epoch {epoch}, step {step}, at learning rate "
                f"{self.optimizer.param_groups[0]['lr']:.3g}; lower learning_rate or raise warmup_epochs. {kept}"
            )

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        targets = labels
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)
        with self.accelerator.autocast():
            loss: Tensor = self.loss(self.model(images), targets)
        self.accelerator.backward(loss)
        if self.config.clip_grad_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def _save(self, history: list[EpochRecord], is_best: bool) -> None:
        record = history[-1]
        provenance = {
            **self.info.provenance,
            "epochs": record.epoch + 1,
            "accuracy": record.accuracy,
            "train": asdict(self.config),
        }
        info = CheckpointInfo(self.info.dataset, self.info.class_names, self.info.preprocessing, provenance)
        if is_best:
            save_checkpoint(self.raw_model, self.output / BEST_CHECKPOINT, info)
        save_checkpoint(self.raw_model, self.output / LAST_CHECKPOINT, info)
        state = {
            "epoch": record.epoch,
            "model": self.raw_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "history": [asdict(r) for r in history],
            "config": self._settings(),
        }
        save_training_state(self.output, state)


def _accelerator(config: TrainConfig, output: Path) -> Accelerator:
    """A fresh accelerator for this run.

    Raises:
        ValueError: the device asked for is not the one that there is, or there are several processes.
    """
    if not torch.distributed.is_initialized():
        # Accelerate keeps its choices for the whole process; another run in it may choose otherwise.
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        cpu=config.device == "cpu",
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=False),
        log_with="tensorboard",
        project_dir=str(output),
    )
    if accelerator.num_processes > 1:
        raise ValueError(f"training runs in one process for now, this is one of {accelerator.num_processes}")
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
