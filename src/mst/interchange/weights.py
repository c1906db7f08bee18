"""Weights of few bits: whole multiples of one scale for each output channel, symmetric around 0."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mst.errors import InputError
from mst.numbers import whole_number

from .graph import Graph, Map

LEAST_BITS, MOST_BITS = 2, 16


def check_bits(bits: int) -> int:
    """`bits` itself.

    Raises:
        InputError: it is not a whole number from 2 to 16.
    """
    bits = whole_number("weight_bits", bits, LEAST_BITS)
    if bits > MOST_BITS:
        raise InputError(f"weight_bits must be at most {MOST_BITS}, got {bits}")
    return bits


def integer_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers Q and scales s with s·Q near `weight`, for each output channel.

    s_c = max |W_c| / (2^(bits-1) - 1),  Q = round(W / s)

    Args:
        weight: [out, ...].
        bits: of each weight, its sign included.

    Returns:
        (Q like weight, whole numbers from -(2^(bits-1) - 1) to 2^(bits-1) - 1; s [out]). A channel of zeros has s = 1.
    """
    largest = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(dim=1) / largest
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight / rows).round().clamp(-largest, largest), scale


def quantize_weights(graph: Graph, bits: int = 8) -> Graph:
    """The graph with weights of `bits` bits, and biases that are whole multiples of the same scales.

    The weights stay floating-point numbers, s·Q; thresholds stay as they are, and are θ/s in units of the scale.

    Args:
        graph: see `trace_graph`.
        bits: of each weight, from 2 to 16.

    Returns:
        A new graph.

    Raises:
        InputError: bits out of range.
    """
    check_bits(bits)
    return replace(graph.with_nodes(*(_rounded(node, bits) for node in graph.maps)), weight_bits=bits)


def _rounded(node: Map, bits: int) -> Map:
    whole, scale = integer_weights(node.weight, bits)
    rows = scale.reshape(-1, *[1] * (node.weight.dim() - 1))
    bias = None if node.bias is None else (node.bias / scale).round() * scale
    return replace(node, weight=whole * rows, bias=bias)
