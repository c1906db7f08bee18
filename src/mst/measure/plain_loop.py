"""Rate coding as one would write it without this library: one step at a time, a neuron module in place of each site."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.models import copy_network, set_submodule
from mst.neurons import IFNeuron, begin_run, running


class PlainIF(nn.Module):
    """An integrate-and-fire neuron with soft reset in plain operations of torch; it keeps its potential itself."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.clone())
        self.v: Tensor | None = None

    def reset(self) -> None:
        """Begin a new run."""
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        """x: input current of one step -> scaled spikes."""
        v = (torch.zeros_like(x) + self.threshold / 2 if self.v is None else self.v) + x
        spikes = (v >= self.threshold).to(x.dtype)
        self.v = v - spikes * self.threshold
        return spikes * self.threshold


class SpikingJellyIF(nn.Module):
    """The IF neuron of SpikingJelly with soft reset and the threshold of a site."""

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        if threshold.numel() > 1:
            raise InputError("SpikingJelly's neurons have one threshold per layer, not one per channel")
        self.threshold = float(threshold)
        neurons = import_module("spikingjelly.activation_based.neuron")
        self.node = neurons.IFNode(v_threshold=self.threshold, v_reset=None)
        self.reset()

    def reset(self) -> None:
        """Begin a new run."""
        self.node.reset()
        self.node.v = self.threshold / 2

    def forward(self, x: Tensor) -> Tensor:
        """x: input current of one step -> scaled spikes."""
        spikes: Tensor = self.node(x)
        return spikes * self.threshold


def has_spikingjelly() -> bool:
    """True if SpikingJelly is installed."""
    return find_spec("spikingjelly") is not None


def plain_copy(snn: SpikingNetwork, neuron: Callable[[Tensor], nn.Module] = PlainIF) -> nn.Module:
    """The same modules with `neuron` in the place of each IF neuron; masks are left out."""
    network = copy_network(snn.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, IFNeuron):
            set_submodule(network, name, neuron(module.threshold).to(module.threshold.device))
    return network


def plain_loop(network: nn.Module, images: Tensor, num_steps: int) -> Tensor:
    """Mean logits [B, K] after one pass for each step.

    Args:
        network: of `plain_copy`.
        images: [B, ...].
        num_steps: T >= 1.
    """
    _reset(network)
    run = begin_run(network, batch_size=len(images))  # max-pools over time keep their sums there
    total = None
    with torch.no_grad(), running(run):
        for step in range(num_steps):
            run.begin_chunk(step, 1)
            logits = network(images)
            total = logits if total is None else total + logits
    _reset(network)  # which frees what the neurons hold
    assert total is not None
    mean: Tensor = total / num_steps
    return mean


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, PlainIF | SpikingJellyIF):
            module.reset()
