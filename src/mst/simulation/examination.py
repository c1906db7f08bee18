"""Before the first image: anything that the coding cannot carry is refused, and the operations are traced. After each
batch: neurons that have received NaN are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mst.conversion import ConversionError, Obstacle, SpikingNetwork, refuse_dependent_answers
from mst.dataflow import trace_dataflow
from mst.errors import InputError
from mst.models import copy_network
from mst.neurons import RunState
from mst.numbers import is_finite
from mst.operations import FunctionCounter, NeuronSite, OperationCounter, Trace, neuron_sites, trace_operations

from .options import SimulationOptions


class Prepared(NamedTuple):
    """Facts that a simulation needs before its first image."""

    counter: OperationCounter | None = None
    """Counts operations; None if they are not recorded."""

    functions: FunctionCounter | None = None
    """Counts functions, likewise."""

    uncounted: tuple[str, ...] = ()
    """Operations whose cost is not known."""

    sites: tuple[str, ...] = ()
    """Sites that the first image has reached."""

    neurons: tuple[NeuronSite, ...] = ()
    """Facts about these sites; empty if operations are not recorded."""

    input_values: int = 0
    """Values of one image; 0 if operations are not recorded."""


def prepare(snn: SpikingNetwork, image: Tensor, options: SimulationOptions) -> Prepared:
    """Refuse what the coding cannot carry, and find the operations to count.

    Args:
        snn: the network.
        image: [1, ...], the first image or its first slice.
        options: of the simulation; without record_operations there is no counter.

    Raises:
        ConversionError: the network does what spikes cannot carry.
        InputError: it does not return one tensor.
    """
    if options.in_slices and not snn.coding.carries_any_function:
        _refuse_slices(snn, image)
    sites = snn.reached_sites if snn.examined else _examine(snn, image)
    if not options.record_operations:
        return Prepared(sites=sites)
    trace = trace_for(snn, image, in_slices=options.in_slices, is_examined=True)
    counter = snn.coding.counter(snn.network, trace.operations, options.num_steps, options.in_slices, trace.fan_outs)
    functions = FunctionCounter(snn.network, trace.functions, options.num_steps, counter.counts_changes)
    known = neuron_sites(snn.network)
    neurons = tuple(known[site] for site in trace.sites if site in known)
    return Prepared(counter, functions, trace.uncounted, trace.sites, neurons, trace.input_values)


def _examine(snn: SpikingNetwork, image: Tensor) -> tuple[str, ...]:
    """Examine a network that was converted without an image; returns the sites that the image has reached."""
    seen = trace_dataflow(copy_network(snn.network), image, any_function=snn.coding.carries_any_function)
    constants = [
        Obstacle(where, "its input depends on no image", "convert with an example, so that it stays a constant")
        for where in dict.fromkeys(seen.constants)
    ]
    if seen.obstacles or constants:
        raise ConversionError((*seen.obstacles, *constants))
    refuse_dependent_answers(snn.network, image)
    return tuple(seen.depths)


def check_reached(run: RunState, sites: tuple[str, ...]) -> None:
    """Check that the first steps of a run have reached the sites that the examination has seen, and no others.

    Raises:
        InputError: some were passed by, or others were reached.
    """
    missing = [site for site in sites if site not in run.visited_sites]
    others = [site for site in run.counts if sites and site not in sites]
    if missing or others:
        raise InputError(
            f"the first step {'passed by' if missing else 'reached'} {', '.join(missing or others)}, which the "
            f"examination of the network {'reached' if missing else 'did not'}",
            where="site" if len(missing or others) == 1 else "sites",
            remedy="torch's fused fast path takes nn.TransformerEncoderLayer and nn.MultiheadAttention past their "
            "parts: switch it off with torch.backends.mha.set_fastpath_enabled(False). Otherwise let no branch of a "
            "forward depend on the number of images, on hooks or on gradients",
        )


def trace_for(snn: SpikingNetwork, image: Tensor, *, in_slices: bool = False, is_examined: bool | None = None) -> Trace:
    """The operations of a network under its coding.

    Args:
        snn: the network.
        image: [1, ...].
        in_slices: True if it will see slices over time.
        is_examined: see `trace_dataflow`; by default what the network says.

    Raises:
        ConversionError: the network does what spikes cannot carry.
    """
    return trace_operations(
        snn.network,
        image,
        is_static=not in_slices,
        any_function=snn.coding.carries_any_function,
        counts_changes=snn.coding.sends_changes,
        is_examined=snn.examined if is_examined is None else is_examined,
    )


def refuse_nan(run: RunState, images: Tensor | None = None) -> None:
    """Refuse a run in which a neuron has received NaN. It never fires again, so the logits may still be numbers.

    Args:
        run: the run, after its last step or before images leave.
        images: bool [B], those to look at; None looks at all.

    Raises:
        InputError: names the site.
    """
    for (site, _), state in run.state.items():
        has_rows = state.dim() > 0 and len(state) % run.batch_size == 0  # `keep_images` refuses others
        tensor = state if images is None or not has_rows else torch.unflatten(state, 0, (run.batch_size, -1))[images]
        if not is_finite(tensor) and bool(tensor.isnan().any()):
            raise InputError(
                "its neurons have received NaN, although images and weights are finite",
                where=f"site {site!r}",
                remedy="look before it for an overflow, a division by 0, or a root or logarithm of numbers below 0",
            )


def _refuse_slices(snn: SpikingNetwork, image: Tensor) -> None:
    seen, still = (
        trace_dataflow(snn.network, image, is_static=is_static, is_examined=snn.examined) for is_static in (False, True)
    )
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
