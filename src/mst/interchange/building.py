"""A graph under construction: nodes are added one by one, and the values of spikes go into the weights that read them.

A node's *unit* is the value that a 1 of its output stands for: λ behind neurons, 1 behind maps. It is a tensor that
broadcasts to the shape of the output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .graph import Flatten, Graph, Input, Map, MapRole, Neurons, Node, Output


@dataclass(frozen=True)
class Geometry:
    """Places that a convolution reads, by axis."""

    stride: tuple[int, ...]
    """Distance between the windows."""

    padding: tuple[int, ...]
    """Zeros on either side."""

    dilation: tuple[int, ...]
    """Distance between the inputs of a kernel."""

    groups: int = 1
    """Groups of channels."""


class Builder:
    """Makes a graph. Everything is in float64.

    Args:
        image_shape: shape of one image.
    """

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        self.input = "input"
        self._nodes: dict[str, Node] = {"input": Input("input", "", image_shape)}
        self._edges: list[tuple[str, str]] = []
        self._units: dict[str, Tensor] = {"input": torch.ones((), dtype=torch.float64)}
        self.notes: list[str] = []

    def map_of(
        self,
        terms: Iterable[str],
        path: str,
        shape: tuple[int, ...],
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry | None = None,
        role: MapRole = "map",
    ) -> tuple[str, ...]:
        """A linear map of the sum of `terms`: one node for each unit that occurs among them.

        Returns:
            The nodes whose sum is the result.
        """
        made: list[str] = []
        where = geometry or Geometry((), (), ())
        for unit, sources in self._by_unit(terms):
            node = Map(
                self._free_name(role if role != "map" else "conv" if geometry else "linear", path), path, shape,
                _scaled_columns(weight.double(), unit, where.groups), None if made or bias is None else bias.double(),
                role, where.stride, where.padding, where.dilation, where.groups,
            )  # fmt: skip
            self._add(node, sources, torch.ones((), dtype=torch.float64))
            made.append(node.name)
        return tuple(made)

    def scale(
        self, terms: Iterable[str], path: str, shape: tuple[int, ...], factor: Tensor, offset: Tensor | None = None,
        padding: tuple[int, ...] = (),
    ) -> tuple[str, ...]:  # fmt: skip
        """factor · x + offset for each channel, factor and offset [C]; with `padding`, zeros around the places."""
        channels, axes = len(factor), len(shape) - 1
        if not axes:
            return self.map_of(terms, path, shape, torch.diag(factor.double()), offset, None, "scale")
        geometry = Geometry((1,) * axes, padding or (0,) * axes, (1,) * axes, channels)
        weight = factor.double().reshape(channels, 1, *[1] * axes)
        return self.map_of(terms, path, shape, weight, offset, geometry, "scale")

    def flatten(self, terms: Iterable[str], path: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        """All axes of the sum of `terms`, each of `shape`, into one."""
        made = []
        for unit, sources in self._by_unit(terms):
            node = Flatten(self._free_name("flatten", path), path, (_size(shape),))
            flat = unit if unit.numel() == 1 else unit.expand(shape).reshape(-1)
            self._add(node, sources, flat.reshape(()) if flat.numel() == 1 else flat)
            made.append(node.name)
        return tuple(made)

    def neurons(
        self, terms: Iterable[str], path: str, shape: tuple[int, ...], threshold: Tensor, num_levels: int
    ) -> tuple[str, ...]:
        """Neurons that read the sum of `terms`."""
        lam = threshold.double()
        lam = lam.reshape(()) if lam.numel() == 1 else lam
        node = Neurons(self._free_name("neurons", path), path, shape, lam, num_levels)
        self._add(node, self._currents(terms, path, shape), lam)
        return (node.name,)

    def stand_in(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """A node for the result of a function that no graph holds; what reads it is examined, and no graph is made."""
        node = Input(self._free_name("unknown", ""), "", shape)
        self._add(node, (), torch.ones((), dtype=torch.float64))
        return (node.name,)

    def finish(self, terms: Iterable[str], shape: tuple[int, ...]) -> Graph:
        """The graph whose output is the sum of `terms`, without the nodes that it does not depend on."""
        self._add(Output("output", "", shape), self._currents(terms, "output", shape), torch.ones(()))
        needed, waiting = {"input", "output"}, ["output"]
        while waiting:
            target = waiting.pop()
            new = {source for source, reader in self._edges if reader == target} - needed
            needed |= new
            waiting += new
        nodes = {name: node for name, node in self._nodes.items() if name in needed}
        edges = tuple(edge for edge in self._edges if edge[0] in needed and edge[1] in needed)
        return thresholds_of_one(Graph(nodes, edges, tuple(self.notes)))

    def _currents(self, terms: Iterable[str], path: str, shape: tuple[int, ...]) -> list[str]:
        """Maps whose sum is the sum of `terms`, in units of 1."""
        currents: list[str] = []
        for name in terms:
            if isinstance(self._nodes[name], Map):
                currents.append(name)
            else:
                currents += self.scale([name], path, shape, torch.ones(shape[0], dtype=torch.float64))
        return currents

    def _by_unit(self, terms: Iterable[str]) -> list[tuple[Tensor, list[str]]]:
        groups: list[tuple[Tensor, list[str]]] = []
        for name in terms:
            unit = self._units[name]
            same = next((sources for known, sources in groups if torch.equal(known, unit)), None)
            if same is None:
                groups.append((unit, [name]))
            else:
                same.append(name)
        return groups

    def without_repeats(self, terms: Iterable[str], path: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        """The same sum, each term once: a term that occurs n times is multiplied by n."""
        found: list[str] = []
        for name, number in Counter(terms).items():
            factor = torch.full((shape[0],), float(number), dtype=torch.float64)
            found += [name] if number == 1 else self.scale([name], path, shape, factor)
        return tuple(found)

    def _add(self, node: Node, sources: Iterable[str], unit: Tensor) -> None:
        self._nodes[node.name], self._units[node.name] = node, unit
        self._edges += [(source, node.name) for source in sources]

    def _free_name(self, kind: str, path: str) -> str:
        wanted = "_".join([kind, *re.findall(r"\w+", path)])
        name, number = wanted, 1
        while name in self._nodes or name == "output":
            number += 1
            name = f"{wanted}_{number}"
        return name


def thresholds_of_one(graph: Graph) -> Graph:
    """The same network with thresholds of 1, wherever the maps before neurons are read by these alone.

    v/θ gains W·s/θ + b/θ and fires at 1: weights and bias of each channel are divided by its threshold.
    """
    for neurons in list(graph.neurons):
        maps = [graph.nodes[name] for name in graph.sources(neurons.name)]
        theta = neurons.threshold
        by_channel = theta.numel() == 1 or theta.shape[0] == theta.numel() == neurons.shape[0]
        if not by_channel or any(graph.targets(node.name) != [neurons.name] for node in maps):
            continue
        graph = graph.with_nodes(
            replace(neurons, threshold=torch.ones_like(theta.reshape(-1)[0])),
            *(_divided(node, theta.reshape(-1)) for node in maps if isinstance(node, Map)),
        )
    return graph


def _divided(node: Map, theta: Tensor) -> Map:
    rows = theta.reshape(-1, *[1] * (node.weight.dim() - 1))
    return replace(node, weight=node.weight / rows, bias=None if node.bias is None else node.bias / theta)


def _scaled_columns(weight: Tensor, unit: Tensor, groups: int) -> Tensor:
    """`weight` [out, in / groups, ...] for inputs that are worth `unit`."""
    if unit.numel() == 1:
        return weight * unit.reshape(())
    columns = unit.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
    return (weight.reshape(groups, -1, *weight.shape[1:]) * columns).reshape(weight.shape)


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
