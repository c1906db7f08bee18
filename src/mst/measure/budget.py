"""Where energy goes: the counts of a simulation priced by a cost model, by stage, kind, site, operation and step.

Letters: T steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from .cost_models import CostModel
from .costs import Cost, Operations, Part
from .kinds import AC, MAC
from .rows import ANALOG, CountRow

Axis = Literal["stage", "kind", "name", "site", "operation"]
"""An axis along which rows add up: part of the network, kind of row, single row, driving site, kind of operation."""


AXES: tuple[Axis, ...] = get_args(Axis)
"""All axes."""


@dataclass(frozen=True, repr=False)
class BudgetRow:
    """One row of the budget, per image."""

    counted: CountRow
    """The counts."""

    snn: Cost
    """In the SNN, over all steps that an image took."""

    ann: Cost
    """In the ANN."""

    snn_energy_pj_by_step: tuple[float, ...]
    """[T], energy of each step in pJ; they sum to that of `snn`."""

    components: Part
    """SNN and ANN by kind of operation; as `operations` of the two costs, energies in pJ."""

    @property
    def name(self) -> str:
        """Operation, function or site."""
        return self.counted.name

    @property
    def part(self) -> Part:
        """SNN and ANN."""
        return Part(self.snn, self.ann)

    def __repr__(self) -> str:
        return f"BudgetRow({self.name}, {self.counted.kind}: {self.snn!r})"


def price_rows(rows: Iterable[CountRow], model: CostModel) -> tuple[BudgetRow, ...]:
    """Price counts.

    Args:
        rows: from `count_rows`.
        model: prices. A softmax or LayerNorm that is a module and has an elementary operation without an energy is
            priced by its MACs (3 per element).

    Raises:
        InputError: the model has no energy for a kind of operation that occurs.
    """
    return tuple(_priced(row, model) for row in rows)


def _priced(row: CountRow, model: CostModel) -> BudgetRow:
    source = priced_as(row, model)
    per_step = [
        each * (model.energy_of(kind, source.sizes) / row.num_images)
        for kind, each in source.snn_per_step.items()
        if bool(each.any())
    ]
    num_steps = len(next(iter(source.snn_per_step.values())))
    steps = sum(per_step, torch.zeros(num_steps, dtype=torch.float64))
    snn, ann = (Operations(each) for each in (source.snn, source.ann))
    by_kind = [Cost(Operations(model.components(each, source.sizes)), 0.0) for each in (snn, ann)]
    costs = [model.price(each, source.sizes) for each in (snn, ann)]
    return BudgetRow(row, costs[0], costs[1], tuple(steps.tolist()), Part(by_kind[0], by_kind[1]))


def priced_as(row: CountRow, model: CostModel) -> CountRow:
    """The row, or the row of the operation that stands for it where the model lacks an elementary operation."""
    if row.stand_in is None or all(model.knows(kind) for kind, number in row.ann.items() if number):
        return row
    return row.stand_in


def budget_by(rows: Iterable[BudgetRow], axis: Axis) -> dict[str, tuple[float, float]]:
    """Energy of SNN and ANN in pJ per image, added up along an axis, in the order of the network.

    Args:
        rows: of `EnergyEstimate.budget`.
        axis: "site" shares a row among the sites that drive it; MACs of the SNN, functions and the input are the share
            of `ANALOG`. "operation" splits each row by kind of operation.
    """
    snn, ann = defaultdict[str, float](float), defaultdict[str, float](float)
    for row in rows:
        for label, (ours, theirs) in _shares(row, axis):
            snn[label] += ours
            ann[label] += theirs
    return {label: (snn[label], ann[label]) for label in snn}


def _shares(row: BudgetRow, axis: Axis) -> Iterable[tuple[str, tuple[float, float]]]:
    if axis == "operation":
        ours, theirs = (each.operations.counts for each in (row.components.snn, row.components.ann))
        return [(kind, (ours.get(kind, 0.0), theirs.get(kind, 0.0))) for kind in {**ours, **theirs}]
    if axis != "site":
        label = {"stage": row.counted.stage, "kind": row.counted.kind, "name": row.name}[axis]
        return [(label, (row.snn.energy_pj, row.ann.energy_pj))]
    analog = row.components.snn.operations.counts.get(MAC, 0.0)
    driven = row.snn.energy_pj - analog
    shares = [(site, (share * driven, share * row.ann.energy_pj)) for site, share in row.counted.sources.items()]
    return [*shares, (ANALOG, (analog, 0.0))] if analog else shares


def budget_by_step(rows: Iterable[BudgetRow], axis: Axis = "kind") -> dict[str, tuple[float, ...]]:
    """Energy of the SNN in pJ per image in each step [T], added up by stage, kind or name."""
    found: dict[str, list[float]] = {}
    for row in rows:
        label = {"stage": row.counted.stage, "kind": row.counted.kind, "name": row.name}[axis]
        before = found.get(label, [0.0] * len(row.snn_energy_pj_by_step))
        found[label] = [a + b for a, b in zip(before, row.snn_energy_pj_by_step, strict=True)]
    return {label: tuple(steps) for label, steps in found.items()}


@dataclass(frozen=True)
class MaskSaving:
    """What a mask saves at one site, per image."""

    site: str
    """Module path."""

    dropped: float
    """Spikes dropped."""

    sent: float
    """Spikes sent."""

    saved_pj: float
    """Energy that the dropped spikes would have driven, at the mean energy of those that were sent."""

    drawn_pj: float
    """Energy of drawing the mask."""


def mask_savings(rows: Iterable[BudgetRow], sites: Mapping[str, tuple[float, float]]) -> tuple[MaskSaving, ...]:
    """What masks save at each site that has one.

    Args:
        rows: of the budget.
        sites: site -> spikes sent and dropped per image.
    """
    driven, drawn = defaultdict[str, float](float), dict[str, float]()
    for row in rows:
        if row.counted.kind == "mask":
            drawn[row.name] = row.snn.energy_pj
        elif row.counted.operation is not None:
            acs = row.components.snn.operations.counts.get(AC, 0.0)
            for site, share in row.counted.sources.items():
                driven[site] += share * acs
    return tuple(
        MaskSaving(site, sites[site][1], sites[site][0], driven[site] * sites[site][1] / max(1.0, sites[site][0]), pj)
        for site, pj in drawn.items()
    )
