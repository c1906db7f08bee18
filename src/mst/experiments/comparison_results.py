"""Results of a comparison of codings, and one row of plain values for each coding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mst.measure import EnergyEstimate
from mst.simulation import SimulationResult

LOSSES = (1.0, 0.5, 0.1)
"""Points of accuracy below the ANN at which steps, spikes and energy are read."""


EXIT_LOSSES = (1.0, 0.5)
"""Points of accuracy that early exit may cost, with `DEFAULT_CONFIDENCE`; 1,000 images cannot show much less."""


@dataclass(frozen=True)
class Exit:
    """Effect of early exit on the test images."""

    rule: str
    """"margin" or "stability"."""

    loss: float
    """Allowed loss of accuracy, in points."""

    mean_steps: float
    """Steps per image."""

    accuracy: float
    """A fraction."""


@dataclass(frozen=True)
class CodingRun:
    """One coding on the test images.

    family: what it shares with runs of other bursts; one colour in the figures.
    agreement: fraction of the images whose prediction is the ANN's at the end.
    seconds_per_image: of the simulation alone, nothing recorded, on some of the images.
    exits: early exit at the losses allowed.  frontier: (mean steps, accuracy) of early exit by rule, on test images.
    """

    label: str
    family: str
    result: SimulationResult
    energy: EnergyEstimate
    agreement: float
    seconds_per_image: float
    exits: tuple[Exit, ...] = ()
    frontier: Mapping[str, Sequence[tuple[float, float]]] | None = None


@dataclass(frozen=True)
class AnnRun:
    """The ANN on the same images. quanta: per image, the sum of its activations in quanta."""

    accuracy: float
    quanta: float
    seconds_per_image: float
    num_images: int


def steps_to_within(result: SimulationResult, ann_accuracy: float, points: float) -> int | None:
    """The smallest T from which on the accuracy is at most `points` points below the ANN's; None if there is none."""
    assert result.accuracy is not None
    below = (ann_accuracy - result.accuracy > points / 100 + 1e-9).nonzero()
    first = 1 if len(below) == 0 else int(below[-1]) + 2
    return first if first <= result.num_steps else None


def coding_rows(ann: AnnRun, runs: Sequence[CodingRun]) -> list[dict[str, Any]]:
    """One row for each coding, plain values; energies in pJ per image, times in seconds per image."""
    rows = []
    for run in runs:
        result = run.result
        assert result.accuracy is not None
        spikes = result.spikes_per_image_after_step.tolist()
        steps = int(result.steps_taken.max())
        row: dict[str, Any] = {
            "coding": run.label,
            "accuracy": float(result.accuracy[-1]),
            "agreement_with_ann": run.agreement,
            "steps": steps,
            "mean_steps": result.mean_steps,
            "settled_images": result.num_settled,
            "spikes": spikes[-1],
            "spikes_per_quantum": spikes[-1] / max(1.0, ann.quanta),
            "num_macs": run.energy.snn.num_macs,
            "num_acs": run.energy.snn.num_acs,
            "energy_pj": run.energy.snn.energy_pj,
            "energy_ratio": run.energy.ratio,
            "maps_and_products_ratio": run.energy.maps_and_products.ratio if run.energy.functions else None,
            "whole_ratio": run.energy.whole.ratio if run.energy.functions else None,
            "seconds_per_image": run.seconds_per_image,
            "time_ratio": run.seconds_per_image / ann.seconds_per_image,
            "within": {},
            "early_exit": [exit.__dict__ for exit in run.exits],
            "accuracy_at_step": result.accuracy.tolist(),
            "spikes_at_step": spikes,
        }
        for points in LOSSES:
            at = steps_to_within(result, ann.accuracy, points)
            row["within"][f"{points:g}"] = None if at is None else {
                "steps": at,
                "spikes": spikes[at - 1],
                "energy_ratio": run.energy.snn_energy_pj_per_step[at - 1] / run.energy.ann.energy_pj,
                "whole_ratio": run.energy.whole_energy_pj_per_step[at - 1] / run.energy.whole.ann.energy_pj
                if run.energy.functions
                else None,
            }  # fmt: skip
        rows.append(row)
    return rows
