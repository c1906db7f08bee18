"""Every operation of a simulation as counts, without a price: by name, kind, stage, site and step.

Letters: T steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mst.conversion import CODINGS
from mst.operations import COMPARISON, FunctionCount, NeuronSite, Operation, OperationCount
from mst.simulation import SimulationResult

from .kinds import (
    AC,
    ACTIVATION_WRITE,
    CURRENT_ADDITION,
    INPUT_READ,
    MAC,
    MASK_DRAW,
    MEMBRANE_READ,
    MEMBRANE_WRITE,
    NEURON_UPDATE,
    SPIKE,
    THRESHOLD_COMPARISON,
)
from .memory import Sizes

MAP_KINDS = ("linear", "convolution", "product", "batch_norm")
"""Kinds of operations that are maps and products; a BatchNorm in evaluation is a linear map of each channel."""

FUNCTION, NEURONS, MASK, INPUT = "function", "neurons", "mask", "input"
"""Kinds of rows beside maps and products."""

ANALOG = "(analog)"
"""Stands in for a site where a row is driven by analog values."""

ROW_ASSUMPTIONS = (
    "Every neuron is updated at every step that an image takes: its potential is read, compared with the threshold "
    "(signed neurons: with two) and written. Under rate coding its constant current is added first; under lossless "
    "coding constants are in its potential from the start, and in an ANN in its sums. Each spike that a neuron fires, "
    "masked ones too, takes one subtraction.",
    "A mask draws one random number for each spike that a masked site fires; under lossless coding and in the ANN one "
    "for each neuron and image. Masks that share a draw (of channels, of tokens) draw fewer.",
    "The image is read at every step under rate coding and of slices; under lossless coding at each of its input "
    "steps.",
    "The ANN compares each activation once (a site with negative levels: not at all) and writes it once.",
)
"""Assumptions behind the rows of neurons, masks and the input."""


@dataclass(frozen=True, repr=False)
class CountRow:
    """Operations of one map, product or function, of the neurons or the mask of one site, or of the input."""

    name: str
    """Operation, function or site."""

    kind: str
    """Of the operation ("linear", "product", ...), or "function", "neurons", "mask", "input"."""

    snn_per_step: Mapping[str, Tensor]
    """Kind of operation -> float64 [T], their number in each step of the SNN, summed over images."""

    ann: Mapping[str, float]
    """Kind of operation -> number per image in the ANN."""

    num_images: int
    """N, images of the SNN."""

    sources: Mapping[str, float] = field(default_factory=lambda: {ANALOG: 1.0})
    """Site that drives it -> share of its operations; MACs of the SNN are always `ANALOG`'s."""

    sizes: Sizes = field(default_factory=dict)
    """Words in the memories that it uses."""

    operation: Operation | None = None
    """The operation, for rows of maps and products."""

    stand_in: CountRow | None = None
    """Row of the operation that stands for a softmax or LayerNorm where a cost model lacks an elementary operation."""

    @property
    def stage(self) -> str:
        """Part of the network that it belongs to, see `stage_of`."""
        return stage_of(self.name)

    @property
    def snn(self) -> dict[str, float]:
        """Kind of operation -> number per image in the SNN, over all steps that an image took."""
        return {kind: float(each.sum()) / self.num_images for kind, each in self.snn_per_step.items()}

    def __repr__(self) -> str:
        counts = ", ".join(f"{number:,.0f} {kind}" for kind, number in self.snn.items())
        return f"CountRow({self.name}, {self.kind}: {counts})"


def stage_of(name: str) -> str:
    """Part of the network that a module path belongs to: "layers.0" for "layers.0.blocks.1.attn.qkv", "layer1" for
    "layer1.0.conv1", "head" for "head"."""
    first, *others = name.split(" (")[0].split(".")
    return f"{first}.{others[0]}" if others and others[0].isdigit() and not first[-1:].isdigit() else first


def count_rows(result: SimulationResult) -> tuple[CountRow, ...]:
    """Every operation of a simulation: maps and products, functions, neurons, masks and the input.

    Softmax and LayerNorm are functions here, by their elementary operations.

    Args:
        result: of `mst.simulate` with record_operations on.
    """
    operations = {count.operation.name: _of_operation(count, result) for count in result.operations}
    rows = [row for row in operations.values() if row.kind in MAP_KINDS]
    rows += [_of_function(count, result, operations) for count in result.functions]
    for site in result.neurons:
        rows += _of_neurons(site, result)
    if result.input_values:
        rows.append(_of_input(result))
    return tuple(rows)


def _of_operation(count: OperationCount, result: SimulationResult) -> CountRow:
    operation = count.operation
    per_step = {AC: count.acs_per_step.double()} if operation.sources else {}
    if count.macs_per_step is not None:
        per_step[MAC] = count.macs_per_step.double()
    elif not operation.sources:
        per_step[MAC] = operation.dense_macs * result.images_per_step.double()
    ann = {MAC: float(operation.dense_macs)}
    shares = source_shares(count, result)
    return CountRow(
        operation.name, operation.kind, per_step, ann, result.num_images, shares, sizes_of(operation), operation
    )


def sizes_of(operation: Operation) -> Sizes:
    """Words in the memories of an operation: its weights, what it reads, and the potentials that it adds to."""
    return {
        "weights": float(operation.num_weights),
        "activations": float(operation.num_inputs),
        "potentials": float(operation.num_outputs),
    }


def source_shares(count: OperationCount, result: SimulationResult) -> dict[str, float]:
    """Site -> share of the ACs of an operation that it drives; where these were counted together, of the spikes."""
    names = count.operation.sources or (ANALOG,)
    spikes = result.spike_counts
    parts = count.acs_by_source or [spikes.get(name, 0) for name in names]
    total = sum(parts)
    return {name: part / total if total else 1 / len(names) for name, part in zip(names, parts, strict=True)}


def _of_function(count: FunctionCount, result: SimulationResult, operations: Mapping[str, CountRow]) -> CountRow:
    function, images = count.function, result.images_per_step.double()
    elements, shared = function.elements * images, function.shared * images
    if count.elements_per_step is not None and count.shared_per_step is not None:
        elements, shared = count.elements_per_step.double(), count.shared_per_step.double()
    per_step: dict[str, Tensor] = {}
    for numbers, per_one in ((elements, function.elementary(1, 0)), (shared, function.elementary(0, 1))):
        for kind, number in per_one.items():
            per_step[kind] = per_step.get(kind, torch.zeros_like(images)) + number * numbers
    ann = function.elementary(function.elements, function.shared)
    return CountRow(
        function.name, FUNCTION, per_step, ann, result.num_images, stand_in=operations.get(function.operation)
    )


def _of_neurons(site: NeuronSite, result: SimulationResult) -> Iterable[CountRow]:
    """Rows of the neurons of a site, and of its mask if it has one."""
    record, images = result.sites[site.site], result.num_images
    number, fired = record.num_neurons, (record.sent_per_step + record.dropped_per_step).double()
    updates = number * result.images_per_step.double()
    current = {} if CODINGS[result.coding].sends_changes else {CURRENT_ADDITION: updates}
    snn = {
        NEURON_UPDATE: updates,
        **current,
        THRESHOLD_COMPARISON: updates * (2 if site.is_signed else 1),
        SPIKE: fired,
        MEMBRANE_READ: updates,
        MEMBRANE_WRITE: updates,
    }
    ann = {ACTIVATION_WRITE: float(number)} | ({} if site.min_level < 0 else {COMPARISON: float(number)})
    sizes = {"potentials": float(number), "activations": float(number)}
    yield CountRow(site.site, NEURONS, snn, ann, images, {site.site: 1.0}, sizes)
    if site.is_masked:
        draws = fired
        if site.is_signed:  # drawn once and held
            draws = torch.zeros_like(fired)
            draws[0] = number * images
        yield CountRow(site.site, MASK, {MASK_DRAW: draws}, {MASK_DRAW: float(number)}, images, {site.site: 1.0})


def _of_input(result: SimulationResult) -> CountRow:
    shown = result.images_per_step.double()
    if CODINGS[result.coding].sends_changes and not result.in_slices:
        shown[result.input_steps :] = 0
    values = float(result.input_values)
    ann, sizes = {INPUT_READ: values}, {"activations": values}
    return CountRow("input", INPUT, {INPUT_READ: values * shown}, ann, result.num_images, sizes=sizes)
