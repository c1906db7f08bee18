"""One sweep that several jobs share in one folder: each cell once, one table, failures named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mst
from mst.errors import FileConflictError
from mst.experiments import SweepCell, SweepObserver, sweeping
from mst.experiments.sweep_shards import cells_of_shard
from sweep_networks import registered, saved, sweep_options

BURSTS = (1, 2, 4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with registered():
        yield saved(-8, tmp_path_factory.mktemp("products"))


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bursts of all simulations; one with a burst of 3 fails."""
    bursts: list[int] = []
    real = sweeping.run_simulation

    def run(opening: Any, steps: mst.StepOptions, coding: mst.CodingOptions, **how: Any) -> mst.SimulationRun:
        bursts.append(coding.burst)
        if coding.burst == 3:
            raise RuntimeError("out of memory")
        return real(opening, steps, coding, **how)

    monkeypatch.setattr(sweeping, "run_simulation", run)
    return bursts


def shards(checkpoint: Path, count: int, bursts: tuple[int, ...] = BURSTS) -> list[mst.SweepOptions]:
    whole = sweep_options(checkpoint, bursts=bursts)
    return [replace(whole, shard=f"{index}/{count}") for index in range(1, count + 1)]


def test_shards_compute_each_cell_once_and_the_last_writes_the_table(
    checkpoint: Path, tmp_path: Path, simulated: list[int]
) -> None:
    first, second = shards(checkpoint, 2)
    earlier = mst.run_sweep(second, tmp_path / "shared")
    assert (simulated, earlier.record) == ([2], None)
    assert [cell.burst for cell in earlier.unfinished] == [1, 4]
    assert [row["burst"] for row in earlier.rows] == [2, 2]
    last = mst.run_sweep(first, tmp_path / "shared")
    assert simulated == [2, 1, 4]
    assert (last.unfinished, last.failures) == ((), {})
    assert last.record is not None
    assert json.loads(last.record.read_text())["results"]["rows"] == list(last.rows)
    assert last.rows == mst.run_sweep(replace(first, shard=None), tmp_path / "alone").rows


def test_shard_that_was_cut_is_continued_by_its_restart(checkpoint: Path, tmp_path: Path, simulated: list[int]) -> None:
    first, second = shards(checkpoint, 2)

    def cut(number: int, total: int, cell: SweepCell) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mst.run_sweep(first, tmp_path, observer=SweepObserver(on_cell=cut))
    assert mst.run_sweep(second, tmp_path).record is None  # this one is not the last
    del simulated[:]
    assert mst.run_sweep(first, tmp_path).record is not None
    assert simulated == [4]


def test_shards_refuse_another_number_of_jobs_or_other_axes_in_the_same_folder(
    checkpoint: Path, tmp_path: Path, simulated: list[int]
) -> None:
    first, _ = shards(checkpoint, 2, (1, 2))
    mst.run_sweep(first, tmp_path)
    with pytest.raises(FileConflictError, match=r"shared otherwise: shards: 2 -> 3; .*delete shards.json"):
        mst.run_sweep(replace(first, shard="1/3"), tmp_path)
    with pytest.raises(FileConflictError, match=r"shared otherwise: bursts: \[1, 2\] -> \[1, 2, 4\]"):
        mst.run_sweep(replace(first, bursts=BURSTS), tmp_path)
    with pytest.raises(FileConflictError, match="other settings: max_images: 6 -> 5"):
        mst.run_sweep(replace(first, max_images=5), tmp_path)
    assert simulated == [1]


def test_shard_without_cells_and_call_without_shard_are_noted(
    checkpoint: Path, tmp_path: Path, simulated: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mst.notes")
    third = shards(checkpoint, 3, (1, 2))[2]
    assert len(mst.run_sweep(third, tmp_path).unfinished) == 2
    assert "shard 3/3 is empty: the sweep can be divided into 2 shards at most" in caplog.text
    assert mst.run_sweep(replace(third, shard=None), tmp_path).record is not None
    assert "without --shard this one computes all that is unfinished" in caplog.text
    assert simulated == [1, 2]


def test_ways_to_simulate_a_trained_network_belong_to_one_shard(tmp_path: Path) -> None:
    cells = [
        SweepCell(levels, 0.0, "", 0.0, coding="lossless", schedule="free", burst=burst)
        for levels in (2, 4, 8) for burst in BURSTS
    ]  # fmt: skip
    parts = [cells_of_shard(mst.SweepOptions(shard=f"{index}/2"), cells, tmp_path) for index in (1, 2)]
    assert [{cell.name for cell in part} for part in parts] == [{"L2_p0", "L8_p0"}, {"L4_p0"}]
    assert sorted(map(str, [*parts[0], *parts[1]])) == sorted(map(str, cells))


def test_cell_that_fails_is_named_and_the_others_continue(
    checkpoint: Path, tmp_path: Path, simulated: list[int]
) -> None:
    options = sweep_options(checkpoint, bursts=(1, 3, 4), time_steps=(40,))
    run = mst.run_sweep(options, tmp_path)
    assert simulated == [1, 3, 4]
    assert [row["burst"] for row in run.rows] == [1, 4]
    [(cell, failure)] = run.failures.items()
    assert run.unfinished == (cell,)
    assert (cell.burst, failure.error) == (3, "out of memory")
    assert 'raise RuntimeError("out of memory")' in failure.traceback
    assert run.record is not None
    assert json.loads(run.record.read_text())["results"]["unfinished"] == ["L = 15, p = 0; lossless, free, burst 3"]
    mst.run_sweep(options, tmp_path)
    assert simulated == [1, 3, 4, 3]  # the failed one again, and nothing else


def test_network_whose_training_fails_is_tried_once_for_all_its_codings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def train(options: mst.TrainingOptions, folder: Path, **how: Any) -> None:
        tried.append(folder.name)
        raise RuntimeError("the loss is not finite")

    monkeypatch.setattr(sweeping, "run_training", train)
    options = mst.SweepOptions(
        codings=("rate", "lossless"), masking_ratios=(0.0,), num_levels=(2, 4), time_steps=(2,),
        model_kwargs={"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)},
    )  # fmt: skip
    run = mst.run_sweep(options, tmp_path)
    assert tried == ["L2_p0", "L4_p0"]
    assert [failure.error for failure in run.failures.values()] == ["the loss is not finite"] * 4
    assert (run.rows, run.record) == ((), None)
