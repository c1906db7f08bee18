"""ANN -> SNN: every activation site becomes a neuron, and the conversion says which became what."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mst.models import image_shape_of, set_submodule
from mst.neurons import MAX_POOLS, QCFS, IFNeuron, SpikingMaxPool

from .dataflow import Obstacle, watch
from .folding import fold_batch_norms

Coding = Literal["rate"]
CODINGS: tuple[Coding, ...] = ("rate",)

LEFTOVER_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
"""Activations that no neuron reproduces: one of these left in a network means it was not quantised."""

RATE_SWAPS: dict[type[nn.Module], Callable[[QCFS, str], nn.Module]] = {QCFS: IFNeuron.from_qcfs}
"""Rate coding: module type -> what makes its spiking counterpart from (module, site name)."""


@dataclass(frozen=True)
class SiteConversion:
    """One line of the account. threshold: the acting one, in activation units; None if there is one per channel."""

    site: str
    was: str
    became: str
    threshold: float | None
    num_levels: int
    masking_ratio: float


class ConversionError(ValueError):
    """A network that cannot be converted as it is. obstacles: every place, with what to do about it."""

    def __init__(self, obstacles: tuple[Obstacle, ...]) -> None:
        self.obstacles = obstacles
        count = "1 place" if len(obstacles) == 1 else f"{len(obstacles)} places"
        super().__init__(
            f"{count} cannot be carried by spikes. " + "\n".join(f"- {obstacle}" for obstacle in obstacles)
        )


class SpikingNetwork(nn.Module):
    """A converted network. It runs only inside a simulation, which owns its state; see `mst.simulate`.

    Attributes:
        network: the converted modules.
        coding: how activations are carried by spikes.
        account: what each site was and became.
        folded: BatchNorms that went into the linear map before them.
        remarks: what is only approximate beyond rate coding itself, and where.
        examined: whether an image has been run through it to look for what spikes cannot carry.
    """

    def __init__(
        self,
        network: nn.Module,
        coding: Coding,
        account: tuple[SiteConversion, ...],
        folded: tuple[str, ...] = (),
        remarks: tuple[str, ...] = (),
        examined: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.coding = coding
        self.account = account
        self.folded = folded
        self.remarks = remarks
        self.examined = examined
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """x: [T*B, ...], the images of T steps, time outermost -> logits of each step [T*B, classes].

        Raises:
            RuntimeError: called outside a simulation.
        """
        y: Tensor = self.network(x)
        return y

    def train(self, mode: bool = True) -> SpikingNetwork:
        """Only evaluation mode exists.

        Raises:
            RuntimeError: asked for training mode.
        """
        if mode:
            raise RuntimeError("a spiking network is not trained: train the ANN and convert it again")
        super().train(False)
        return self


def convert(model: nn.Module, coding: Coding = "rate", example: Tensor | None = None) -> SpikingNetwork:
    """Turn an ANN with QCFS activations into a spiking neural network. The ANN is left as it was.

    Rate coding: each QCFS becomes an integrate-and-fire neuron with the same threshold; for a constant input
    and T = L steps its mean output equals the QCFS output. See docs/maths.md. BatchNorm folds into the linear map whose
    output it alone reads. A max-pool becomes one of running sums (`SpikingMaxPool`), which is exact.

    One image is run through the network to see every function on its way: what is neither linear nor a neuron is
    refused. Its shape is known of an MST and of what `mst.quantize` calibrated; for others give an example. Without
    one only the kinds of the modules are looked at, nothing is folded, and `mst.simulate` looks at the first image.

    Args:
        model: a network whose activations are `mst.neurons.QCFS`.
        coding: "rate".
        example: images [B, ...], of which the first is used.

    Returns:
        The spiking network, a copy in evaluation mode, with its `account`, what was `folded`, and `remarks`.

    Raises:
        ConversionError: places that spikes cannot carry, all of them, each with a remedy (it is a ValueError).
        ValueError: unknown coding; nothing to convert.

    Source: Masked Spiking Transformer (ICCV 2023), conversion.
    """
    if coding not in CODINGS:
        raise ValueError(f"unknown coding {coding!r}; choose from {list(CODINGS)}")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    account: list[SiteConversion] = []
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, MAX_POOLS) and name:
            set_submodule(network, name, SpikingMaxPool(module, name))
        swap = RATE_SWAPS.get(type(module))
        if swap is None:
            continue
        assert isinstance(module, QCFS)
        neuron = swap(module, name)
        if name:
            set_submodule(network, name, neuron)
        else:
            network = neuron
        account.append(_account(name, module, neuron))
    left = [f"{n} ({type(m).__name__})" for n, m in network.named_modules() if isinstance(m, QCFS)]
    if left:
        raise ValueError("these activations were not converted; use QCFS itself: " + ", ".join(left))
    image = _image(model, example)
    if image is None:
        _refuse_left_over(network)
    if not account:
        raise ValueError("nothing was converted: the model has no QCFS activation")
    if image is None:
        return SpikingNetwork(network, coding, tuple(account))
    flow = watch(network, image, activations=LEFTOVER_ACTIVATIONS)
    if flow.obstacles:
        raise ConversionError(tuple(flow.obstacles))
    folded = fold_batch_norms(network, flow.foldable)
    return SpikingNetwork(
        network, coding, tuple(account), folded, tuple(map(_about_max_pool, flow.max_pools)), examined=True
    )


def _image(model: nn.Module, example: Tensor | None) -> Tensor | None:
    """One image [1, ...] as the network takes it; None if nothing is known of it."""
    like = next((t for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()), torch.empty(0))
    if example is not None:
        if len(example) == 0:
            raise ValueError("the example holds no image")
        return example[:1].to(like.device, like.dtype)
    shape = image_shape_of(model)
    return None if shape is None else torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(like)


def _refuse_left_over(network: nn.Module) -> None:
    obstacles = tuple(
        Obstacle(name, f"{type(module).__name__} has no spiking counterpart", "replace it by QCFS (see mst.quantize)")
        for name, module in network.named_modules()
        if isinstance(module, LEFTOVER_ACTIVATIONS)
    )
    if obstacles:
        raise ConversionError(obstacles)


def _about_max_pool(where: str) -> str:
    return (
        f"{where or '(the network itself)'}: a max-pool that is a function passes a spike on whenever any of its "
        "inputs spikes, so its rate may exceed the largest of theirs; as an nn.MaxPool2d it would be exact"
    )


def _account(site: str, was: QCFS, became: nn.Module) -> SiteConversion:
    acting = became.threshold if isinstance(became, IFNeuron) else was.threshold
    threshold = acting.item() if acting.numel() == 1 else None
    return SiteConversion(site, type(was).__name__, type(became).__name__, threshold, was.num_levels, was.masking_ratio)
