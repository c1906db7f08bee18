"""What the sites of an ANN will send: quanta, or the fewest spikes that can carry them.

With unit spikes a spiking network sends at least one spike for every quantum. Under the free schedule of lossless
coding a spike carries any power of two, and a neuron sends at least as many as its level has signed powers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mst.neurons import MIN_THRESHOLD, QCFS, count_powers, find_sites

from .config import Counted


class QuantaCounter:
    """Adds up what leaves the sites of a network after masking, within `counting`.

    A site whose output is k·λ/L sends |k| quanta, or at least as many spikes as k has signed powers of two (7 = 8 - 1:
    two). The sum is differentiable: through each activation as QCFS is, and through its threshold: a higher threshold
    sends less. The number of spikes has no gradient of its own; it takes that of log2(1 + |k|), which grows with it.

    Args:
        model: network with sites.
        counted: "quanta" or "spikes".
    """

    def __init__(self, model: nn.Module, counted: Counted = "quanta") -> None:
        self._sites = list(find_sites(model).values())
        self._counted = counted
        self._sums: list[Tensor] = []
        self._neurons = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count within the block, from 0."""
        self._sums, self._neurons = [], 0
        handles = [site.register_forward_hook(self._add) for site in self._sites]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, site: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(site, QCFS)
        wide = torch.float32 if output.element_size() < 4 else output.dtype  # a sum would overflow in half precision
        if site.min_level < 0:
            output = output.abs()
        per_unit = site.num_levels / site.threshold.clamp_min(MIN_THRESHOLD)
        if self._counted == "spikes":
            self._sums.append(_fewest_spikes(output * per_unit).sum(dtype=wide))
        elif per_unit.numel() == 1:
            self._sums.append(output.sum(dtype=wide) * per_unit.sum())
        else:
            self._sums.append((output * per_unit).sum(dtype=wide))
        self._neurons += output.numel()

    @property
    def total(self) -> Tensor:
        """Quanta, or spikes, of all sites and images, a scalar."""
        return torch.stack(self._sums).sum() if self._sums else torch.zeros(())

    @property
    def neurons(self) -> int:
        """Neurons times images."""
        return self._neurons

    @property
    def per_neuron(self) -> Tensor:
        """Quanta, or spikes, per neuron and image."""
        return self.total / max(1, self._neurons)


def _fewest_spikes(quanta: Tensor) -> Tensor:
    """Signed powers of two in each number of quanta, with the gradient of log2(1 + quanta)."""
    smooth = torch.log2(1 + quanta)
    return smooth + (count_powers(quanta.detach().round()) - smooth).detach()
