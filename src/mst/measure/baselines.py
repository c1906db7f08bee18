"""The ANNs that a spiking network is compared with: in floating point, with zeros skipped, and quantised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mst.operations import NeuronSite

from .budget import priced_as
from .cost_models import CostModel
from .costs import Operations
from .kinds import MAC
from .rows import FUNCTION, CountRow

MAX_BITS = 8
"""Activations of more bits do not fit the published energy of an int8 MAC."""


@dataclass(frozen=True)
class Baseline:
    """An ANN beside the SNN, per image."""

    name: str
    """What it is, in words that follow "its": "fp32 ANN", "fp32 ANN with zeros skipped", "quantised ANN (int8)"."""

    ann_energy_pj: float | None
    """Energy of the ANN in pJ; None where it has no price."""

    snn_energy_pj: float | None
    """Energy of the SNN that it is compared with, in pJ."""

    note: str
    """Assumption behind it, or the reason for which it has no price."""

    @property
    def ratio(self) -> float | None:
        """Energy of the SNN as a multiple of the ANN's."""
        return self.snn_energy_pj / self.ann_energy_pj if self.ann_energy_pj and self.snn_energy_pj else None


def baselines(
    rows: Iterable[CountRow],
    model: CostModel,
    neurons: Iterable[NeuronSite],
    effective_macs: Mapping[str, float] | None = None,
) -> tuple[Baseline, ...]:
    """The ANN, the same with zeros skipped, its quantised form, and the quantised form beside an SNN of 8-bit weights.

    Args:
        rows: from `count_rows`.
        model: prices of the SNN.
        neurons: of `SimulationResult.neurons`; the quantised ANN has their levels.
        effective_macs: from `count_effective_macs`; without them the sparse form has no price.

    Raises:
        InputError: the model has no energy for a kind of operation that occurs.
    """
    rows, neurons = tuple(rows), tuple(neurons)
    own = {32: "fp32 ANN", 16: "fp16 ANN"}.get(model.bits, f"int{model.bits} ANN")
    snn = _energy(rows, model, "snn")
    sparse = "the zeros of its activations were not counted"
    skipping = None
    if effective_macs is not None:
        sparse = "MACs with an activation of 0 cost nothing, nor does finding them"
        skipping = _energy(rows, model, "ann", effective_macs=effective_macs)
    return (
        Baseline(own, _energy(rows, model, "ann"), snn, "dense"),
        Baseline(f"{own} with zeros skipped", skipping, snn, sparse),
        *_quantised(rows, model, neurons, snn),
    )


def _quantised(
    rows: tuple[CountRow, ...], model: CostModel, neurons: tuple[NeuronSite, ...], snn: float
) -> tuple[Baseline, ...]:
    name = "quantised ANN (int8)"
    if model.bits <= MAX_BITS:
        return ()  # the model's own ANN is that
    widest = max(neurons, key=lambda each: each.bits, default=None)
    if widest is not None and widest.bits > MAX_BITS:
        note = f"the activations of {widest.site} take {widest.bits} bits, more than the {MAX_BITS} of an int8 MAC"
        return (Baseline(name, None, snn, note),)
    narrow = model.at_8_bits
    if narrow is None:
        return (Baseline(name, None, snn, f"the cost model {model.name} has no constants for 8 bits (int8)"),)
    bits = widest.bits if widest is not None else 0
    ann = _energy(rows, model, "ann", narrow)
    note = (
        f"activations of {bits} bits, {_matched(rows):.0%} of its MACs multiply them; weights and all other operands "
        f"rounded to 8 bits too; maps, products and neurons by {narrow.name}, functions by {model.name}"
    )
    return (
        Baseline(name, ann, snn, note),
        Baseline("quantised ANN with 8-bit weights in both", ann, _energy(rows, model, "snn", narrow), note),
    )


def _matched(rows: tuple[CountRow, ...]) -> float:
    """Fraction of the ANN's MACs whose activations are all levels of one site each."""
    macs = {row.name: row.ann.get(MAC, 0.0) for row in rows if row.operation is not None}
    exact = 0.0
    for row in rows:
        if row.operation is not None:
            operands = row.operation.operands[: 2 if row.kind == "product" else 1]
            exact += macs[row.name] if operands and all(len(sites) == 1 for sites in operands) else 0.0
    return exact / sum(macs.values()) if macs else 0.0


def _energy(
    rows: tuple[CountRow, ...],
    model: CostModel,
    side: str,
    narrow: CostModel | None = None,
    effective_macs: Mapping[str, float] | None = None,
) -> float:
    """Energy in pJ of "snn" or "ann"; with `narrow` everything but functions at 8 bits."""
    total = 0.0
    for row in rows:
        prices = model if narrow is None or row.kind == FUNCTION else narrow
        counted = priced_as(row, prices)
        counts = dict(counted.snn if side == "snn" else counted.ann)
        if effective_macs is not None and row.operation is not None and row.name in effective_macs:
            counts[MAC] = effective_macs[row.name]
        total += prices.price(Operations(counts), counted.sizes).energy_pj
    return total
