"""Results of a training, and the two ways in which it ends early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mst.progress import ProgressCallback

LAST_CHECKPOINT = "last.safetensors"
"""File name of the checkpoint of the last finished epoch."""

BEST_CHECKPOINT = "best.safetensors"
"""File name of the checkpoint of the epoch with the highest test accuracy."""


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch."""

    epoch: int
    """Number of the epoch, from 0."""

    loss: float
    """Training loss, mean over the steps."""

    learning_rate: float
    """Learning rate of the last step."""

    accuracy: float
    """Accuracy on the test split, a fraction."""

    seconds: float
    """Duration of the whole epoch with its evaluation, without interruptions."""

    images_per_second: float
    """Training images of all processes together per second, loading included."""

    data_wait: float
    """Fraction of the training time that was spent waiting for images."""

    quanta_per_neuron: float
    """Quanta that the sites send on the test split, mean over neurons and images, 0...L; a spiking network sends at
    least this many spikes."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    history: tuple[EpochRecord, ...]
    """One record per epoch."""

    best_accuracy: float
    """Test accuracy of the best epoch, a fraction."""

    last_checkpoint: Path
    """Checkpoint of the last epoch."""

    best_checkpoint: Path
    """Checkpoint of the best epoch."""


@dataclass(frozen=True)
class TrainingObserver:
    """Callbacks of a training; each process calls its own. They must return quickly."""

    progress: ProgressCallback | None = None
    """Called before the first step (a resumed run reports the steps that it already has) and after every step; on an
    accelerator after every ten. The unit is "steps", the detail the loss of the last step."""

    on_epoch: Callable[[EpochRecord], None] | None = None
    """Called with the record of each epoch, after its checkpoints have been written."""


class TrainingDivergedError(RuntimeError):
    """The loss, the logits or the weights became NaN or infinite."""


class TrainingStoppedError(RuntimeError):
    """A signal asked for a stop; the training state has been written.

    Args:
        epochs_done: finished epochs.
        steps_done: steps done in the epoch after them.
        signal: number of the signal.
    """

    def __init__(self, epochs_done: int, steps_done: int, signal: int) -> None:
        self.epochs_done = epochs_done
        self.steps_done = steps_done
        self.signal = signal
        super().__init__(
            f"stopped after {_count(epochs_done, 'epoch')} and {_count(steps_done, 'step')}; the training state has "
            "been written, and --resume continues from it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.epochs_done, self.steps_done, self.signal)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
