"""A graph computed step by step with plain operations of torch.

Letters: B images, T steps, K classes, n neurons of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.neurons import SpikingNeuron, begin_run, running

from .graph import Flatten, Graph, Input, Map, Neurons, Node

CHECKED_STEPS = 4
"""Steps in which a graph is compared with the network that it was made of."""


@dataclass(frozen=True)
class Step:
    """One time step."""

    spikes: dict[str, Tensor]
    """Path of a site -> bool [B, ...], the neurons that have fired; of a neuron that sends several spikes in one step,
    their number."""

    logits: Tensor = field(repr=False)
    """[B, K] of this step alone."""


class GraphNetwork(nn.Module):
    """A graph as a module that holds the state of its neurons.

    Args:
        graph: the graph.
        dtype: type that it computes in.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.graph = graph
        self.dtype = dtype
        self._sources = {name: graph.sources(name) for name in graph.nodes}
        for node in graph.nodes.values():
            held = {"weight": node.weight, "bias": node.bias} if isinstance(node, Map) else {}
            held |= {"threshold": node.threshold} if isinstance(node, Neurons) else {}
            for name, tensor in held.items():
                if tensor is not None:
                    self.register_buffer(f"{node.name}_{name}", tensor.to(dtype))
        self._v: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Back to the state before the first step."""
        self._v.clear()

    def forward(self, images: Tensor) -> Step:
        """One step of images [B, ...]."""
        values: dict[str, Tensor] = {}
        spikes: dict[str, Tensor] = {}
        for node in self.graph.nodes.values():
            x = (
                images.to(self.dtype)
                if isinstance(node, Input)
                else _added([values[s] for s in self._sources[node.name]])
            )
            values[node.name] = self._computed(node, x)
            if isinstance(node, Neurons):
                spikes[node.path] = values[node.name] != 0
        return Step(spikes, values[self.graph.output.name])

    def _computed(self, node: Node, x: Tensor) -> Tensor:
        if isinstance(node, Map):
            weight, bias = getattr(self, f"{node.name}_weight"), getattr(self, f"{node.name}_bias", None)
            if not node.is_convolution:
                return F.linear(x, weight, bias)
            convolve: Any = F.conv2d if len(node.stride) == 2 else F.conv1d
            y: Tensor = convolve(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
            return y
        if isinstance(node, Flatten):
            return x.flatten(1)
        if not isinstance(node, Neurons):
            return x
        theta: Tensor = getattr(self, f"{node.name}_threshold")
        before = self._v.get(node.name)
        v = (torch.zeros_like(x) + theta / 2 if before is None else before) + x
        sent = (v >= theta).to(x.dtype)
        self._v[node.name] = v - theta * sent
        return sent

    def steps(self, images: Tensor, num_steps: int) -> Iterator[Step]:
        """The steps of a run from the beginning; images: [B, ...], the same at each step."""
        self.reset()
        for _ in range(num_steps):
            with torch.no_grad():  # left before each yield: of two runs in turns each would restore the other's mode
                step = self(images)
            yield step


def network_steps(snn: SpikingNetwork, images: Tensor, num_steps: int) -> Iterator[Step]:
    """The steps of a rate-coded network that `mst.convert` has made, as `GraphNetwork.steps`."""
    found: dict[str, Tensor] = {}

    def observe(module: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(module, SpikingNeuron)
        found[module.site] = output != 0

    neurons = [module for module in snn.network.modules() if isinstance(module, SpikingNeuron)]
    handles = [neuron.register_forward_hook(observe) for neuron in neurons]
    run = begin_run(snn.network, batch_size=len(images))
    try:
        for step in range(num_steps):
            run.begin_chunk(step, 1)
            with torch.no_grad(), running(run):
                logits = snn(images)
            yield Step(dict(found), logits)
    finally:
        for handle in handles:
            handle.remove()


def check_equals(graph: Graph, snn: SpikingNetwork, images: Tensor) -> None:
    """Check that a graph computes what its network does, spike for spike.

    Raises:
        InputError: it does not, because the network does something that cannot be seen from its functions.
    """
    other = GraphNetwork(graph).to(images.device).steps(images, CHECKED_STEPS)
    for ours, theirs in zip(network_steps(snn, images, CHECKED_STEPS), other, strict=True):
        wrong = [site for site, spikes in theirs.spikes.items() if not torch.equal(ours.spikes[site], spikes)]
        if wrong or not torch.allclose(ours.logits, theirs.logits, rtol=1e-9, atol=1e-9):
            raise InputError(
                f"the graph of this network differs from it at {wrong[0] if wrong else 'the output'}",
                remedy="write views, in-place functions and permutations in its forward as plain functions",
            )


def _added(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
