"""`mst train`: a data set in, checkpoints out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mst.experiments.options import TrainingOptions

from .display import print_files, print_line, progress_bar

if TYPE_CHECKING:
    from mst.training import EpochRecord

SECONDS_BETWEEN_LINES = 5.0


def train(options: TrainingOptions, output: Path = Path("runs/train"), resume: bool = False) -> None:
    """Train an ANN with quantised activations and, if asked, random spike masking.

    The network is an MST, or any network of timm or torchvision with activations like ReLU. Writes last.safetensors
    and best.safetensors (best on the test split), the training state for --resume, TensorBoard logs and
    run_record.json. SIGTERM and Ctrl-C write the training state before they end the command. On several devices:
    torchrun --nproc_per_node 8 -m mst train ...

    Example: mst train --config digits-mst-masked --output runs/masked
    Example: mst train --model resnet18.a1_in1k --pretrained --dataset cifar10 --output runs/resnet

    Args:
        options: the network, the images and how to train.
        output: Folder for everything that this run writes.
        resume: Continue the run in the output folder exactly where it stopped; its options need not be repeated.
    """
    train_and_report(options, output, resume)


def train_and_report(options: TrainingOptions, output: Path, resume: bool) -> None:
    """Train under a progress bar and print the accuracy. Of several processes the first prints."""
    from mst.experiments import run_training

    with progress_bar() as progress:
        run = run_training(
            options, output, resume=resume, progress=progress, on_epoch=EpochPrinter(options.train.epochs)
        )
    if run.record is None:
        return
    last = run.result.history[-1]
    print_line(
        f"ANN test accuracy: {100 * last.accuracy:.2f} % after the last epoch, "
        f"{100 * run.result.best_accuracy:.2f} % at best"
    )
    print_files(run.result.last_checkpoint, run.result.best_checkpoint, run.record)


class EpochPrinter:
    """Prints a line of results every few seconds, and after the last epoch."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._last_line = time.monotonic()

    def __call__(self, record: EpochRecord) -> None:
        """Report one epoch."""
        if record.epoch + 1 < self._epochs and time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        print_line(
            f"epoch {record.epoch + 1:>3}/{self._epochs}  loss {record.loss:.4f}  "
            f"test accuracy {100 * record.accuracy:.2f} %  {record.seconds:.1f} s  "
            f"{record.images_per_second:,.0f} images/s  data wait {100 * record.data_wait:.0f} %"
        )
