"""How a training is to go, and what comes out of it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timm.optim import list_optimizers

from mst.text import nearest_name

TRACKERS = ("tensorboard", "wandb")
"""Where curves can go; each is a package."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        epochs: passes over the training images.
        batch_size: images per forward pass of each process; a step sees batch_size x accumulation_steps x processes.
        accumulation_steps: batches whose gradients are added up before a step.
        optimizer: any name of timm, for example adamw, sgd (with Nesterov momentum 0.9) or lamb.
        learning_rate: where the cosine starts, at the first step of all.
        min_learning_rate: where the cosine ends, after the last step.
        warmup_epochs: in these first epochs a linear rise towards learning_rate takes the cosine's place.
        warmup_learning_rate: where that rise starts.
        weight_decay: on matrices only: not on biases, BatchNorm, thresholds and position tables.
        clip_grad_norm: largest norm of the gradient; 0 turns clipping off.
        label_smoothing: in [0, 1).
        mixup: alpha of mixup; 0 turns it off.
        cutmix: alpha of cutmix; 0 turns it off.
        spike_penalty: weight in the loss of a quantum sent, per neuron; 0 turns it off. Networks trained with it send
            fewer spikes: every quantum is a spike that the spiking network has to send.
        seed: of weights, order, augmentation and masks.
        eval_batch_size: images per batch of the evaluation after each epoch.
        num_workers: processes that prepare images, for each training process.
        mixed_precision: of the forward and backward pass; "no" computes in float32.
        sync_batch_norm: share BatchNorm's statistics between processes in every step.
        trackers: where curves go besides the run record; any of tensorboard, wandb.
        checkpoint_minutes: within a long epoch, minutes between two writes of the training state.
        device: "auto" takes an accelerator if there is one; or "cpu", "cuda", "mps", ...

    Raises:
        ValueError: a value outside its range.
    """

    epochs: int = 20
    batch_size: int = 64
    accumulation_steps: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-5
    warmup_epochs: int = 1
    warmup_learning_rate: float = 1e-6
    weight_decay: float = 0.05
    clip_grad_norm: float = 5.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    spike_penalty: float = 0.0
    seed: int = 0
    eval_batch_size: int = 256
    num_workers: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    sync_batch_norm: bool = False
    trackers: tuple[str, ...] = ("tensorboard",)
    checkpoint_minutes: float = 15.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "min_learning_rate", "warmup_learning_rate", "warmup_epochs", "weight_decay", "clip_grad_norm",
            "mixup", "cutmix", "spike_penalty", "num_workers", "seed", "checkpoint_minutes",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.optimizer not in (known := list_optimizers()):
            raise ValueError(f"unknown optimizer {self.optimizer!r}{nearest_name(self.optimizer, known)}")
        object.__setattr__(self, "trackers", tuple(self.trackers))
        for tracker in self.trackers:
            if tracker not in TRACKERS:
                raise ValueError(f"unknown tracker {tracker!r}; choose from {', '.join(TRACKERS)}")
            if importlib.util.find_spec(tracker) is None:
                raise ValueError(f"the tracker {tracker} needs its package: pip install {tracker}")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leave nothing of {self.epochs} epochs")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(f"mixup and cutmix pair images: batch_size must be even, got {self.batch_size}")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    loss: mean over the steps.  accuracy: on the test split, a fraction.  seconds: of the whole epoch, pauses left out.
    images_per_second: trained on, by all processes together, loading included.  data_wait: share of the training time
    spent waiting for images.  quanta_per_neuron: mean over the neurons and test images, 0...L; what a spiking network
    has to send at the least.
    """

    epoch: int
    loss: float
    learning_rate: float
    accuracy: float
    seconds: float
    images_per_second: float
    data_wait: float
    quanta_per_neuron: float


@dataclass(frozen=True)
class TrainingResult:
    """last_checkpoint, best_checkpoint: files.  best_accuracy: of the best epoch, a fraction."""

    history: tuple[EpochRecord, ...]
    best_accuracy: float
    last_checkpoint: Path
    best_checkpoint: Path


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite."""


class TrainingStoppedError(RuntimeError):
    """A signal asked for a stop; the training state has been written. `signal`: its number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
