"""Before the first image: anything that the coding cannot carry is refused, and the operations are traced. After each
batch: neurons that have received NaN are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torch import Tensor

from mst.conversion import ConversionError, Obstacle, SpikingNetwork
from mst.dataflow import trace_dataflow
from mst.errors import InputError
from mst.neurons import RunState
from mst.numbers import is_finite
from mst.operations import OperationCounter, Trace, trace_operations

from .options import SimulationOptions


def prepare_counter(
    snn: SpikingNetwork, image: Tensor, options: SimulationOptions
) -> tuple[OperationCounter | None, tuple[str, ...]]:
    """The counter of a simulation, and the operations whose cost is not known.

    Args:
        snn: the network.
        image: [1, ...], the first image or its first slice.
        options: of the simulation; without record_operations there is no counter.

    Raises:
        ConversionError: the network does what spikes cannot carry.
    """
    if options.in_slices and not snn.coding.carries_any_function:
        _refuse_slices(snn, image)
    if options.record_operations:
        trace = trace_for(snn, image, in_slices=options.in_slices)
        counter = snn.coding.counter(snn.network, trace.operations, options.num_steps, options.in_slices)
        return counter, trace.uncounted
    if not snn.examined and not options.in_slices:
        obstacles = trace_dataflow(snn.network, image, any_function=snn.coding.carries_any_function).obstacles
        if obstacles:
            raise ConversionError(tuple(obstacles))
    return None, ()


def trace_for(snn: SpikingNetwork, image: Tensor, *, in_slices: bool = False) -> Trace:
    """The operations of a network under its coding.

    Args:
        snn: the network.
        image: [1, ...].
        in_slices: True if it will see slices over time.

    Raises:
        ConversionError: the network does what spikes cannot carry.
    """
    return trace_operations(
        snn.network,
        image,
        is_static=not in_slices,
        any_function=snn.coding.carries_any_function,
        counts_changes=snn.coding.sends_changes,
    )


def refuse_nan(run: RunState) -> None:
    """Refuse a run in which a neuron has received NaN. It never fires again, so the logits may still be numbers.

    Raises:
        InputError: names the site.
    """
    for (site, _), tensor in run.state.items():
        if not is_finite(tensor) and bool(tensor.isnan().any()):
            raise InputError(
                "its neurons have received NaN, although images and weights are finite",
                where=f"site {site!r}",
                remedy="look before it for an overflow, a division by 0, or a root or logarithm of numbers below 0",
            )


def _refuse_slices(snn: SpikingNetwork, image: Tensor) -> None:
    seen, still = (trace_dataflow(snn.network, image, is_static=is_static) for is_static in (False, True))
    of_slices = Counter(seen.max_pools) - Counter(still.max_pools)  # of spikes they pass, as with still images
    obstacles = [
        *seen.obstacles,
        *(Obstacle(where, "a max-pool that is a function, of slices over time", "make it an nn.MaxPool2d")
          for where in of_slices),
    ]  # fmt: skip
    if obstacles and snn.examined:  # it converts: what stands in the way is before the first neuron
        obstacles = [replace(each, what=f"{each.what} (with slices; a still image may pass)") for each in obstacles]
    if obstacles:
        raise ConversionError(tuple(obstacles))
