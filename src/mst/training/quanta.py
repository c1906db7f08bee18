"""Quanta that the sites of an ANN send.

A spiking network sends at least one spike for every quantum, so their number is a lower bound of its energy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mst.neurons import MIN_THRESHOLD, QCFS, find_sites


class QuantaCounter:
    """Adds up the quanta that leave the sites of a network after masking, within `counting`.

    A site whose output is k·λ/L sends k quanta, 0...L. The sum is differentiable: through each activation as QCFS is,
    and through its threshold: a higher threshold sends fewer quanta.
    """

    def __init__(self, model: nn.Module) -> None:
        self._sites = list(find_sites(model).values())
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
        if per_unit.numel() == 1:
            self._sums.append(output.sum(dtype=wide) * per_unit.sum())
        else:
            self._sums.append((output * per_unit).sum(dtype=wide))
        self._neurons += output.numel()

    @property
    def total(self) -> Tensor:
        """Quanta of all sites and images, a scalar."""
        return torch.stack(self._sums).sum() if self._sums else torch.zeros(())

    @property
    def neurons(self) -> int:
        """Neurons times images."""
        return self._neurons

    @property
    def per_neuron(self) -> Tensor:
        """Quanta per neuron and image."""
        return self.total / max(1, self._neurons)
