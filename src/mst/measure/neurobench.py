"""The metrics of NeuroBench under its own field names, and an SNN as a model that NeuroBench's harness runs.

NeuroBench 2.3 (Yik et al., Nature Communications 2025) counts at hooks on nn.Linear and convolutions; what it counts
otherwise than this package is said at each field and in docs/energy.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.neurons import SpikingNeuron
from mst.simulation import SimulationResult, simulate

from .kinds import AC, MAC
from .rows import count_rows

CONNECTIONS = ("linear", "convolution")
"""Kinds of operations that NeuroBench counts. Products of activations and norms are not among them."""


def neurobench_fields(
    network: nn.Module, result: SimulationResult, effective_macs: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Footprint, ConnectionSparsity, ActivationSparsity, SynapticOperations and MembraneUpdates, averages per image.

    - Footprint: bytes of all parameters and buffers.
    - ConnectionSparsity: fraction of the weights of linear maps and convolutions that are 0.
    - ActivationSparsity: 1 - spikes per neuron and step. Of a burst every spike counts, so that it may be negative.
    - SynapticOperations: of linear maps and convolutions. Effective_ACs: spikes x outputs reached, whatever the size or
      sign of a spike. Effective_MACs: of what reads the image, without zeros; of other analog operations all. Dense:
      the MACs of the ANN at each step. Weights of 0 are not left out.
    - MembraneUpdates: neurons x steps.

    Args:
        network: the converted network, or its ANN.
        result: of the simulation of the SNN.
        effective_macs: from `count_effective_macs`; without them zeros of the image count.
    """
    rows = [row for row in count_rows(result) if row.kind in CONNECTIONS]
    macs = 0.0
    for row in rows:
        dense = row.snn.get(MAC, 0.0)
        assert row.operation is not None
        nonzero = (effective_macs or {}).get(row.name) if row.operation.reads_input and row.ann[MAC] else None
        macs += dense if nonzero is None else dense * nonzero / row.ann[MAC]
    neurons = sum(site.num_neurons for site in result.sites.values())
    return {
        "Footprint": sum(each.numel() * each.element_size() for each in [*network.parameters(), *network.buffers()]),
        "ConnectionSparsity": _connection_sparsity(network),
        "ActivationSparsity": 1 - result.firing_rate,
        "SynapticOperations": {
            "Effective_MACs": macs,
            "Effective_ACs": sum(row.snn.get(AC, 0.0) for row in rows),
            "Dense": sum(row.ann[MAC] for row in rows) * result.mean_steps,
        },
        "MembraneUpdates": neurons * result.mean_steps,
    }


def _connection_sparsity(network: nn.Module) -> float:
    maps = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    total = sum(m.weight.numel() for m in maps)
    return sum(int((m.weight == 0).sum()) for m in maps) / total if total else 0.0


def harness_model(snn: SpikingNetwork, num_steps: int, **options: Any) -> Any:
    """An SNN as a NeuroBenchModel, for `neurobench.benchmarks.Benchmark`. It returns the logits of its last step.

    Its hooks see every step of every neuron. NeuroBench takes spikes that are not -1, 0 or 1 for analog values, and of
    a lossless network it sees the running sums, not the changes: there its SynapticOperations and ActivationSparsity
    are not those of the SNN. It reads potentials of snnTorch's neurons alone, so that its MembraneUpdates are 0.

    Args:
        snn: the converted network.
        num_steps: T.
        options: of `mst.simulate`.

    Raises:
        InputError: neurobench is not installed.
    """
    try:
        from neurobench.models import NeuroBenchModel
    except ImportError as error:
        raise InputError("neurobench is not installed", remedy="pip install neurobench") from error

    class SpikingModel(NeuroBenchModel):  # type: ignore[misc]
        """Runs T steps for each batch."""

        def __init__(self) -> None:
            super().__init__()
            self.add_activation_module(SpikingNeuron)

        def __call__(self, batch: Tensor) -> Tensor:
            """images [B, ...] -> logits [B, classes]."""
            return simulate(snn, batch, num_steps, **{"record_operations": False} | options).logits

        def __net__(self) -> nn.Module:
            return snn.network

    return SpikingModel()
