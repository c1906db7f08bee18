"""The figures on the card of a trained network, measured again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mst.progress import ProgressCallback
from mst.zoo import ZooCard, ZooRun, card

from .evaluation_run import run_evaluation
from .options import CheckpointOptions, CodingOptions, EvaluationOptions, StepOptions
from .spiking_run import run_measurement

TOLERANCE = 0.01
"""Relative difference from the card that rounding in float32 may make on another machine."""


@dataclass(frozen=True)
class ZooCheck:
    """A network of the zoo, as its card describes it and as it was measured now."""

    card: ZooCard
    """The card."""

    accuracy: float
    """Accuracy of the quantised ANN on all test images, a fraction."""

    runs: tuple[ZooRun, ...]
    """The simulations of the card, repeated."""

    @property
    def differences(self) -> list[str]:
        """A line for each figure that differs from the card by more than `TOLERANCE`; empty if the card holds."""
        found = [] if _near(self.card.accuracy, self.accuracy) else [
            f"accuracy: {self.accuracy:.4f}, the card says {self.card.accuracy:.4f}"
        ]  # fmt: skip
        for number, (stated, now) in enumerate(zip(self.card.runs, self.runs, strict=True), start=1):
            for name, value in _figures(stated).items():
                measured = _figures(now)[name]
                if not _near(value, measured):
                    found.append(f"run {number}, {name}: {measured:.4g}, the card says {value:.4g}")
        return found


def check_zoo(name: str, data_path: Path | None = None, *, progress: ProgressCallback | None = None) -> ZooCheck:
    """Evaluate a network of the zoo on all test images and repeat the simulations of its card.

    Args:
        name: of the network.
        data_path: folder with its data set's files.
        progress: called with the image-steps done.

    Raises:
        MissingFileError: no such network, or no files of the data set.
    """
    described = card(name)
    checkpoint = Path(f"zoo:{name}")
    evaluation = run_evaluation(EvaluationOptions(checkpoint, data_path=data_path, device="cpu")).evaluation
    runs = tuple(_repeat(checkpoint, run, data_path, progress) for run in described.runs)
    return ZooCheck(described, evaluation.accuracy, runs)


def _repeat(
    checkpoint: Path, run: ZooRun, data_path: Path | None, progress: ProgressCallback | None
) -> ZooRun:  # fmt: skip
    steps, coding = step_and_coding_options(run.options)
    opened = CheckpointOptions(checkpoint, data_path=data_path, max_images=run.images, device="cpu", batch_size=50)
    measured = run_measurement(opened, steps, coding, progress=progress)
    result, estimate = measured.simulation.result, measured.estimate
    return ZooRun(
        options=run.options,
        images=result.num_images,
        ann_accuracy=measured.simulation.ann_accuracy,
        snn_accuracy=measured.simulation.snn_accuracy,
        steps=result.mean_steps,
        spikes_per_neuron=result.spikes_per_image / sum(site.num_neurons for site in result.sites.values()),
        energy_ratio=estimate.maps_and_products.ratio,
    )


def step_and_coding_options(options: Mapping[str, Any]) -> tuple[StepOptions, CodingOptions]:
    """The options of a run on a card as the two groups that `mst measure` takes."""
    of_steps = {field.name for field in fields(StepOptions)}
    return (
        StepOptions(**{name: value for name, value in options.items() if name in of_steps}),
        CodingOptions(**{name: value for name, value in options.items() if name not in of_steps}),
    )


def _figures(run: ZooRun) -> dict[str, float]:
    return {name: value for name, value in asdict(run).items() if name != "options"}


def _near(stated: float, measured: float) -> bool:
    return abs(measured - stated) <= TOLERANCE * max(abs(stated), abs(measured))
