"""The accuracy of a checkpoint under lossless coding without a simulation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mst.conversion import coding_of
from mst.errors import InputError
from mst.progress import ProgressCallback, Stage
from mst.simulation import SettledResult, predict_settled
from mst.threads import intra_op_threads

from .opening import OpenedRun
from .options import CheckpointOptions, CodingOptions, StepOptions
from .spiking_run import check_coding, converted, open_run


@dataclass(frozen=True)
class SettledRun:
    """Answers of an SNN that has settled, and a lower bound on its spikes."""

    opened: OpenedRun
    """The network and its images."""

    coding: CodingOptions
    """The coding."""

    result: SettledResult
    """Accuracy, logits, and quanta by site."""

    def figures(self) -> dict[str, Any]:
        """The results as plain values; accuracies are fractions."""
        result = self.result
        return {
            "snn_accuracy": result.accuracy,
            "snn_top5_accuracy": result.top5_accuracy,
            "num_images": result.num_images,
            "quanta_per_image": result.quanta_per_image,
            "least_spikes_per_image": result.least_spikes_per_image,
        }

    def record(self) -> dict[str, Any]:
        """Everything, as plain values."""
        sites = {name: asdict(site) for name, site in self.result.sites.items()}
        return {**self.opened.facts(), "options": asdict(self.coding), **self.figures(), "sites": sites}


def run_settled(
    checkpoint: CheckpointOptions | OpenedRun | str | Path,
    steps: StepOptions = StepOptions(),  # noqa: B008  frozen
    coding: CodingOptions = CodingOptions("lossless"),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> SettledRun:
    """Convert a checkpoint and predict where its run settles, see `mst.predict_settled`.

    Args:
        checkpoint: the checkpoint and how to open it, its path alone, or an opened run.
        steps: the masks' seed.
        coding: how spikes carry activations.
        progress: called when the images have been shown.

    Raises:
        MissingFileError, InputError: as `run_simulation`; a coding under which no run settles; early exit or slices.
        ConversionError: the coding cannot carry the network.
    """
    check_coding(coding)
    if not coding_of(coding.coding).settles:
        raise InputError(
            f"under {coding.coding} coding no run settles, so its accuracy at T steps needs a simulation",
            remedy="leave --settled out, or choose --coding lossless",
        )
    for name, value in (("early_exit", steps.early_exit), ("slices", steps.slices)):
        if value is not None:
            raise InputError(f"{name} has no effect on where a run settles", remedy=f"leave {name} or settled out")
    opened = open_run(checkpoint)
    snn = converted(opened, coding)
    stage = Stage(progress, "one pass", opened.num_images, "images")
    with intra_op_threads(opened.threads):
        result = predict_settled(
            snn, opened.images, batch_size=opened.batch_size, num_workers=opened.num_workers, seed=steps.seed
        )
    stage.advance(result.num_images)
    return SettledRun(opened, coding, result)
