"""The converted network, with an account of its conversion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mst.neurons import FiringSchedule, SignedIFNeuron, SpikeMask

from .codings import Coding


@dataclass(frozen=True)
class SiteConversion:
    """Account of one site."""

    site: str
    """Module path in the network."""

    was: str
    """Class of the activation."""

    became: str
    """Class of the neuron."""

    threshold: float | None
    """λ that acts, in activation units; None if each channel has its own."""

    num_levels: int
    """L."""

    mask: SpikeMask | None
    """Drops spikes that the neurons have fired; None keeps all."""

    @property
    def masking_ratio(self) -> float:
        """p, fraction of the spikes dropped; 0 without a mask."""
        return 0.0 if self.mask is None else self.mask.masking_ratio


class SpikingNetwork(nn.Module):
    """A converted network. It runs only inside a simulation, which owns its state; see `mst.simulate`.

    Attributes:
        network: the converted modules.
        coding: how spikes carry activations.
        sites: what each site was and became.
        folded: BatchNorms that were folded into the linear map before them.
        notes: places that are approximate beyond the coding itself, or that stay analog.
        examined: True if an image has been run through it to look for what spikes cannot carry.
        schedule: when neurons may fire; None if the coding has no schedule.
        reached_sites: sites that the image has reached.
    """

    reached_sites: tuple[str, ...] = ()

    def __init__(
        self,
        network: nn.Module,
        coding: Coding,
        sites: tuple[SiteConversion, ...],
        folded: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        examined: bool = False,
        schedule: FiringSchedule | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.coding = coding
        self.sites = sites
        self.folded = folded
        self.notes = notes
        self.examined = examined
        self.schedule = schedule
        self.eval()

    @property
    def depth(self) -> int:
        """Sites in the longest chain of a network of signed neurons; 0 for others."""
        return 1 + max((m.depth for m in self.network.modules() if isinstance(m, SignedIFNeuron)), default=-1)

    @property
    def longest_settling(self) -> int | None:
        """Steps after which any image that is given whole at step 0 has settled; None if the coding does not settle."""
        if not self.coding.settles or self.schedule is None:
            return None
        levels = [m.levels[1] - m.levels[0] for m in self.network.modules() if isinstance(m, SignedIFNeuron)]
        return self.schedule.longest(self.depth, max(levels, default=1))

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

    def __repr__(self) -> str:
        """Short; the modules are those of `network`."""
        parts = [self.coding.name, _count(len(self.sites), "site")]
        parts += [f"{_count(len(self.folded), 'BatchNorm')} folded"] if self.folded else []
        parts += [_count(len(self.notes), "note")] if self.notes else []
        return f"SpikingNetwork({', '.join(parts)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
