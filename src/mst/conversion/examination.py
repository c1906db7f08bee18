"""Obstacles that show without tracing the network: leftover activations, mixing of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.dataflow import ConversionError, Obstacle
from mst.models import copy_network
from mst.neurons import begin_run, running

LEFTOVER_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
"""Activations that no neuron reproduces: one of these left in a network means it was not quantised."""

_MIXED = Obstacle(
    "",
    "the answer to an image depends on the others beside it",
    "let every function act on each image alone; a norm or a maximum over the batch does not",
)


def refuse_leftover_activations(network: nn.Module) -> None:
    """Refuse a network by the kinds of its modules alone, where there is no image to run through it.

    Raises:
        ConversionError: it has activations that no neuron reproduces.
    """
    obstacles = tuple(
        Obstacle(name, f"{type(module).__name__} has no spiking counterpart", "replace it by QCFS (see mst.quantize)")
        for name, module in network.named_modules()
        if isinstance(module, LEFTOVER_ACTIVATIONS)
    )
    if obstacles:
        raise ConversionError(obstacles)


def refuse_mixed_images(model: nn.Module, image: Tensor) -> None:
    """Refuse an ANN that answers differently to two images together than to each alone.

    Steps are folded into the batch, so such a network would mix steps too, which `trace_dataflow` cannot see. A network
    or device that takes no float64 is not examined.

    Args:
        model: the ANN.
        image: [1, ...].

    Raises:
        ConversionError: it does.
    """

    def answer(images: Tensor, first_image: int) -> Tensor:
        with running(begin_run(network, batch_size=len(images), first_image=first_image)):
            logits: Tensor = network(images)
        return logits

    with torch.no_grad():
        try:
            network, first = copy_network(model).eval().double(), image.double()  # where no difference is rounding
            images = torch.cat([first, first.flip(-1) / 2 + first.roll(1, dims=-1)])
            together, alone = answer(images, 0), torch.cat([answer(images[i : i + 1], i) for i in range(2)])
        except (RuntimeError, TypeError):
            return
    if not torch.allclose(together, alone, rtol=1e-6, atol=1e-9):
        raise ConversionError((_MIXED,))
