"""Facts about a tensor on its way through a network, and how they combine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .obstacles import Obstacle

if TYPE_CHECKING:
    from .functions import FunctionCall
    from .streams import Stream, Streams


@dataclass(frozen=True)
class Flow:
    """Facts about a tensor that depends on the image."""

    spikes_of: frozenset[str] = frozenset()
    """Sites whose spikes it holds; empty if it holds anything else."""

    pooled: int = 1
    """Inputs that were averaged into one since they were spikes."""

    since_map: tuple[int, ...] = ()
    """Ids of the tensors on its way since a linear map, of which only the layout changed; empty if it comes from no
    map."""

    made_by: str = ""
    """Path of the module whose very output it is."""

    is_static: bool = True
    """True if it is the same at every step, no neuron having had a part in it."""

    awaiting: frozenset[tuple[str, str]] = frozenset()
    """Functions on its way since the last neuron that do not keep the mean over time, as (path, function)."""

    depth: int = 0
    """Sites in the longest chain that leads to it."""

    passed: frozenset[int] = frozenset()
    """Numbers of the `Places` on its way since the last neuron."""

    last: frozenset[int] = frozenset()
    """Those of them of whose results only the layout has changed."""


@dataclass(frozen=True)
class Call:
    """A module that ran."""

    path: str
    """Module path."""

    module: nn.Module
    """The module."""

    inputs: tuple[Tensor, ...]
    """Its tensors, positional ones first."""

    output: Tensor
    """The tensor that it returned."""

    flows: tuple[Flow | None, ...]
    """One for each of `inputs`; None where it does not depend on the image."""

    streams: tuple[Stream | None, ...]
    """One for each of `inputs`; None where it is not a sum of spikes through constants."""


@dataclass
class Dataflow:
    """Result of `trace_dataflow`."""

    obstacles: list[Obstacle] = field(default_factory=list)
    """All places that the coding cannot carry."""

    analog: list[Obstacle] = field(default_factory=list)
    """With `any_function`: places that are carried, but that only analog values can pass."""

    approximate: list[Obstacle] = field(default_factory=list)
    """Without `any_function`: places that are carried, but whose mean over time is not quite the ANN's value."""

    constants: list[str] = field(default_factory=list)
    """Paths of neurons and max-pools whose input depends on no image."""

    max_pools: list[str] = field(default_factory=list)
    """Paths where a max-pool over spikes is a function."""

    depths: dict[str, int] = field(default_factory=dict)
    """Site -> sites before it in the longest chain."""

    uncounted: list[str] = field(default_factory=list)
    """Linear maps, fused attention and recurrent layers that are functions, not modules, as "path (function)"."""

    functions: list[FunctionCall] = field(default_factory=list)
    """Calls of functions between the sites, where modules are counted, in the order in which they are made."""

    foldable: dict[str, str] = field(default_factory=dict)
    """BatchNorm -> linear map whose output it alone reads."""

    free_norms: set[str] = field(default_factory=set)
    """BatchNorms that a linear map before them could take in, though its output's layout may change on the way."""

    calls: list[Call] = field(default_factory=list)
    """Calls of the counted modules, in the order in which they ended."""

    streams: Streams | None = None
    """Ways of spikes to the inputs of the calls; None if no modules were counted."""

    image: Tensor | None = None
    """The image that the network was shown."""


def moved(flows: Sequence[Flow]) -> Flow:
    """Flow of values put in other places: spikes stay spikes."""
    sites = [flow.spikes_of for flow in flows]
    factors = {flow.pooled for flow in flows}
    are_spikes = all(sites) and len(factors) == 1
    return replace(
        computed(flows),
        spikes_of=frozenset().union(*sites) if are_spikes else frozenset(),
        pooled=factors.pop() if are_spikes else 1,
        since_map=flows[0].since_map if len(flows) == 1 else (),
        last=frozenset().union(*(flow.last for flow in flows)),
    )


def computed(flows: Sequence[Flow]) -> Flow:
    """Flow of new values computed from others: analog from here on."""
    return Flow(
        is_static=all(flow.is_static for flow in flows),
        awaiting=frozenset().union(*(flow.awaiting for flow in flows)),
        depth=deepest(flows),
        passed=frozenset().union(*(flow.passed for flow in flows)),
    )


def averaged(
    name: str, flow: Flow, source: Tensor, output: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Flow:
    """Flow behind an average pool or a mean: spikes add up, where the same number of inputs goes into every output."""
    factor = source.numel() // output.numel() if output.numel() else 0
    if name.startswith("avg_pool"):
        factor = _window(int(name[-2]), args, kwargs)
    elif name.startswith("adaptive"):
        dims = int(name[-2])
        if any(a % b for a, b in zip(source.shape[-dims:], output.shape[-dims:], strict=True)):
            factor = 0
    if not factor or not flow.spikes_of:
        return replace(computed([flow]), since_map=flow.since_map)
    return replace(flow, pooled=flow.pooled * factor, made_by="", last=frozenset())


def _window(dims: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Inputs in each window of an average pool; 0 where windows differ."""
    given = pool_arguments(args, kwargs)
    padded = given.get("padding", 0) not in (0, (0,) * dims, [0] * dims)
    if given.get("divisor_override") or given.get("ceil_mode") or (padded and not given.get("count_include_pad", True)):
        return 0
    sizes = given["kernel_size"]
    return math.prod(sizes) if isinstance(sizes, tuple | list) else int(sizes**dims)


def pool_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name -> argument of a call of an average pool that is not adaptive."""
    names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return dict(zip(names, args, strict=False)) | kwargs


def deepest(flows: Sequence[Flow]) -> int:
    """Sites in the longest chain that leads to any of these."""
    return max((flow.depth for flow in flows), default=0)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, also in tuples, lists and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
