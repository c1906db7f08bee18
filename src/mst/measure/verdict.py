"""A spiking network beside its ANNs and beside the thresholds that publications have set, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mst.simulation import SimulationResult

from .baselines import Baseline, baselines
from .energy import EnergyEstimate
from .kinds import AC, MAC


@dataclass(frozen=True)
class Threshold:
    """Number of spikes per neuron and inference below which a publication expects an SNN to spend less than an ANN."""

    spikes_per_neuron: float
    """The number."""

    source: str
    """Publication."""

    condition: str
    """What the publication says it holds for."""


THRESHOLDS = (
    Threshold(1.72, "Davidson and Furber 2021", "spikes per synapse (second hand)"),
    Threshold(
        1.38,
        "Dampfhoffer et al., IEEE TETCI 7(3), 2023",
        "spikes per synapse; between 0.15 and 1.38, depending on the ANN's implementation; IF neurons, memory included",
    ),
    Threshold(
        0.29,
        "Yan, Bai, Wong, arXiv 2409.08290 v4",
        "T = 5 at a spike rate below 5.7 %, data movement included, against an ANN of matched bits",
    ),
)
"""Published thresholds, from the most to the least generous."""


@dataclass(frozen=True)
class Verdict:
    """An SNN beside its baselines and the published thresholds."""

    baselines: tuple[Baseline, ...]
    """The ANN, its sparse form, and its quantised form."""

    spikes_per_neuron: float
    """Spikes that leave a neuron, per image."""

    spikes_per_synapse: float
    """ACs per MAC of the ANN, over the maps and products that spikes drive."""

    depends_on: tuple[str, ...] = ()
    """Prices behind it that are not constants of the cost model's source, with their share of the energy."""

    thresholds: tuple[Threshold, ...] = THRESHOLDS
    """What the spikes per neuron are compared with."""

    @property
    def below(self) -> tuple[Threshold, ...]:
        """Thresholds that the spikes per neuron stay below."""
        return tuple(each for each in self.thresholds if self.spikes_per_neuron < each.spikes_per_neuron)

    def __str__(self) -> str:
        known = [f"{each.ratio:.2f}x its {each.name}" for each in self.baselines if each.ratio is not None]
        sides = {"below": self.below, "above": [each for each in self.thresholds if each not in self.below]}
        where = [
            f"{side} {_listed([f'{each.spikes_per_neuron:g}' for each in limits])}"
            for side, limits in sides.items()
            if limits
        ]
        spends = f"Spends {_listed(known)}; " if known else ""
        return f"{spends}{self.spikes_per_neuron:.2f} spikes per neuron: {', '.join(where)}"


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]


def verdict_on(
    estimate: EnergyEstimate, result: SimulationResult, effective_macs: Mapping[str, float] | None = None
) -> Verdict:
    """Compare an SNN with its ANN, dense, sparse and quantised, by one cost model.

    Both sides hold everything: maps, products, functions, neurons, masks and the input.

    Args:
        estimate: of the SNN.
        result: of its simulation.
        effective_macs: from `count_effective_macs`; without them the sparse form has no price.

    Raises:
        InputError: the cost model has no energy for some of it, see `EnergyEstimate.everything`.
    """
    assert estimate.everything is not None
    rows = tuple(row.counted for row in estimate.budget)
    driven = [row for row in rows if row.operation is not None and row.operation.sources]
    synapses = sum(sum(row.ann.values()) for row in driven)
    acs = sum(row.snn.get(AC, 0.0) for row in driven)
    return Verdict(
        baselines(rows, estimate.cost_model, result.neurons, effective_macs),
        result.spikes_per_neuron,
        acs / synapses if synapses else 0.0,
        _depends_on(estimate),
    )


def _depends_on(estimate: EnergyEstimate) -> tuple[str, ...]:
    model, found = estimate.cost_model, []
    if model.status == "second hand":
        found.append(f"the constants of {model.name}, which are second hand")
    counted = [each.operations.counts for row in estimate.budget for each in (row.components.snn, row.components.ann)]
    groups = {
        "prices as given: {}": list(model.given),
        "prices derived by algorithms, not from the source: {}": [
            kind for counts in counted for kind in counts if model.is_derived(kind)
        ],
    }
    for text, kinds in groups.items():
        shares = [_share(estimate, set(kinds), side) for side in ("snn", "ann")]
        if max(shares) >= 0.005:
            words = ", ".join(kind.replace("_", " ") for kind in dict.fromkeys(kinds))
            found.append(f"{text.format(words)} ({shares[0]:.0%} of the SNN's energy, {shares[1]:.0%} of its ANN's)")
    return tuple(found)


def _share(estimate: EnergyEstimate, kinds: set[str], side: str) -> float:
    """Fraction of the energy of "snn" or "ann" that these kinds of operations take."""
    each = [getattr(row.components, side).operations.counts for row in estimate.budget]
    total = sum(sum(counts.values()) for counts in each)
    return sum(counts.get(kind, 0.0) for counts in each for kind in kinds) / total if total else 0.0


def break_even_mac(estimate: EnergyEstimate) -> float | None:
    """Energy of a MAC in pJ above which the SNN spends less than its dense ANN, all other prices as they are.

    Returns:
        The energy, 0 if the SNN spends less at any; None if it never does.
    """
    sides: list[tuple[float, float]] = []
    for side in ("snn", "ann"):
        others = [getattr(row.components, side).operations.counts for row in estimate.budget]
        energy = sum(pj for counts in others for kind, pj in counts.items() if kind != MAC)
        sides.append((sum(getattr(row, side).num_macs for row in estimate.budget), energy))
    (our_macs, ours), (their_macs, theirs) = sides
    if their_macs <= our_macs:
        return 0.0 if ours < theirs else None
    return max(0.0, (ours - theirs) / (their_macs - our_macs))
