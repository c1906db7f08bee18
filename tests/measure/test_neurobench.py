from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mst
from counted_by_hand import Hand, by_hand
from mst.errors import InputError
from mst.measure import harness_model, neurobench_fields
from mst.neurons import QCFS

IMAGES = torch.tensor([[1.0, 0.5]])


def test_neurobench_fields_are_those_counted_by_hand() -> None:
    network = mst.convert(Hand().eval(), "rate", IMAGES).network
    assert neurobench_fields(network, by_hand("rate"), {"first": 3.0, "last": 5.0}) == {
        "Footprint": 4 * (4 + 6 + 1),  # two maps and a threshold in float32
        "ConnectionSparsity": 2 / 10,  # of the identity
        "ActivationSparsity": 1 - 6 / 8,
        "SynapticOperations": {"Effective_MACs": 16.0, "Effective_ACs": 18.0, "Dense": 40.0},
        "MembraneUpdates": 8.0,
    }


def test_neurobench_fields_leave_out_zeros_of_the_image() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), QCFS(4, 1.0), nn.Flatten()).eval()
    image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    snn = mst.convert(model, "rate", image)
    result = mst.simulate(snn, image, 3)
    (name,) = [count.operation.name for count in result.operations]
    fields = neurobench_fields(snn.network, result, {name: 2.0})["SynapticOperations"]
    assert fields == {"Effective_MACs": 2.0 * 3, "Effective_ACs": 0.0, "Dense": 8.0 * 3}
    assert neurobench_fields(snn.network, result)["SynapticOperations"]["Effective_MACs"] == 8.0 * 3


def test_neurobench_harness_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurobench", None)
    monkeypatch.setitem(sys.modules, "neurobench.models", None)
    with pytest.raises(InputError, match="neurobench is not installed; pip install neurobench"):
        harness_model(mst.convert(Hand().eval(), "rate", IMAGES), 4)


def run_harness(coding: str, **network: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of NeuroBench's harness, and the fields of this package."""
    pytest.importorskip("neurobench")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations

    snn = mst.convert(Hand(**network).eval(), coding, IMAGES)
    loader = DataLoader(TensorDataset(IMAGES, torch.zeros(1, dtype=torch.int64)), batch_size=1)
    metrics = [[Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    theirs = Benchmark(harness_model(snn, 4), loader, [], [], metrics).run(quiet=True)
    return theirs, neurobench_fields(snn.network, mst.simulate(snn, IMAGES, 4), {"first": 4.0})


def test_neurobench_harness_agrees_where_a_spike_is_1() -> None:
    theirs, ours = run_harness("rate")
    for name in ("Footprint", "ConnectionSparsity", "ActivationSparsity"):
        assert theirs[name] == pytest.approx(ours[name]), name
    assert theirs["SynapticOperations"]["Effective_ACs"] == ours["SynapticOperations"]["Effective_ACs"]


def test_neurobench_harness_takes_spikes_of_another_size_for_analog_values() -> None:
    theirs, ours = run_harness("rate", threshold=0.25)
    assert theirs["SynapticOperations"]["Effective_ACs"] == 0
    assert ours["SynapticOperations"]["Effective_ACs"] > 0
    leaves_out_zero_weights = 2 * 4  # of the first map, an identity
    assert theirs["SynapticOperations"]["Effective_MACs"] == ours["SynapticOperations"]["Effective_ACs"] + (
        ours["SynapticOperations"]["Effective_MACs"] - leaves_out_zero_weights
    )


def test_neurobench_harness_counts_the_running_sums_of_a_lossless_network() -> None:
    theirs, ours = run_harness("lossless")
    spent = theirs["SynapticOperations"]
    assert spent["Effective_ACs"] + spent["Effective_MACs"] > ours["SynapticOperations"]["Effective_ACs"] + 4
