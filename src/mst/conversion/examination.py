"""Obstacles that show in the modules of a network alone: activations that were left over."""

from __future__ import annotations

from torch import nn

from mst.dataflow import ConversionError, Obstacle

LEFTOVER_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
"""Activations that no neuron reproduces: one of these left in a network means it was not quantised."""


def refuse_leftover_activations(network: nn.Module) -> None:
    """Refuse a network by the kinds of its modules alone, where there is no image to run through it.

    Raises:
        ConversionError: it has activations that no neuron reproduces.
    """
    obstacles = tuple(
        Obstacle(
            name,
            f"{type(module).__name__} has no spiking counterpart",
            "replace it by QCFS (see mst.quantize); at the output, convert the network without it",
        )
        for name, module in network.named_modules()
        if isinstance(module, LEFTOVER_ACTIVATIONS)
    )
    if obstacles:
        raise ConversionError(obstacles)
