"""Networks small enough for all their operations to be counted by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mst
from mst.measure import AC, BESIDE, MAC, CostModel
from mst.models import ActivationProduct
from mst.neurons import QCFS
from mst.operations import ELEMENTARY
from mst.simulation import SimulationResult

ALL_ONES = CostModel("all-ones", dict.fromkeys((MAC, AC, *BESIDE, *ELEMENTARY), 1.0), "test", "simulated")
"""Each operation of any kind costs 1 pJ, so that energies are numbers of operations."""


class Hand(nn.Module):
    """Two inputs, a 2x2 map, a site with threshold 1 and two levels, a 2x3 map."""

    def __init__(self, masking_ratio: float = 0.0, threshold: float = 1.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
        self.site = QCFS(2, threshold, masking_ratio)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.site(self.first(x)))
        return y


class HandProduct(nn.Module):
    """Two sites of 2 x 2 neurons, their product q·kᵀ, and a map 2 -> 1 of it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.product = QCFS(2, 1.0), QCFS(2, 1.0), ActivationProduct(transpose_right=True)
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.product(self.q(x[:, 0]), self.k(x[:, 1])))
        return y.flatten(1)


def by_hand(coding: str, num_steps: int = 4, **network: Any) -> SimulationResult:
    """Inputs 1 and 0.5. Rate: from potentials of 1/2 on, the first neuron spikes at every step, the second at two of
    four. Lossless: the neurons send two spikes and one."""
    images = torch.tensor([[1.0, 0.5]])
    return mst.simulate(mst.convert(Hand(**network).eval(), coding, images), images, num_steps)
