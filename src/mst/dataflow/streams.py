"""Spikes of several sites on their way through constants: added, scaled, averaged, concatenated and moved.

By linearity, W·(Σ D_i·P_i·s_i + c) = Σ (W·D_i)·P_i·s_i + W·c, with the spikes s_i of site i, moves P_i, constants D_i
and c. A map that reads such a sum can therefore work on the spikes themselves, each with a weight that holds the
constants on its way. The number of accumulations depends on the ways alone: the fan-out of a neuron is the number of
ways from it to an output of the map. It is the gradient of the number of connections with respect to the neuron's
spikes, with 1 in place of every constant; so a graph of autograd beside the network gives it for all neurons at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from mst.models import TokenBatchNorm
from mst.neurons import SpikingNeuron

from . import tables
from .values import tensors_in
from .ways import Called, ways_through

FanOut = dict[str, Tensor | int]
"""Site -> outputs that a spike of each neuron reaches: whole numbers in floating point, in the shape of the site's
output for one image; one number if all are equal."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A sum of spikes through constants."""

    ways: Tensor
    """Floating point, in the shape of the value, with the graph that leads back to the neurons. Its values mean
    nothing and take no memory."""

    sites: frozenset[str]
    """Sites whose spikes may arrive."""

    is_scaled: bool = False
    """True if a constant that differs from place to place (BatchNorm, a scale by channel) is on the way."""


class _WithoutMemory(torch.autograd.Function):
    """The identity of which only the gradient matters."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand(x.shape)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return grad


class Streams:
    """The streams of one pass.

    Args:
        depends: True for a tensor that depends on the image.
    """

    def __init__(self, depends: Callable[[Tensor], bool]) -> None:
        self._depends = depends
        self._neurons: dict[str, Tensor] = {}
        self._streams: dict[int, Stream] = {}

    def of(self, tensor: Tensor) -> Stream | None:
        """The stream that a tensor holds; None if it holds anything else."""
        return self._streams.get(id(tensor)) if self._depends(tensor) else None

    def follow_module(self, module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        """A module of this library, whose inside is left alone, has made `output`."""
        stream = None
        if isinstance(module, SpikingNeuron):
            dtype = torch.float32 if output.device.type == "mps" else torch.float64  # whole numbers, exact up to 2^53
            neurons = torch.zeros((), dtype=dtype, device=output.device).expand(output.shape).requires_grad_()
            self._neurons[module.site], stream = neurons, Stream(neurons, frozenset({module.site}))
        elif isinstance(module, TokenBatchNorm) and (source := self.of(inputs[0])) is not None:
            stream = Stream(source.ways, source.sites, is_scaled=True)
        self._put(output, stream)

    def end(self, tensor: Tensor) -> None:
        """`tensor` holds something else from now on."""
        self._streams.pop(id(tensor), None)

    def follow(
        self,
        func: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: Sequence[Tensor],
    ) -> None:
        """A function of torch, called `name` in the tables, has made `outputs`."""
        inputs = [x for x in tensors_in((*args, *kwargs.values())) if self._depends(x)]
        if name in tables.FORM_OF_ANOTHER:
            inputs = inputs[:1]
        known = [stream for stream in map(self.of, inputs) if stream is not None]
        results: list[Stream] = []
        if known and len(known) == len(inputs) and "out" not in kwargs:
            called = Called(func, name, args, kwargs, outputs[0], {id(x): self._streams[id(x)].ways for x in inputs})
            with torch.enable_grad():
                ways, scales = ways_through(called)
                ways = [_WithoutMemory.apply(each) for each in ways]
            sites = frozenset().union(*(stream.sites for stream in known))
            is_scaled = scales or any(stream.is_scaled for stream in known)
            results = [Stream(each, sites, is_scaled) for each in ways]
        for number, output in enumerate(outputs):
            self._put(output, results[number] if number < len(results) else None)

    def fan_out(self, stream: Stream, reached: Tensor | int) -> FanOut:
        """Outputs of a map that the spikes of each neuron reach.

        Args:
            stream: the operand of the map.
            reached: outputs that each place of the operand reaches, broadcastable to it.
        """
        ways, sites = stream.ways, sorted(stream.sites)
        places = torch.as_tensor(reached, dtype=ways.dtype, device=ways.device).broadcast_to(ways.shape)
        found = torch.autograd.grad(
            ways, [self._neurons[site] for site in sites], places, retain_graph=True, materialize_grads=True
        )
        return {site: _one_number(each.round()) for site, each in zip(sites, found, strict=True)}

    def _put(self, tensor: Tensor, stream: Stream | None) -> None:
        if stream is not None and stream.ways.requires_grad and stream.ways.shape == tensor.shape:
            self._streams[id(tensor)] = stream
        else:
            self.end(tensor)


def _one_number(fan_out: Tensor) -> Tensor | int:
    first = int(fan_out.flatten()[0]) if fan_out.numel() else 0
    return first if bool((fan_out == first).all()) else fan_out
