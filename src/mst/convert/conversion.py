"""ANN -> SNN: every activation site becomes a neuron, and the conversion says which became what."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mst.neurons import QCFS, IFNeuron

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


class SpikingNetwork(nn.Module):
    """A converted network. It runs only inside a simulation, which owns its state; see `mst.simulate`.

    Attributes:
        network: the converted modules.
        coding: how activations are carried by spikes.
        account: what each site was and became.
    """

    def __init__(self, network: nn.Module, coding: Coding, account: tuple[SiteConversion, ...]) -> None:
        super().__init__()
        self.network = network
        self.coding = coding
        self.account = account
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


def convert(model: nn.Module, coding: Coding = "rate") -> SpikingNetwork:
    """Turn an ANN with QCFS activations into a spiking neural network. The ANN is left as it was.

    Rate coding: each QCFS becomes an integrate-and-fire neuron with the same threshold; for a constant input
    and T = L steps its mean output equals the QCFS output. See docs/maths.md.

    Args:
        model: a network whose activations are `mst.neurons.QCFS`.
        coding: "rate".

    Returns:
        The spiking network, a copy in evaluation mode, with its `account`.

    Raises:
        ValueError: unknown coding; nothing to convert; an activation that is no QCFS is left (all are listed).

    Source: Masked Spiking Transformer (ICCV 2023), conversion.
    """
    if coding not in CODINGS:
        raise ValueError(f"unknown coding {coding!r}; choose from {list(CODINGS)}")
    leftovers = [f"{n} ({type(m).__name__})" for n, m in model.named_modules() if isinstance(m, LEFTOVER_ACTIVATIONS)]
    if leftovers:
        raise ValueError("these activations have no spiking counterpart; use QCFS there: " + ", ".join(leftovers))
    network = copy.deepcopy(model).eval().requires_grad_(False)
    account: list[SiteConversion] = []
    for name, module in list(network.named_modules(remove_duplicate=False)):
        swap = RATE_SWAPS.get(type(module))
        if swap is None:
            continue
        assert isinstance(module, QCFS)
        neuron = swap(module, name)
        if name:
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, neuron)
        else:
            network = neuron
        account.append(_account(name, module, neuron))
    left = [f"{n} ({type(m).__name__})" for n, m in network.named_modules() if isinstance(m, QCFS)]
    if left:
        raise ValueError("these activations were not converted; use QCFS itself: " + ", ".join(left))
    if not account:
        raise ValueError("nothing was converted: the model has no QCFS activation")
    return SpikingNetwork(network, coding, tuple(account))


def _account(site: str, was: QCFS, became: nn.Module) -> SiteConversion:
    acting = became.threshold if isinstance(became, IFNeuron) else was.threshold
    threshold = acting.item() if acting.numel() == 1 else None
    return SiteConversion(site, type(was).__name__, type(became).__name__, threshold, was.num_levels, was.masking_ratio)
