"""The paper's measure of power: spikes per second, times an energy of a spike that has no value."""

from __future__ import annotations

from dataclasses import dataclass

from mst.errors import InputError
from mst.simulation import SimulationResult


@dataclass(frozen=True)
class AlphaWatts:
    """Power in units of alpha watts, where alpha is the energy of a spike in joules.

    Raises:
        InputError: a step that takes no time.

    Source: Masked Spiking Transformer (ICCV 2023), table of masking ratios; the formula is second hand.
    """

    seconds_per_step: float = 1e-3
    """Length of a step."""

    name: str = "alpha-watts"
    """Name in records."""

    unit: str = "alpha W"
    """Unit. It cannot be compared with joules: alpha has no value, and an ANN sends no spikes."""

    source: str = "Masked Spiking Transformer, ICCV 2023 (its formula second hand)"
    """Publication."""

    status: str = "second hand"
    """Way in which it was obtained; no hardware is behind it."""

    not_counted: tuple[str, ...] = (
        "outputs that a spike reaches", "MACs on analog values", "functions", "updates of neurons", "memory traffic",
        "draws of masks", "steps that a run takes",
    )  # fmt: skip
    """What the measure does not see."""

    def __post_init__(self) -> None:
        if not self.seconds_per_step > 0:
            raise InputError(f"a step takes more than 0 s, got {self.seconds_per_step}", where=self.name)

    def price(self, result: SimulationResult) -> float:
        """Alpha watts of a simulation: spikes that are sent per image and step, divided by the length of a step."""
        return result.spikes_per_image / result.mean_steps / self.seconds_per_step

    def in_words(self, result: SimulationResult) -> str:
        """The figure, and what it does not see."""
        return (
            f"{self.price(result):.3g} {self.unit} (spikes per second at {1e3 * self.seconds_per_step:g} ms per step "
            f"times the energy alpha of a spike). It does not see: {', '.join(self.not_counted)}"
        )


ALPHA_WATTS = AlphaWatts()
"""The measure with steps of 1 ms, as in the paper."""
