"""Results of a simulation: their one line, and merging."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import mst
from mst.neurons import QCFS
from mst.simulation import SimulationResult, merge_results


@pytest.fixture(scope="module", params=["rate", "lossless"])
def result(request: pytest.FixtureRequest) -> SimulationResult:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 30), QCFS(4, 0.5), torch.nn.Linear(30, 3)).double().eval()
    x = torch.rand(6, 4, dtype=torch.float64) * 4
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    return mst.simulate(mst.convert(model, request.param, x), (x, labels), 40)


def test_result_is_one_line_without_tensors(result: SimulationResult) -> None:
    line = repr(result)
    assert str(result) == line
    assert "\n" not in line
    assert "tensor" not in line
    assert len(line) < 120
    assert line.startswith(f"SimulationResult({result.coding}, T=40, ")
    assert "6 images" in line
    assert "83.33 %" in line
    assert line.endswith(" spikes per image)")
    assert ("6 settled" in line) == (result.settled_at is not None)
    assert ("steps per image" in line) == (result.mean_steps < 40)


@pytest.mark.parametrize(
    ("spikes", "said"), [(7, "7 "), (950, "950 "), (1234, "1.2 k "), (56_789, "57 k "), (1_234_567, "1.2 M ")]
)
def test_result_rounds_spikes(result: SimulationResult, spikes: int, said: str) -> None:
    (name, site), *_ = result.sites.items()
    sent = torch.zeros_like(site.sent_per_step)
    sent[0] = 6 * spikes
    assert f", {said}spikes per image)" in repr(replace(result, sites={name: replace(site, sent_per_step=sent)}))


def test_records_within_a_result_print_no_tensors(result: SimulationResult) -> None:
    (site,) = result.sites.values()
    sent = int(site.sent_per_step.sum())
    assert repr(site) == f"SiteRecord(30 neurons, {sent:,} spikes sent, 0 dropped)"
    assert "tensor" not in repr(result.operations)
    assert repr(result.operations[1]).startswith("OperationCount(2, ")


def test_merge_results_refuses_other_runs(result: SimulationResult) -> None:
    assert merge_results([result, result]).num_images == 12
    with pytest.raises(ValueError, match="results of different runs cannot be merged"):
        merge_results([result, replace(result, seed=1)])
    with pytest.raises(ValueError, match="there are no results to merge"):
        merge_results([])


def test_network_prints_one_line() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), QCFS(4, 0.5)).eval()
    x = torch.rand(1, 1, 2, 2)
    assert repr(mst.convert(model, example=x)) == "SpikingNetwork(rate, 1 site, 1 BatchNorm folded)"
    assert repr(mst.convert(model, "lossless", x)) == "SpikingNetwork(lossless, 1 site)"
