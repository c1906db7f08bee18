"""The sites of a spiking network, as far as the cost of their neurons depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mst.neurons import SignedIFNeuron, SpikingNeuron


@dataclass(frozen=True)
class NeuronSite:
    """Facts about the neurons of one site. Their number and their spikes are in the result of the simulation."""

    site: str
    """Module path in the network."""

    num_levels: int
    """L, the highest level of the activation."""

    min_level: int
    """n <= 0, its lowest level."""

    is_signed: bool
    """True if the neurons send spikes of both signs, so that a potential is compared with two thresholds."""

    is_masked: bool
    """True if a mask drops spikes."""

    @property
    def bits(self) -> int:
        """Bits that hold every level of the activation: ceil(log2(L - n + 1))."""
        return (self.num_levels - self.min_level).bit_length()


def neuron_sites(network: nn.Module) -> dict[str, NeuronSite]:
    """Site -> its facts, of a converted network."""
    neurons = [module for module in network.modules() if isinstance(module, SpikingNeuron)]
    return {
        each.site: NeuronSite(
            each.site, each.num_levels, each.min_level, isinstance(each, SignedIFNeuron), each.masking_ratio > 0
        )
        for each in neurons
    }
