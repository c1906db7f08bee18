"""Counts of this package beside those of SpikingJelly's SynOpCounter and NeuroBench's SynapticOperations.

    pip install spikingjelly neurobench
    python benchmarks/counters.py

Each case is a network so small that the accumulations can be counted by hand; the table says which counters agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import mst
from mst.measure import AC, MAC, count_rows
from mst.measure.neurobench import harness_model
from mst.models import ActivationProduct
from mst.neurons import QCFS
from mst.simulation import SimulationResult

STEPS = 4


@dataclass(frozen=True)
class Case:
    """A network and what its spikes drive."""

    name: str
    network: Callable[[], nn.Module]
    images: Tensor
    coding: str
    by_hand: str
    """How the accumulations are counted by hand."""

    acs: Callable[[SimulationResult], float]
    """Accumulations by hand, from the recorded spikes."""


class Product(nn.Module):
    """Two sites and q·kᵀ of them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.product = QCFS(4, 1.0), QCFS(4, 1.0), ActivationProduct(transpose_right=True)

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = self.product(self.q(x[:, 0]), self.k(x[:, 1]))
        return product.flatten(1)


def spikes(result: SimulationResult, site: str = "0") -> float:
    """Spikes of a site per image."""
    return result.spike_counts[site] / result.num_images


def linear(threshold: float = 1.0, min_level: int = 0) -> nn.Module:
    """A site of 6 neurons, and a map to 5."""
    return nn.Sequential(QCFS(4, threshold, min_level=min_level), nn.Linear(6, 5, bias=False)).eval()


def conv(threshold: float = 1.0) -> nn.Module:
    """A site, and a 3x3 convolution with a border of zeros."""
    return nn.Sequential(QCFS(4, threshold), nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Flatten()).eval()


def analog() -> nn.Module:
    """A map of the image, and a site."""
    return nn.Sequential(nn.Linear(6, 5), QCFS(4, 1.0)).eval()


def pruned() -> nn.Module:
    """A map with half of its weights 0."""
    network = linear()
    with torch.no_grad():
        network[1].weight[:, ::2] = 0  # type: ignore[index]
    return network


torch.manual_seed(0)
FLAT, MAPS = torch.rand(3, 6), torch.full((2, 2, 4, 4), 5.0)
PAIR = torch.rand(2, 2, 1, 3, 4)
CASES = (
    Case("linear map", linear, FLAT, "rate", "spikes x 5", lambda r: spikes(r) * 5),
    Case("threshold 2", lambda: linear(2.0), 2 * FLAT, "rate", "spikes x 5", lambda r: spikes(r) * 5),
    Case("signed spikes", lambda: linear(1.0, -4), FLAT - 0.5, "lossless", "spikes x 5", lambda r: spikes(r) * 5),
    Case("convolution, border", conv, MAPS, "rate", "4 x 2 x 3 x 10 x 10", lambda r: STEPS * 2 * 3 * 100.0),
    Case("weights of 0", pruned, FLAT, "rate", "spikes x 5", lambda r: spikes(r) * 5),
    Case("q·kᵀ", lambda: Product().eval(), PAIR, "rate", "q's spikes x 3 keys", lambda r: spikes(r, "q") * 3),
    Case("map of the image", analog, FLAT, "rate", "none", lambda r: 0.0),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    headings = ("case", "by hand", "ACs", "this package", "SpikingJelly", "NeuroBench ACs", "NeuroBench MACs")
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for case in CASES:
        snn = mst.convert(case.network(), case.coding, case.images)
        result = mst.simulate(snn, case.images, STEPS)
        ours = sum(row.snn.get(AC, 0.0) for row in count_rows(result))
        analog = sum(row.snn.get(MAC, 0.0) for row in count_rows(result))
        jelly, bench = spikingjelly(snn, case.images), neurobench(snn, case.images)
        note = f" (and {analog:g} MACs)" if analog else ""
        print(
            f"| {case.name} | {case.by_hand} | {case.acs(result):g} | {ours:g}{note} | {jelly:g} | "
            f"{bench['Effective_ACs']:g} | {bench['Effective_MACs']:g} |"
        )


def spikingjelly(snn: mst.SpikingNetwork, images: Tensor) -> float:
    """SynOps per image by SpikingJelly."""
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    counter = SynOpCounter()
    with DispatchCounterMode([counter]):
        mst.simulate(snn, images, STEPS, record_operations=False)
    return float(counter.get_total()) / len(images)


def neurobench(snn: mst.SpikingNetwork, images: Tensor) -> dict[str, float]:
    """SynapticOperations per image by NeuroBench's harness."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.int64)), batch_size=len(images))
    harness = Benchmark(harness_model(snn, STEPS), loader, [], [], [[], [SynapticOperations]])
    found: dict[str, float] = harness.run(quiet=True)["SynapticOperations"]
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    main()
