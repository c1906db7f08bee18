"""Faster forms of a training step: torch.compile, and images stored with the channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import NetworkInput
from mst.neurons import begin_run, running
from mst.quantization import in_evaluation
from mst.text import note, one_line

COMPILER: str | Callable[..., Any] = "inductor"
"""Backend of torch.compile; the tests take one that compiles nothing."""


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The forward pass of a network as torch.compile makes it, and with it the backward pass.

    The network stays as it is, its parameters are shared. It is compiled at the first call.

    Args:
        network: images -> logits, on `device`.
        device: of the training; a few operations are compiled for it to see that this works here.

    Raises:
        InputError: torch.compile does not work here, for instance because there is no C++ compiler.
    """
    try:
        torch.compile(_probe, backend=COMPILER)(torch.ones(8, device=device))
    except Exception as error:  # the compilers raise classes of their own
        raise InputError(
            f"torch.compile does not work on {device.type} here ({one_line(error)})",
            where="train.compile",
            remedy="install a C++ compiler such as g++ (on CUDA also Triton), or leave train.compile out",
        ) from error
    note("the network is compiled in the first step, which may take a minute or more")
    forward: Callable[[Tensor], Tensor] = torch.compile(network, backend=COMPILER)
    return forward


def _probe(x: Tensor) -> Tensor:
    return (x + 1).relu().sum()


@contextmanager
def stored_channels_last(network: nn.Module, image: Tensor) -> Iterator[None]:
    """Within the block, the weights of a network's convolutions have their channels last in memory.

    Args:
        network: an ANN; its mode and its statistics do not change.
        image: [C, height, width]; two of these are shown to the network first.

    Raises:
        InputError: the images have other axes, or the network does not take them so stored.
    """
    if image.dim() != 3:
        raise InputError(f"channels_last is for images [C, height, width], got {list(image.shape)}")
    images = NetworkInput(network, has_warned=True).take(torch.stack([image, image]))
    try:
        network.to(memory_format=torch.channels_last)
        with torch.no_grad(), in_evaluation(network), running(begin_run(network, batch_size=2)):
            try:
                network(channels_last(images))
            except RuntimeError as error:
                raise InputError(
                    f"the network does not take images with the channels last ({one_line(error)})",
                    where="train.channels_last",
                    remedy="use reshape instead of view in its forward, or leave train.channels_last out",
                ) from error
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)


def channels_last(images: Tensor) -> Tensor:
    """The same images [B, C, height, width], with the channels of a pixel next to each other in memory."""
    return images.contiguous(memory_format=torch.channels_last)
