"""Resources that a network needs on a chip, counted without one and held against the limits of the chip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .graph import Flatten, Graph, Map, Neurons
from .weights import integer_weights

ChipName = Literal["speck", "loihi2"]


@dataclass(frozen=True)
class Need:
    """One thing that is limited."""

    where: str
    """Module path; empty for the whole network."""

    what: str
    """Name of the quantity."""

    needed: float
    """Amount that the network needs."""

    limit: float
    """Amount that the chip has."""

    unit: str
    """Of both."""

    @property
    def fits(self) -> bool:
        """True if the chip has enough."""
        return self.needed <= self.limit


@dataclass(frozen=True)
class ChipCheck:
    """A network held against a chip."""

    chip: str
    """Name of the chip."""

    needs: tuple[Need, ...]
    """All quantities that were counted."""

    refusals: tuple[tuple[str, str], ...]
    """(module path, what the chip cannot do there at all)."""

    sources: tuple[str, ...]
    """Publications of the limits; "second hand" marks those that were not read in the original."""

    assumptions: tuple[str, ...]
    """Assumptions about the mapping of the network to the chip."""

    @property
    def fits(self) -> bool:
        """True if nothing stands in the way."""
        return not self.refusals and all(need.fits for need in self.needs)

    @property
    def too_large(self) -> tuple[Need, ...]:
        """The quantities of which the chip has too little."""
        return tuple(need for need in self.needs if not need.fits)


@dataclass(frozen=True)
class _Layer:
    """Maps whose sum one group of neurons integrates."""

    where: str
    shape: tuple[int, ...]
    maps: tuple[Map, ...]
    sources: tuple[tuple[int, ...], ...]  # shapes of the maps' inputs
    threshold: float | None  # None: the logits


def check_chip(graph: Graph, chip: ChipName) -> ChipCheck:
    """Count what the network needs of a chip.

    Args:
        graph: see `trace_graph`; with `quantize_weights`, its bits are the ones that are counted, else 8.
        chip: name of the chip.

    Returns:
        Each quantity with its limit, and what the chip cannot do at all.
    """
    return _CHECKS[chip](graph)


def _layers(graph: Graph) -> list[_Layer]:
    found = []
    for node in graph.nodes.values():
        if not isinstance(node, Neurons) and node is not graph.output:
            continue
        maps = [each for each in (graph.nodes[name] for name in graph.sources(node.name)) if isinstance(each, Map)]
        shapes = tuple(graph.nodes[graph.sources(each.name)[0]].shape for each in maps)
        threshold = float(node.threshold.max()) if isinstance(node, Neurons) else None
        where = node.path or (maps[0].path if maps else "output")
        found.append(_Layer(where, node.shape, tuple(maps), shapes, threshold))
    return found


def _state_bits(layer: _Layer, bits: int) -> int:
    """Bits, in units of the weights, of a membrane potential that holds the threshold and the largest sum of a step."""
    largest = 1.0
    for node in layer.maps:
        whole, scale = integer_weights(node.weight, bits)
        sums = whole.flatten(1).abs().sum(dim=1)
        if node.bias is not None:
            sums = sums + (node.bias / scale).abs()
        if layer.threshold is not None:
            sums = sums + layer.threshold / scale
        largest = max(largest, float(sums.max()))
    return 1 + math.ceil(math.log2(largest + 1))


def _power_of_two(number: float) -> int:
    """The exponent of the smallest power of two that is not below `number`."""
    return math.ceil(math.log2(max(1, number)))


# ------------------------------------------------------------------------------------------------- Speck

SPECK_CORES = ((16, 64),) * 3 + ((32, 32),) * 2 + ((64, 16),) * 2 + ((16, 16),) * 2
"""(kernel memory, neuron memory) of each core, in units of 1,024 words."""

SPECK_SOURCES = (
    "SynSense, samna documentation, Speck 2e, key features: 9 layers, input 128x128, output 64x64, 1024 features, "
    "weights 8 bit, states 16 bit, kernels to 16x16, strides 1, 2, 4, 8, padding to 7, pooling 1:1, 1:2, 1:4, fan-out "
    "2",
    "SynSense, sinabs 3.1.3, backend/dynapcnn: kernel and neuron memory of each core, and how much a layer takes",
)

SPECK_ASSUMPTIONS = (
    "one core holds a convolution, its neurons and the pool behind them; a linear map is a convolution of the size of "
    "its input",
    "an average pool is the chip's sum pool, its factor in the weights behind it",
    "kernel memory: inputs · 2^(ceil(log2(height · width of the kernel)) + ceil(log2(outputs))) words; neuron memory: "
    "outputs · 2^(ceil(log2(height)) + ceil(log2(width))) words",
    "state: threshold plus the largest sum of one step; sums over several steps may be larger",
    "the last layer's logits are read as its membrane potentials; the chip itself gives spikes",
    "images come in as spikes; here the first layer reads analog values",
    "the chip has no time steps: a neuron fires as soon as its potential allows, also more than once in a step",
)


def _check_speck(graph: Graph) -> ChipCheck:
    layers, bits = _layers(graph), graph.weight_bits or 8
    needs = [Need("", "layers", len(layers), len(SPECK_CORES), "cores"), Need("", "weights", bits, 8, "bits")]
    refusals: list[tuple[str, str]] = []
    sizes: list[tuple[float, float]] = []
    for layer in layers:
        if len(layer.maps) > 1:
            refusals.append((layer.where, f"adds up the results of {len(layer.maps)} maps; a core has one kernel"))
        kernel_words = 0.0
        for node, source in zip(layer.maps, layer.sources, strict=True):
            kernel, inputs = _speck_kernel(graph, node, source)
            kernel_words += inputs * 2.0 ** (_power_of_two(math.prod(kernel)) + _power_of_two(layer.shape[0]))
            needs += _speck_geometry(layer.where, node, kernel, source)
            if node.is_convolution and any(stride not in (1, 2, 4, 8) for stride in node.stride):
                refusals.append((layer.where, f"stride {node.stride}; the chip has 1, 2, 4 and 8"))
        height, width = (*layer.shape[1:], 1, 1)[:2]
        neuron_words = layer.shape[0] * 2.0 ** (_power_of_two(height) + _power_of_two(width))
        sizes.append((kernel_words / 1024, neuron_words / 1024))
        needs += [
            Need(layer.where, "features", layer.shape[0], 1024, "channels"),
            Need(layer.where, "output", max(height, width), 64, "pixels"),
            Need(layer.where, "kernel memory", kernel_words / 1024, 64, "Ki words"),
            Need(layer.where, "neuron memory", neuron_words / 1024, 64, "Ki words"),
            Need(layer.where, "state", _state_bits(layer, bits), 16, "bits"),
        ]
    needs.append(Need("", "layers, each in a core that is large enough", len(layers), _most_placed(sizes), "layers"))
    refusals += _speck_pools(graph) + _speck_fan_out(graph)
    return ChipCheck("speck", tuple(needs), tuple(refusals), SPECK_SOURCES, SPECK_ASSUMPTIONS)


def _speck_kernel(graph: Graph, node: Map, source: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Kernel and input channels of a map as a convolution."""
    if node.is_convolution:
        return tuple(node.weight.shape[2:]), node.weight.shape[1] * node.groups
    before = graph.nodes[graph.sources(node.name)[0]]
    if isinstance(before, Flatten):
        source = graph.nodes[graph.sources(before.name)[0]].shape
    return tuple(source[1:]) or (1, 1), source[0]


def _speck_geometry(where: str, node: Map, kernel: Sequence[int], source: Sequence[int]) -> list[Need]:
    found = [
        Need(where, "kernel", max(kernel), 16, "pixels"),
        Need(where, "input", max(source[1:], default=1), 128, "pixels"),
    ]
    return [*found, Need(where, "padding", max(node.padding), 7, "pixels")] if node.is_convolution else found


def _speck_pools(graph: Graph) -> list[tuple[str, str]]:
    return [
        (node.path, f"pools {tuple(node.weight.shape[2:])} with stride {node.stride}; the chip has 1:1, 1:2 and 1:4")
        for node in graph.maps
        if node.role == "pool" and not _is_speck_pool(node)
    ]


def _is_speck_pool(node: Map) -> bool:
    kernel = tuple(node.weight.shape[2:])
    return len(set(kernel)) == 1 and kernel[0] in (1, 2, 4) and node.stride == kernel and not any(node.padding)


def _speck_fan_out(graph: Graph) -> list[tuple[str, str]]:
    return [
        (node.path, f"is read by {len(graph.targets(node.name))} layers; a core sends to 2")
        for node in graph.neurons
        if len(graph.targets(node.name)) > 2
    ]


def _most_placed(sizes: Sequence[tuple[float, float]]) -> int:
    """Most layers that can have a core each: a matching of layers and cores."""
    taken: dict[int, int] = {}

    def place(layer: int, tried: set[int]) -> bool:
        for core, (kernel, neurons) in enumerate(SPECK_CORES):
            if core in tried or sizes[layer][0] > kernel or sizes[layer][1] > neurons:
                continue
            tried.add(core)
            if core not in taken or place(taken[core], tried):
                taken[core] = layer
                return True
        return False

    return sum(place(layer, set()) for layer in range(len(sizes)))


# ----------------------------------------------------------------------------------------------- Loihi 2

LOIHI2_CORES, LOIHI2_NEURONS, LOIHI2_BYTES, LOIHI2_SYNAPSES = 128, 8192, 192 * 1024, 120_000_000

LOIHI2_SOURCES = (
    "Intel Labs, Loihi 2 technology brief, 2021, second hand (quoted by others, not read there): 128 cores, up "
    "to 8,192 neurons and 192 KB of memory in a core, up to 120 million synapses",
    "Intel, Lava, proc/lif/models.py: membrane potentials of 24 bits; weights of 8 bits: second hand, not checked",
)

LOIHI2_ASSUMPTIONS = (
    "a core holds neurons of one layer, with the weights that they read; the kernel of a convolution is stored once in "
    "each core, other weights once for each neuron",
    "memory of a core: weights in their bits and 24 bits for each neuron; tables of routes are not counted",
    "synapses: connections of all neurons, those of a convolution one by one",
    "an average pool is a layer of connections that is multiplied into the map behind it, and takes no core",
    "state: threshold plus the largest sum of one step; sums over several steps may be larger",
    "neurons are programmed with a soft reset (Lava's LIF resets to 0) and fire at the threshold",
    "fan-in has no published limit and is not checked; the first layer reads analog values",
)


def _check_loihi2(graph: Graph) -> ChipCheck:
    layers, bits = _layers(graph), graph.weight_bits or 8
    needs = [Need("", "weights", bits, 8, "bits")]
    cores = synapses = 0
    for layer in layers:
        neurons = math.prod(layer.shape)
        taken = _loihi2_cores(layer, neurons, bits)
        cores += taken
        synapses += sum(_connections(node, layer.shape) for node in layer.maps)
        needs.append(Need(layer.where, "cores", taken, LOIHI2_CORES, "cores"))
        needs.append(Need(layer.where, "state", _state_bits(layer, bits), 24, "bits"))
    needs += [
        Need("", "cores", cores, LOIHI2_CORES, "cores"),
        Need("", "neurons", sum(math.prod(each.shape) for each in layers), LOIHI2_CORES * LOIHI2_NEURONS, "neurons"),
        Need("", "synapses", synapses, LOIHI2_SYNAPSES, "synapses"),
    ]
    return ChipCheck("loihi2", tuple(needs), (), LOIHI2_SOURCES, LOIHI2_ASSUMPTIONS)


def _loihi2_cores(layer: _Layer, neurons: int, bits: int) -> int:
    """Cores for the neurons of a layer and the weights that they read."""
    shared = sum(node.weight.numel() for node in layer.maps if node.is_convolution) * bits / 8
    own = sum(node.fan_in for node in layer.maps if not node.is_convolution) * bits / 8 + 3
    left = LOIHI2_BYTES - shared
    if left < own:  # the kernel is divided among cores by output channels
        return max(math.ceil(neurons / LOIHI2_NEURONS), math.ceil((shared + neurons * own) / LOIHI2_BYTES))
    return math.ceil(neurons / min(LOIHI2_NEURONS, int(left // own)))


def _connections(node: Map, shape: tuple[int, ...]) -> int:
    """Connections of a map, those into padding included."""
    return int((node.weight != 0).sum()) * math.prod(shape[1:])


_CHECKS: dict[str, Callable[[Graph], ChipCheck]] = {"speck": _check_speck, "loihi2": _check_loihi2}

CHIPS: tuple[ChipName, ...] = ("speck", "loihi2")
"""Chips whose limits are known."""
