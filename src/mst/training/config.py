"""Options of a training. Importing this file loads neither PyTorch nor timm."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, get_args

from mst.errors import InputError
from mst.extras import install_command
from mst.numbers import real_number, whole_number
from mst.text import suggestion

Counted = Literal["quanta", "spikes"]

COUNTED: tuple[str, ...] = get_args(Counted)
"""What a spike penalty can count."""

TRACKERS = ("tensorboard", "wandb")
"""Programs that can show the curves of a training; each is a package."""

COMMON_OPTIMIZERS = ("adam", "adamw", "lamb", "lion", "rmsprop", "sgd")
"""Optimizers that are accepted without asking timm for its list, which takes a second to import."""

FREE_ON_RESUME = ("num_workers", "eval_batch_size", "device", "trackers", "checkpoint_minutes")
"""Options that may change when a run is resumed, because they do not change its numbers."""

_LEAST_WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "accumulation_steps": 1,
    "eval_batch_size": 1,
    "num_workers": 0,
    "seed": 0,
}
"""Options that are whole numbers -> the smallest value of each."""

_REAL = (
    "learning_rate", "min_learning_rate", "warmup_learning_rate", "warmup_epochs", "weight_decay", "clip_grad_norm",
    "label_smoothing", "mixup", "cutmix", "spike_penalty", "distillation", "distillation_temperature",
    "checkpoint_minutes",
)  # fmt: skip
"""Options that are numbers from 0 on."""

_MAY_BE_INFINITE = ("clip_grad_norm", "checkpoint_minutes")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop.

    Raises:
        InputError: a value outside its range, an unknown optimizer or tracker, a tracker that is not installed, or
            options that do not go together.
    """

    epochs: int = 20
    """Number of passes over the training images."""

    batch_size: int = 64
    """Images per forward pass of each process. One step uses batch_size x accumulation_steps x processes images."""

    accumulation_steps: int = 1
    """Number of batches whose gradients are added up before each step."""

    optimizer: str = "adamw"
    """Name of an optimizer of timm, for example adamw, sgd (with Nesterov momentum 0.9) or lamb."""

    learning_rate: float = 1e-3
    """Learning rate at which the cosine schedule starts, counted from the first step of the training."""

    min_learning_rate: float = 1e-5
    """Learning rate at which the cosine schedule ends, after the last step."""

    warmup_epochs: int = 1
    """Number of epochs at the start in which the learning rate rises linearly; the cosine schedule takes over where it
    would be at that step."""

    warmup_learning_rate: float = 1e-6
    """Learning rate at which the warm-up starts."""

    weight_decay: float = 0.05
    """Weight decay of matrices. Biases, BatchNorm, thresholds and position tables are not decayed."""

    clip_grad_norm: float = 5.0
    """Maximum norm of the gradient; 0 turns clipping off."""

    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes, in [0, 1)."""

    mixup: float = 0.0
    """Parameter alpha of mixup; 0 turns it off."""

    cutmix: float = 0.0
    """Parameter alpha of cutmix; 0 turns it off."""

    spike_penalty: float = 0.0
    """Weight in the loss of the mean number of quanta per neuron; 0 turns it off. Networks trained with it send fewer
    spikes, because the spiking network sends at least one spike for every quantum."""

    spike_penalty_on: Counted = "quanta"
    """What the penalty counts: "quanta", the spikes of rate coding; or "spikes", the fewest that the free schedule of
    lossless coding can send, one for each signed power of two in a neuron's level."""

    distillation: float = 0.0
    """Weight of the teacher in the loss, from 0 (off) to 1 (the labels have no effect). The teacher is the network that
    the training starts from, before quantisation, or another checkpoint; the student learns to give its logits."""

    distillation_temperature: float = 2.0
    """With distillation: the number above 0 by which the logits of both networks are divided; a higher one stresses the
    teacher's less likely classes."""

    seed: int = 0
    """Seed of the weights, the order of the images, augmentation and masks."""

    eval_batch_size: int = 256
    """Images per batch of the evaluation after each epoch."""

    num_workers: int = 0
    """Processes that prepare images, for each training process."""

    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward and backward pass: "no" computes in float32. Weights, their updates and the evaluation
    stay in float32; bf16 is fast on devices with matrix units for it, among them recent CPUs."""

    compile: bool = False
    """Compile the forward and backward pass with torch.compile. The first step then takes a minute or more; checkpoints
    do not change. Needs a C++ compiler, on CUDA Triton. Random masks are other ones than without it."""

    channels_last: bool = False
    """Store images, and weights of convolutions, with the channels of a pixel next to each other in memory while the
    training runs. Makes convolutions faster on many devices; checkpoints do not change."""

    sync_batch_norm: bool = False
    """Share BatchNorm's statistics between processes in every step."""

    trackers: tuple[str, ...] = ("tensorboard",)
    """Programs that show the curves, besides the run record: any of tensorboard, wandb."""

    checkpoint_minutes: float = 15.0
    """Minutes between two writes of the training state within a long epoch."""

    device: str = "auto"
    """Device to train on: "auto" takes an accelerator if there is one; or "cpu", "cuda", "mps", ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trackers", tuple(self.trackers))
        self._check_ranges()
        self._check_names()
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise InputError(
                f"warmup_epochs is {self.warmup_epochs}, which must be less than epochs, {self.epochs}",
                remedy="lower train.warmup_epochs or raise train.epochs",
            )
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise InputError(f"mixup and cutmix pair images: batch_size must be even, got {self.batch_size}")

        if self.compile and self.spike_penalty:
            raise InputError(
                "spike_penalty counts quanta between the operations, which compile melts into one",
                remedy="leave one of train.spike_penalty and train.compile out",
            )

    def _check_ranges(self) -> None:
        for name, least in _LEAST_WHOLE.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        for name in _REAL:
            value = real_number(name, getattr(self, name), may_be_infinite=name in _MAY_BE_INFINITE)
            object.__setattr__(self, name, value)
            if value < 0:
                raise InputError(f"{name} must not be negative, got {value}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.distillation > 1:
            raise InputError(f"distillation must be in [0, 1], got {self.distillation}")
        if not self.distillation_temperature > 0:
            raise InputError(f"distillation_temperature must be above 0, got {self.distillation_temperature}")
        if self.spike_penalty_on not in COUNTED:
            raise InputError(f"spike_penalty_on must be one of {', '.join(COUNTED)}, got {self.spike_penalty_on!r}")
        if not self.distillation and self.distillation_temperature != 2.0:
            raise InputError("distillation_temperature has no effect without distillation")
        if not self.label_smoothing < 1.0:
            raise InputError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")

    def _check_names(self) -> None:
        if self.optimizer not in COMMON_OPTIMIZERS:
            from timm.optim import list_optimizers

            if self.optimizer not in (known := list_optimizers()):
                raise InputError(f"unknown optimizer {self.optimizer!r}", remedy=suggestion(self.optimizer, known))
        for tracker in self.trackers:
            if tracker not in TRACKERS:
                raise InputError(f"unknown tracker {tracker!r}", remedy=f"choose from {', '.join(TRACKERS)}")
            if importlib.util.find_spec(tracker) is None:
                remedy = install_command("wandb") if tracker == "wandb" else f"pip install {tracker}"
                raise InputError(f"the tracker {tracker} needs its package", remedy=remedy)
