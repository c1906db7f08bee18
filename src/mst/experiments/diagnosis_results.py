"""Results of a diagnosis of a quantised network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mst.quantization.site_errors import OutputError, Reference, SiteErrors

Change = Literal["levels", "one more bit", "per channel"]
"""See `LevelTrial`."""


@dataclass(frozen=True)
class LevelTrial:
    """The network with other levels or thresholds at every site."""

    change: Change
    """levels: the same number at all sites. one more bit: 2L + 1 levels in place of L at each site. per channel: the
    levels as they are, and a threshold for each channel where a site may have that."""

    num_levels: int | None
    """L, levels above the lowest; None where the change is another."""

    output: OutputError
    """Its output beside the reference's."""


@dataclass(frozen=True)
class SiteRemedy:
    """A site with a large effect on the output, and what would lower it: effects as in `SiteErrors.own_effect`."""

    site: str
    """Module path."""

    share: float
    """Share of the sum of the squared effects of all sites."""

    effect: float
    """Effect as the network is."""

    with_one_more_bit: float | None
    """Effect with twice the number of quanta; None if it was not tried."""

    per_channel: float | None
    """Effect with a threshold for each channel; None if it was not tried, or the site has them or may not have them."""


@dataclass(frozen=True)
class CodingTrial:
    """The spiking network on a few images, its answers beside the quantised network's."""

    coding: str
    """The coding, with its schedule and burst: "rate", "lossless, free, burst 4"."""

    refused: tuple[str, ...] = ()
    """Reasons why this coding cannot carry the network; all else is empty then."""

    num_images: int = 0
    """Images simulated."""

    agreement: tuple[float, ...] = ()
    """Fraction of the images with the quantised network's prediction, after 1, 2, ... T steps."""

    num_settled: int | None = None
    """Images that settled within T steps, whose answers then are exact; None if the coding does not settle."""

    mean_steps: float | None = None
    """Steps until an image settled, mean over those that did."""

    most_steps: int | None = None
    """Steps until the last of them settled."""

    def steps_to(self, agreement: float) -> int | None:
        """The smallest T from which on the agreement is at least this; None if there is none."""
        below = [step for step, each in enumerate(self.agreement, start=1) if each < agreement]
        first = below[-1] + 1 if below else 1
        return first if first <= len(self.agreement) else None


@dataclass(frozen=True)
class Diagnosis:
    """Result of `mst.diagnose`."""

    num_images: int
    """Images that it was made on."""

    reference: Reference
    """The network that errors are measured against, see `mst.quantization.site_errors.Reference`."""

    reference_accuracy: float | None
    """Accuracy of the reference, a fraction; None without labels."""

    output: OutputError
    """Output of the network as it is, beside the reference's."""

    sites: tuple[SiteErrors, ...]
    """Sites in the order in which they act."""

    unused: tuple[str, ...]
    """Sites that take no part in the forward pass."""

    trials: tuple[LevelTrial, ...]
    """Other levels; empty without calibration images where they are needed."""

    remedies: tuple[SiteRemedy, ...]
    """The sites with the largest effects, largest first."""

    codings: tuple[CodingTrial, ...]
    """The spiking network under each coding; empty if no image was simulated."""

    def enough_levels(self, agreement: float) -> int | None:
        """The smallest L tried with at least this agreement; None if there is none."""
        enough = [
            trial.num_levels
            for trial in self.trials
            if trial.num_levels is not None
            and trial.output.agreement is not None
            and trial.output.agreement >= agreement
        ]
        return min(enough, default=None)

    def __repr__(self) -> str:
        worst = f", largest effect at {self.remedies[0].site}" if self.remedies else ""
        return f"Diagnosis({self.num_images} images, {len(self.sites)} sites, error {self.output.error:.3g}{worst})"
