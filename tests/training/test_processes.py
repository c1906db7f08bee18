from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import in_processes
import pytest
import torch
from torch import Tensor

from mst import distributed as module
from mst.distributed import is_main_process, share_of
from mst.simulation import SimulationResult
from mst.threads import intra_op_threads

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SOURCES = str(Path(module.__file__).parents[1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same work done by this process with batches of 12 and by two processes with batches of 6."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    with intra_op_threads(1):
        in_processes.main(one, 12)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parent), SOURCES)), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(HERE / "in_processes.py"), str(two), "6"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return load(one), load(two)


def load(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=False)
    return results


def assert_same(one: dict[str, Any], two: dict[str, Any], tolerance: float) -> None:
    for name, tensor in one["state"].items():
        torch.testing.assert_close(
            two["state"][name], tensor, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert two["losses"] == pytest.approx(one["losses"], abs=tolerance)
    assert two["accuracies"] == one["accuracies"]


def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(runs: tuple[dict[str, Any], ...]) -> None:
    one, two = runs
    assert len(one["gradients"]) == len(two["gradients"]) > 30
    assert any(bool(gradient.abs().max() > 1e-3) for gradient in one["gradients"])
    for a, b in zip(one["gradients"], two["gradients"], strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-14)
    assert_same(one["frozen"], two["frozen"], 1e-12)


def test_two_processes_with_synchronised_batch_norm_train_as_one(runs: tuple[dict[str, Any], ...]) -> None:
    assert_same(runs[0]["together"], runs[1]["together"], 1e-9)


def test_stopped_run_of_two_processes_resumes_as_an_uninterrupted_one(runs: tuple[dict[str, Any], ...]) -> None:
    for run in runs:
        assert "stopped after" in run["stopped"]
        assert_same(run["whole"], run["resumed"], 1e-12)


def test_two_processes_evaluate_and_simulate_as_one(runs: tuple[dict[str, Any], ...]) -> None:
    one, two = runs
    a, b = one["evaluation"], two["evaluation"]
    assert (a.accuracy, a.top5_accuracy, a.num_images) == (b.accuracy, b.top5_accuracy, b.num_images)
    torch.testing.assert_close(b.logits, a.logits, rtol=0, atol=1e-12)
    for name in ("simulation", "one image", "lossless", "early exit"):
        assert_same_simulation(one[name], two[name])
    assert sum(one["simulation"].dropped_counts.values()) > 0
    assert one["lossless"].num_settled == 7
    torch.testing.assert_close(two["lossless"].step_logits, one["lossless"].step_logits, rtol=0, atol=1e-12)
    assert one["early exit"].mean_steps < 20


def assert_same_simulation(one: SimulationResult, two: SimulationResult) -> None:
    assert (one.num_images, one.spike_counts, one.dropped_counts) == (
        two.num_images,
        two.spike_counts,
        two.dropped_counts,
    )
    assert isinstance(one.accuracy, Tensor)
    assert isinstance(two.accuracy, Tensor)
    assert torch.equal(one.accuracy, two.accuracy)
    assert torch.equal(one.steps_taken, two.steps_taken)
    assert (one.settled_at is None) == (two.settled_at is None)
    if one.settled_at is not None and two.settled_at is not None:
        assert torch.equal(one.settled_at, two.settled_at)
    torch.testing.assert_close(two.logits, one.logits, rtol=0, atol=1e-12)
    assert [c.operation for c in one.operations] == [c.operation for c in two.operations]
    assert all(torch.equal(a.acs_per_step, b.acs_per_step) for a, b in zip(one.operations, two.operations, strict=True))


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_shares_are_disjoint_and_complete(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    shares = []
    monkeypatch.setattr(module, "num_processes", lambda: 5)
    for index in range(5):
        monkeypatch.setattr(module, "process_index", lambda index=index: index)
        shares.append(share_of(count))
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_is_main_process_is_known_before_processes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
