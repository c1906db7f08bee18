"""A checkpoint's accuracy as an ANN."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mst.threads import intra_op_threads
from mst.training import Evaluation, evaluate

from .opening import OpenedRun, open_checkpoint
from .options import EvaluationOptions


@dataclass(frozen=True)
class EvaluationRun:
    """An ANN's accuracy on test images."""

    opened: OpenedRun
    """The network and its images."""

    evaluation: Evaluation
    """Accuracy, logits, quanta."""

    images_per_second: float
    """Speed of the evaluation, loading included."""

    def figures(self) -> dict[str, Any]:
        """The results as plain values; accuracies are fractions."""
        result = self.evaluation
        return {
            "ann_accuracy": result.accuracy,
            "ann_top5_accuracy": result.top5_accuracy,
            "num_images": result.num_images,
            "quanta_per_neuron": result.quanta_per_neuron,
            "quanta_per_image": result.quanta_per_image,
            "images_per_second": self.images_per_second,
        }


def run_evaluation(options: EvaluationOptions | OpenedRun | str | Path, *, seed: int = 0) -> EvaluationRun:
    """Evaluate a checkpoint as an ANN; masks act as they did in training.

    Args:
        options: the checkpoint and how to open it, its path alone, or an opened run.
        seed: of the masks, where `options` do not state it.

    Raises:
        MissingFileError, InputError: as `open_checkpoint`.
    """
    if isinstance(options, EvaluationOptions):
        seed = options.seed
    elif not isinstance(options, OpenedRun):
        options = EvaluationOptions(Path(options))
    opened = options if isinstance(options, OpenedRun) else open_checkpoint(options)
    began = time.perf_counter()
    with intra_op_threads(opened.threads):
        evaluation = evaluate(
            opened.model, opened.images, batch_size=opened.batch_size, num_workers=opened.num_workers, seed=seed
        )
    return EvaluationRun(opened, evaluation, evaluation.num_images / (time.perf_counter() - began))
