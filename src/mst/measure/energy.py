"""From what a simulation recorded to energy, for the SNN and for the ANN it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mst.conversion import CODINGS, SpikingNetwork
from mst.errors import InputError
from mst.operations import OperationCount
from mst.simulation import SimulationResult, trace_for

from .budget import BudgetRow, price_rows
from .cost_models import CostModel, cost_model_named
from .costs import Cost, Operations, Part, readable_energy
from .functions import (
    FUNCTION_ASSUMPTIONS,
    FunctionCost,
    check_functions,
    energy_by_step,
    function_by_step,
    function_rows,
)
from .kinds import AC, BESIDE, MAC
from .published import HOROWITZ_45NM_FP32
from .rows import ANALOG, MAP_KINDS, ROW_ASSUMPTIONS, count_rows, sizes_of, source_shares


@dataclass(frozen=True)
class OperationCost:
    """One row: an operation, what drives it, and its cost per image in the SNN and in the ANN."""

    name: str
    """Of the operation, see `Operation`."""

    kind: str
    """Of the operation, see `Operation`."""

    sources: tuple[str, ...]
    """Sites whose spikes drive it; empty if its input is analog."""

    snn: Cost
    """In the SNN, over all steps that an image took."""

    ann: Cost
    """In the ANN: its dense MACs."""

    by_events: bool = False
    """True if it reads slices of recordings over time, and its MACs are those of the values that are not 0."""

    by_changes: bool = False
    """True if it works on what has changed, as all operations do under lossless coding."""

    @property
    def driven_by(self) -> str:
        """Sites, by number if they are many, or what else its input is, in words."""
        if self.sources:
            few = len(self.sources) <= 2
            sites = ", ".join(self.sources) if few else f"{len(self.sources)} sites"
            return f"{sites}; changes of analog values" if self.snn.num_macs else sites
        return "changes of analog values" if self.by_changes else "events" if self.by_events else "analog values"


@dataclass(frozen=True)
class SiteCost:
    """Cost of the operations that one site drives."""

    snn: Cost
    """Driven by its spikes."""

    ann: Cost
    """Driven by its activations."""


@dataclass(frozen=True, repr=False)
class EnergyEstimate:
    """Cost per image. The rows of `operations` sum to `snn` and `ann`, and so do those of `sites`.

    These totals hold maps, products and norms, and softmax and LayerNorm where they are modules, at 3 MACs per element.
    All functions, these two again, are in `functions` by their elementary operations; `maps_and_products`,
    `all_functions` and `whole` add up without counting anything twice.
    """

    num_steps: int
    """T."""

    mean_steps: float
    """Steps that an image took on average: fewer than T where images had settled or left early."""

    operations: tuple[OperationCost, ...]
    """One row per operation, in the order of the network."""

    sites: Mapping[str, SiteCost]
    """Site -> cost of what it drives; `ANALOG` for operations that no site drives."""

    snn: Cost
    """Of the spiking network."""

    ann: Cost
    """Of the ANN that it was converted from."""

    snn_energy_pj_per_step: tuple[float, ...]
    """Cumulative: entry t-1 is the energy in pJ of a run stopped after t steps, of what `snn` holds."""

    cost_model: CostModel
    """Prices of the operations."""

    assumptions: tuple[str, ...] = ()
    """Assumptions behind the counts."""

    functions: tuple[FunctionCost, ...] = ()
    """One row per function between the sites, in the order of the network."""

    whole_energy_pj_per_step: tuple[float, ...] = ()
    """Cumulative, as `snn_energy_pj_per_step`, of what `whole` holds: maps, products and all functions."""

    budget: tuple[BudgetRow, ...] = ()
    """Every row once: maps and products, functions, neurons, masks and the input. They sum to `everything`."""

    unpriced: tuple[str, ...] = ()
    """Kinds of operations of neurons, masks and the input that occur and have no energy in the cost model."""

    @property
    def ratio(self) -> float:
        """Energy of the SNN as a multiple of its ANN's: of `snn` and `ann`, without functions that have no row among
        the operations."""
        return self.snn.energy_pj / self.ann.energy_pj

    @property
    def maps_and_products(self) -> Part:
        """Linear maps, convolutions, products of activations and BatchNorms."""
        rows = [row for row in self.operations if row.kind in MAP_KINDS]
        return Part(sum((row.snn for row in rows), _NOTHING), sum((row.ann for row in rows), _NOTHING))

    @property
    def all_functions(self) -> Part:
        """The sum of `functions`."""
        return Part(
            sum((row.snn for row in self.functions), _NOTHING), sum((row.ann for row in self.functions), _NOTHING)
        )

    @property
    def whole(self) -> Part:
        """Maps, products and functions."""
        return self.maps_and_products + self.all_functions

    @property
    def everything(self) -> Part:
        """Sum of `budget`: maps, products, functions, neurons, masks and the input.

        Raises:
            InputError: the cost model has no energy for some of it.
        """
        if self.unpriced:
            raise InputError(
                f"the cost model {self.cost_model.name} has no energy for {', '.join(self.unpriced)}",
                remedy="add the constants, or name these kinds in leaves_out, each with the reason",
            )
        return sum((row.part for row in self.budget), Part(_NOTHING, _NOTHING))

    def __repr__(self) -> str:
        relative = f" = {self.ratio:.2f}x its ANN" if self.ann.energy_pj else ""
        steps = f"T={self.num_steps}" if self.mean_steps == self.num_steps else f"{self.mean_steps:.1f} steps"
        return f"EnergyEstimate({readable_energy(self.snn.energy_pj)}{relative}, {steps}, {self.cost_model.name})"


def estimate_energy(result: SimulationResult, cost_model: CostModel | str = HOROWITZ_45NM_FP32) -> EnergyEstimate:
    """Price the operations that a simulation recorded, per image.

    SNN, rate coding: spikes x fan-out accumulates, and the dense MACs of analog operations at each of the steps that an
    image took. Lossless coding: spikes x fan-out accumulates, and changes of analog values x fan-out MACs. ANN: dense
    MACs.

    Args:
        result: of `mst.simulate` with record_operations on.
        cost_model: energy per operation, or the name of a registered model, see `COST_MODELS`.

    Raises:
        InputError: the simulation recorded no operations, some have an unknown cost, or a kind of operation for which
            the cost model has no constant.
    """
    if isinstance(cost_model, str):
        cost_model = cost_model_named(cost_model)
    if not isinstance(result, SimulationResult):
        raise InputError(
            f"estimate_energy takes what mst.simulate returns, got {type(result).__name__}",
            remedy="simulate the spiking network first",
        )
    _refuse_uncounted(result.uncounted)
    if not result.operations:
        raise InputError("the simulation recorded no operations", remedy="run mst.simulate with record_operations=True")
    counter = CODINGS[result.coding].counter
    rows = tuple(_row(count, result, cost_model, counter.counts_changes) for count in result.operations)
    functions = function_rows(result, cost_model, {row.name: (row.snn, row.ann) for row in rows})
    by_step = {count.operation.name: _by_step(count, result, cost_model) for count in result.operations}
    whole = [by_step[row.name] for row in rows if row.kind in MAP_KINDS]
    whole += [function_by_step(count, result, cost_model, by_step) for count in result.functions]
    counted = count_rows(result)
    occurring = {kind for row in counted for each in (row.snn, row.ann) for kind, number in each.items() if number}
    unpriced = tuple(kind for kind in BESIDE if kind in occurring and not cost_model.knows(kind))
    return EnergyEstimate(
        num_steps=result.num_steps,
        mean_steps=result.mean_steps,
        operations=rows,
        sites=_by_site(rows, result, cost_model),
        snn=sum((row.snn for row in rows), _NOTHING),
        ann=sum((row.ann for row in rows), _NOTHING),
        snn_energy_pj_per_step=_stopped_after(by_step.values(), result.num_steps),
        whole_energy_pj_per_step=_stopped_after(whole, result.num_steps),
        cost_model=cost_model,
        assumptions=counter.assumptions + (FUNCTION_ASSUMPTIONS if functions else ()) + ROW_ASSUMPTIONS,
        functions=functions,
        budget=() if unpriced else price_rows(counted, cost_model),
        unpriced=unpriced,
    )


def check_can_be_priced(snn: SpikingNetwork, image: Tensor, cost_model: CostModel = HOROWITZ_45NM_FP32) -> None:
    """Check before a long simulation that `estimate_energy` will know the cost of every operation and function.

    Args:
        snn: the converted network.
        image: [1, ...].
        cost_model: the model that will price them.

    Raises:
        InputError: it will not.
        ConversionError: the network cannot carry the image.
    """
    like = next((t for t in [*snn.parameters(), *snn.buffers()] if t.is_floating_point()), image)
    trace = trace_for(snn, image.to(like.device, like.dtype))
    _refuse_uncounted(trace.uncounted)
    for operation in trace.operations:
        needed = {MAC: 1.0, AC: 1.0} if operation.sources else {MAC: 1.0}
        cost_model.price(Operations(needed), sizes_of(operation))
    check_functions(trace.functions, cost_model)


def _refuse_uncounted(uncounted: tuple[str, ...]) -> None:
    if uncounted:
        raise InputError(
            f"the cost of these is not known: {', '.join(uncounted)}",
            remedy="make each map an nn.Linear, nn.Conv2d or nn.ConvTranspose2d and each matrix product of activations "
            "an mst.ActivationProduct, and build functions from those that have a price (docs/maths.md, section 7), so "
            "that their operations are counted. A recurrent layer can be simulated, but is not priced",
        )


_NOTHING = Cost(Operations(), 0.0)


def _row(count: OperationCount, result: SimulationResult, cost_model: CostModel, by_changes: bool) -> OperationCost:
    operation = count.operation
    acs = int(count.acs_per_step.sum()) / result.num_images
    macs = 0.0 if operation.is_spike_driven else operation.dense_macs * result.mean_steps
    if count.macs_per_step is not None:
        macs = int(count.macs_per_step.sum()) / result.num_images
    return OperationCost(
        name=operation.name,
        kind=operation.kind,
        sources=operation.sources,
        snn=cost_model.price(Operations({MAC: macs, AC: acs}), sizes_of(operation)),
        ann=cost_model.price(Operations({MAC: float(operation.dense_macs)}), sizes_of(operation)),
        by_events=count.macs_per_step is not None and not by_changes,
        by_changes=by_changes,
    )


def _by_site(rows: tuple[OperationCost, ...], result: SimulationResult, cost_model: CostModel) -> dict[str, SiteCost]:
    """The rows added up by the site that drives them; where several do, in proportion to the ACs that they drive (to
    their spikes where these were counted together). MACs of a row that spikes drive are those of its other operand,
    which is analog (softmax·v under lossless coding)."""
    sites = dict.fromkeys([*result.sites, ANALOG], SiteCost(_NOTHING, _NOTHING))
    for row, count in zip(rows, result.operations, strict=True):
        snn = row.snn
        if row.sources and snn.num_macs:
            counts, sizes = snn.operations.counts, sizes_of(count.operation)
            macs, snn = (cost_model.price(Operations({kind: counts[kind]}), sizes) for kind in (MAC, AC))
            sites[ANALOG] = SiteCost(sites[ANALOG].snn + macs, sites[ANALOG].ann)
        for name, share in source_shares(count, result).items():
            before = sites[name]
            sites[name] = SiteCost(before.snn + snn.scaled(share), before.ann + row.ann.scaled(share))
    return sites


def _by_step(count: OperationCount, result: SimulationResult, cost_model: CostModel) -> Tensor:
    """float64 [T]: energy in pJ per image that the SNN spends on an operation in each step."""
    per_step = {AC: count.acs_per_step.double()}
    if count.macs_per_step is not None:
        per_step[MAC] = count.macs_per_step.double()
    elif not count.operation.is_spike_driven:
        per_step[MAC] = count.operation.dense_macs * result.images_per_step.double()
    return energy_by_step(per_step, result.num_images, cost_model, sizes_of(count.operation))


def _stopped_after(by_step: Iterable[Tensor], num_steps: int) -> tuple[float, ...]:
    """Cumulative energy of several operations and functions."""
    total = sum(by_step, torch.zeros(num_steps, dtype=torch.float64))
    return tuple(total.cumsum(0).tolist())
