"""From what a simulation recorded to energy, for the SNN and for the ANN it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mst.conversion import SpikingNetwork
from mst.operations import ChangeCounter, OperationCount, SpikeCounter, trace_operations
from mst.simulation import SimulationResult


@dataclass(frozen=True)
class EnergyConstants:
    """Energy of one operation, in pJ.

    mac_pj: multiply-accumulate.  ac_pj: accumulate.  source: where the figures come from.

    Raises:
        ValueError: an energy that is not above 0.
    """

    mac_pj: float
    ac_pj: float
    source: str

    def __post_init__(self) -> None:
        if not all(math.isfinite(pj) and pj > 0 for pj in (self.mac_pj, self.ac_pj)):
            raise ValueError(f"energies must be above 0 pJ, got MAC {self.mac_pj} and AC {self.ac_pj}")


HOROWITZ_45NM_FP32 = EnergyConstants(4.6, 0.9, "45 nm CMOS, 32-bit floating point (Horowitz, ISSCC 2014)")


@dataclass(frozen=True)
class Cost:
    """Operations and energy of one image."""

    num_macs: float
    num_acs: float
    energy_pj: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.num_macs + other.num_macs, self.num_acs + other.num_acs, self.energy_pj + other.energy_pj)

    def scaled(self, factor: float) -> Cost:
        """This cost times `factor`."""
        return Cost(self.num_macs * factor, self.num_acs * factor, self.energy_pj * factor)

    @property
    def energy_mj(self) -> float:
        """Energy in mJ."""
        return self.energy_pj * 1e-9


@dataclass(frozen=True)
class OperationCost:
    """One row: an operation, what drives it, and what it costs an image in the SNN and in the ANN.

    by_events: it reads slices of recordings over time, and its MACs are those of the values that are not 0.
    by_changes: it works on what has changed, as all operations do under lossless coding.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    snn: Cost
    ann: Cost
    by_events: bool = False
    by_changes: bool = False

    @property
    def driven_by(self) -> str:
        """Sites, or what else its input is, in words."""
        if self.sources and self.snn.num_macs:
            return f"{', '.join(self.sources)}; changes of analog values"
        if self.sources:
            return ", ".join(self.sources)
        return "changes of analog values" if self.by_changes else "events" if self.by_events else "analog values"


@dataclass(frozen=True)
class SiteCost:
    """What the operations cost that one site drives: by its spikes in the SNN, by its activations in the ANN."""

    snn: Cost
    ann: Cost


ANALOG = "(analog)"
"""Stands in for a site where an operation is driven by analog values."""


@dataclass(frozen=True)
class EnergyEstimate:
    """Cost per image. The rows of `operations` sum to the totals, and so do those of `sites`.

    operations: one row per operation.  sites: by what drives the operations; `ANALOG` for those that no site does.
    snn_energy_pj_per_step: cumulative, entry t-1 is the energy of a run stopped after t steps.
    num_steps: T.  mean_steps: that an image took; fewer than T where it had settled or left early.
    """

    num_steps: int
    mean_steps: float
    operations: tuple[OperationCost, ...]
    sites: Mapping[str, SiteCost]
    snn: Cost
    ann: Cost
    snn_energy_pj_per_step: tuple[float, ...]
    constants: EnergyConstants
    assumptions: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Energy of the SNN as a multiple of its ANN's."""
        return self.snn.energy_pj / self.ann.energy_pj


def estimate_energy(result: SimulationResult, constants: EnergyConstants = HOROWITZ_45NM_FP32) -> EnergyEstimate:
    """Price the operations that a simulation recorded, per image.

    SNN, rate coding: spikes x fan-out x ac_pj, plus dense MACs of analog operations x steps x mac_pj, for the steps
    that each image took. Lossless coding: spikes x fan-out x ac_pj, plus changes of analog values x fan-out x mac_pj.
    ANN: dense MACs x mac_pj.

    Args:
        result: of `mst.simulate` with record_operations on.
        constants: energy per operation.

    Raises:
        ValueError: the simulation recorded no operations, or there are some whose cost is not known.

    Source: Horowitz, "Computing's energy problem", ISSCC 2014, for the constants.
    """
    _refuse_uncounted(result.uncounted)
    if not result.operations:
        raise ValueError("the simulation recorded no operations; run mst.simulate with record_operations=True")
    rows = tuple(_row(count, result, constants) for count in result.operations)
    nothing = Cost(0.0, 0.0, 0.0)
    return EnergyEstimate(
        num_steps=result.num_steps,
        mean_steps=result.mean_steps,
        operations=rows,
        sites=_by_site(rows, result, constants.mac_pj),
        snn=sum((row.snn for row in rows), nothing),
        ann=sum((row.ann for row in rows), nothing),
        snn_energy_pj_per_step=_by_step(result, constants),
        constants=constants,
        assumptions=(ChangeCounter if result.coding == "lossless" else SpikeCounter).assumptions,
    )


def check_can_be_priced(snn: SpikingNetwork, image: Tensor) -> None:
    """See before a long simulation whether `estimate_energy` will know the cost of every operation.

    Args:
        image: [1, ...].

    Raises:
        ValueError: it will not, or the network cannot carry the image.
    """
    like = next((t for t in [*snn.parameters(), *snn.buffers()] if t.is_floating_point()), image)
    trace = trace_operations(snn.network, image.to(like.device, like.dtype), any_function=snn.is_lossless)
    _refuse_uncounted(trace.uncounted)


def _refuse_uncounted(uncounted: tuple[str, ...]) -> None:
    if uncounted:
        raise ValueError(
            f"the cost of these is not known: {', '.join(uncounted)}; make each an nn.Linear, nn.Conv2d, "
            "nn.Softmax or mst.ActivationProduct, so that its operations are counted"
        )


def _by_site(rows: tuple[OperationCost, ...], result: SimulationResult, mac_pj: float) -> dict[str, SiteCost]:
    """The rows added up by the site that drives them; where several do, in proportion to their spikes. MACs of a row
    that spikes drive are those of its other operand, which is analog (softmax·v under lossless coding)."""
    nothing = Cost(0.0, 0.0, 0.0)
    sites = dict.fromkeys([*result.sites, ANALOG], SiteCost(nothing, nothing))
    spikes = result.spike_counts
    for row in rows:
        drivers, snn = row.sources or (ANALOG,), row.snn
        if row.sources and snn.num_macs:
            macs = Cost(snn.num_macs, 0.0, snn.num_macs * mac_pj)
            sites[ANALOG] = SiteCost(sites[ANALOG].snn + macs, sites[ANALOG].ann)
            snn = Cost(0.0, snn.num_acs, snn.energy_pj - macs.energy_pj)
        total = sum(spikes.get(name, 0) for name in drivers)
        for name in drivers:
            share = spikes.get(name, 0) / total if total else 1.0 / len(drivers)
            before = sites[name]
            sites[name] = SiteCost(before.snn + snn.scaled(share), before.ann + row.ann.scaled(share))
    return sites


def _row(count: OperationCount, result: SimulationResult, constants: EnergyConstants) -> OperationCost:
    operation = count.operation
    acs = int(count.acs_per_step.sum()) / result.num_images
    macs = 0.0 if operation.is_spike_driven else operation.dense_macs * result.mean_steps
    if count.macs_per_step is not None:
        macs = int(count.macs_per_step.sum()) / result.num_images
    return OperationCost(
        name=operation.name,
        kind=operation.kind,
        sources=operation.sources,
        snn=Cost(macs, acs, macs * constants.mac_pj + acs * constants.ac_pj),
        ann=Cost(float(operation.dense_macs), 0.0, operation.dense_macs * constants.mac_pj),
        by_events=count.macs_per_step is not None and result.coding == "rate",
        by_changes=result.coding == "lossless",
    )


def _by_step(result: SimulationResult, constants: EnergyConstants) -> tuple[float, ...]:
    counted = [c.macs_per_step for c in result.operations if c.macs_per_step is not None]
    analog = sum(
        c.operation.dense_macs for c in result.operations if not c.operation.is_spike_driven and c.macs_per_step is None
    )
    images = result.images_per_step.tolist()
    energies, total = [], 0.0
    for t in range(result.num_steps):
        acs = sum(int(c.acs_per_step[t]) for c in result.operations) / result.num_images
        macs = (
            analog * images[t] / result.num_images + sum(int(per_step[t]) for per_step in counted) / result.num_images
        )
        total += macs * constants.mac_pj + acs * constants.ac_pj
        energies.append(total)
    return tuple(energies)
