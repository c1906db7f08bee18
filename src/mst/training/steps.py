"""Updates of the weights: model, optimizer, schedule and loss, prepared by accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import distribute_bn
from torch import Tensor, nn

from mst.accuracy import check_labels
from mst.data.samples import Batch
from mst.distributed import join_processes, runs_on_cpu
from mst.errors import InputError
from mst.models import NetworkInput, synchronise_batch_norm
from mst.neurons import find_sites
from mst.quantization import num_classes_of

from .acceleration import channels_last, compiled
from .config import TrainConfig
from .distillation import Teacher
from .order import seed_step
from .quanta import QuantaCounter

UPDATED_AT_ONCE = ("adam", "adamw", "lion", "rmsprop", "sgd")
"""Optimizers that update all tensors in a few calls, with the values that each tensor gets alone, bit for bit."""


class TrainingSteps:
    """Takes the steps of one run.

    Args:
        model: the network; it is moved to the accelerator's device.
        config: how to train.
        accelerator: of this run, from `make_accelerator`.
        steps_per_epoch: updates in one epoch, which the schedule follows.
        num_classes: length of the network's output.
        teacher: network to learn from besides the labels; it is moved to the accelerator's device.

    Raises:
        InputError: mixed labels are asked for, and the number of classes is unknown; a spike penalty for a network
            without sites; torch.compile is asked for and does not work here.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        accelerator: Accelerator,
        steps_per_epoch: int,
        num_classes: int,
        teacher: Teacher | None = None,
    ) -> None:
        self.config, self.accelerator, self.steps_per_epoch = config, accelerator, steps_per_epoch
        self.num_classes = num_classes
        self.teacher = None if teacher is None else teacher.to(accelerator.device)
        like = NetworkInput(model).like
        self._dtype = torch.get_default_dtype() if like is None else like.dtype
        if config.sync_batch_norm:
            synchronise_batch_norm(model)
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=without_decay(model))
        at_once = {"foreach": True} if config.optimizer in UPDATED_AT_ONCE else {}
        optimizer = create_optimizer_v2(groups, opt=config.optimizer, lr=config.learning_rate, **at_once)
        self.raw_model = model
        self.quanta = QuantaCounter(model, config.spike_penalty_on)
        if config.spike_penalty and not find_sites(model):
            raise InputError("spike_penalty has no effect on a network without sites")
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if accelerator.num_processes > 1:
            self.model.broadcast_buffers = False  # averaged after each epoch; at each step that would be wasted time
        # Mixed precision belongs to `take` alone: `prepare` has put it into model.forward, where it would also act in
        # the evaluation and in the caller's own use of the model.
        accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.forward = compiled(self.model, accelerator.device) if config.compile else self.model
        self.scheduler = CosineLRScheduler(
            optimizer,
            t_initial=config.epochs * steps_per_epoch,
            lr_min=config.min_learning_rate,
            warmup_t=config.warmup_epochs * steps_per_epoch,
            warmup_lr_init=config.warmup_learning_rate,
            t_in_epochs=False,
        )
        self.mixup = _mixup(config, model)
        self.loss: nn.Module = (
            SoftTargetCrossEntropy() if self.mixup else nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def sum_from(self, value: float) -> Tensor:
        """A scalar on the device, for sums of losses."""
        device = self.accelerator.device
        return torch.tensor(value, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def take(self, batches: Iterator[Batch], epoch: int, step: int) -> Tensor:
        """Update the weights once; returns the mean loss of this process's batches.

        Raises:
            InputError: a label outside the classes.
        """
        self.scheduler.step_update(epoch * self.steps_per_epoch + step)
        total = self.sum_from(0.0)
        count = self.config.accumulation_steps
        for batch in range(count):
            images, targets = next(batches)
            assert targets is not None
            check_labels(targets, len(images), self.num_classes)  # -100 would otherwise be left out of the loss
            images = images.to(self._dtype).to(self.accelerator.device, non_blocking=True)
            targets = targets.to(self.accelerator.device, non_blocking=True)
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
            logits = self.forward(channels_last(images) if self.config.channels_last else images)
            loss: Tensor = self.loss(logits, targets)
            if self.teacher is not None:
                loss = self.teacher.loss(loss, logits, images)
            if self.config.spike_penalty:
                loss = loss + self.config.spike_penalty * self.quanta.per_neuron
            return loss

    def average_batch_norm(self) -> None:
        """Give every process the mean of all processes' BatchNorm statistics."""
        if self.accelerator.num_processes > 1:
            distribute_bn(self.raw_model, self.accelerator.num_processes, reduce=True)

    def broken_parameters(self) -> list[str]:
        """Names of parameters that hold NaN or infinite values."""
        return [name for name, p in self.raw_model.named_parameters() if not bool(torch.isfinite(p).all())]

    def state(self) -> dict[str, Any]:
        """State of the model, the optimizer and the loss scaler."""
        return {
            "model": self.raw_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.raw_model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def without_decay(model: nn.Module) -> tuple[str, ...]:
    """Parameters without weight decay besides biases and scales: thresholds, and those that the model lists."""
    own = getattr(model, "no_weight_decay", None)
    return (*(f"{name}.threshold" for name in find_sites(model)), *(own() if callable(own) else ()))


def _mixup(config: TrainConfig, model: nn.Module) -> Mixup | None:
    if not config.mixup and not config.cutmix:
        return None
    num_classes = num_classes_of(model)
    if num_classes is None:
        raise InputError(
            "mixup and cutmix need the number of classes", remedy="give the model an attribute num_classes"
        )
    return Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=num_classes)


def make_accelerator(config: TrainConfig, output: Path) -> Accelerator:
    """A new accelerator for one run.

    Raises:
        InputError: the requested device is not available, or accelerate's launcher was given accumulation steps.
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
        raise InputError(
            f"accelerate launch asks for {accelerator.gradient_accumulation_steps} accumulation steps",
            remedy="set train.accumulation_steps instead",
        )
    if config.device not in ("auto", accelerator.device.type):
        raise InputError(
            f"device {config.device!r} is not available for training here, {accelerator.device.type!r} is",
            remedy="choose one of several GPUs with CUDA_VISIBLE_DEVICES",
        )
    return accelerator
