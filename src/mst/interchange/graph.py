"""A spiking network as a graph of maps and neurons: what is exported, run, rounded to 8 bits and held against chips.

Letters: C channels, K classes; shapes are those of one image, without a batch axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

MapRole = Literal["map", "pool", "scale"]
"""Origin of a map: weights of the network; an average pool; factors or offsets of channels (a norm, a shortcut)."""


@dataclass(frozen=True)
class Node:
    """A node of the graph. What several edges bring to one node is added up."""

    name: str
    """Name within the graph: letters, digits and underscores."""

    path: str
    """Path of the module that it comes from; empty for input and output."""

    shape: tuple[int, ...]
    """Shape of its output."""


@dataclass(frozen=True)
class Input(Node):
    """The image, the same at every step."""


@dataclass(frozen=True)
class Output(Node):
    """The logits of a step; the prediction is that of their mean over the steps."""


@dataclass(frozen=True)
class Flatten(Node):
    """All axes into one, in their order."""


@dataclass(frozen=True)
class Map(Node):
    """A linear map: fully connected, or a convolution."""

    weight: Tensor = field(repr=False)
    """[out, in], or [out, in / groups, *kernel] of a convolution."""

    bias: Tensor | None = field(repr=False)
    """[out], added at every step; None: nothing is added."""

    role: MapRole = "map"
    """Origin of the map."""

    stride: tuple[int, ...] = ()
    """Of a convolution, by axis; empty where it is fully connected."""

    padding: tuple[int, ...] = ()
    """Zeros on either side, by axis."""

    dilation: tuple[int, ...] = ()
    """Distance between the inputs of a kernel, by axis."""

    groups: int = 1
    """Groups of channels that are mapped separately."""

    @property
    def is_convolution(self) -> bool:
        """True if it has a kernel."""
        return bool(self.stride)

    @property
    def fan_in(self) -> int:
        """Weights, other than 0, of the output that has the most of them."""
        return int((self.weight.flatten(1) != 0).sum(dim=1).max())

    @property
    def dense_weight(self) -> Tensor:
        """[out, in, ...]: the weight without groups, zeros in the place of what they leave out."""
        if self.groups == 1:
            return self.weight
        out, per_group, *kernel = self.weight.shape
        dense = self.weight.new_zeros(out, per_group * self.groups, *kernel)
        for group, rows in enumerate(torch.arange(out).chunk(self.groups)):
            dense[rows, group * per_group : (group + 1) * per_group] = self.weight[rows]
        return dense


@dataclass(frozen=True)
class Neurons(Node):
    """Integrate-and-fire neurons with soft reset that start at half their threshold; they send 0 or 1."""

    threshold: Tensor = field(repr=False)
    """θ > 0, one value or one per channel, [C, 1, ...]."""

    num_levels: int = 16
    """L of the activation that they stand for."""

    @property
    def num_neurons(self) -> int:
        """Neurons of one image."""
        return _product(self.shape)


@dataclass(frozen=True)
class Graph:
    """A network of `Map`s and `Neurons`."""

    nodes: dict[str, Node]
    """By name, in an order in which they can be computed."""

    edges: tuple[tuple[str, str], ...]
    """(source, target), no pair twice."""

    notes: tuple[str, ...] = ()
    """Remarks for the user."""

    weight_bits: int | None = None
    """Bits of each weight, where weights are whole multiples of a scale per output channel."""

    def sources(self, name: str) -> list[str]:
        """Nodes whose outputs are added up before the node `name`."""
        return [source for source, target in self.edges if target == name]

    def targets(self, name: str) -> list[str]:
        """Nodes that read the node `name`."""
        return [target for source, target in self.edges if source == name]

    @property
    def maps(self) -> Iterator[Map]:
        """The maps in their order."""
        return (node for node in self.nodes.values() if isinstance(node, Map))

    @property
    def neurons(self) -> Iterator[Neurons]:
        """The neurons in their order."""
        return (node for node in self.nodes.values() if isinstance(node, Neurons))

    @property
    def input(self) -> Input:
        """The node of the image."""
        return next(node for node in self.nodes.values() if isinstance(node, Input))

    @property
    def output(self) -> Output:
        """The node of the logits."""
        return next(node for node in self.nodes.values() if isinstance(node, Output))

    def with_nodes(self, *changed: Node) -> Graph:
        """The same graph with other nodes in the places of those of the same names."""
        return replace(self, nodes=self.nodes | {node.name: node for node in changed})

    def __repr__(self) -> str:
        count = sum(node.num_neurons for node in self.neurons)
        return f"Graph({sum(1 for _ in self.maps)} maps, {count:,} neurons in {sum(1 for _ in self.neurons)} groups)"


def _product(shape: tuple[int, ...]) -> int:
    number = 1
    for size in shape:
        number *= size
    return number
