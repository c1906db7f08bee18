"""Whole runs from Python: the same options and results as on the command line, and no printing."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mst
from mst.errors import FileConflictError, InputError, MissingFileError
from mst.experiments import SweepObserver
from mst.progress import Progress
from mst.recipes import recipe_names

pytestmark = pytest.mark.slow

SHORT = {
    "train.epochs": 2, "train.warmup_epochs": 1, "train.eval_batch_size": 360, "train_images": 200,
    "model_kwargs": {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> mst.TrainingRun:
    recipe = mst.load_recipe("digits-mst", {**SHORT, "masking_ratio": 0.5})
    assert isinstance(recipe, mst.TrainingOptions)
    return mst.run_training(recipe, tmp_path_factory.mktemp("run"))


def test_recipes_load_as_the_options_that_they_hold() -> None:
    for name in recipe_names():
        kind = mst.SweepOptions if name.startswith("sweep-") else mst.TrainingOptions
        assert isinstance(mst.load_recipe(name), kind), name
    recipe = mst.load_recipe("digits-mst-masked", {"train.epochs": 5})
    assert isinstance(recipe, mst.TrainingOptions)
    assert (recipe.train.epochs, recipe.train.learning_rate, recipe.network.masking_ratio) == (5, 1e-2, 0.75)
    assert (recipe.data.dataset, recipe.data.augment.crop_padding) == ("digits", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: 3", "epochs"), ("train: {epochs: many}", "epochs"), ("- a\n- b", "holds list"), ("{", "not a YAML"),
        ("train: {epochs: 0}", "epochs must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_load_recipe_refuses_bad_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        mst.load_recipe(tmp_path / "r.yaml")


def test_load_recipe_names_the_known_ones_when_there_is_none() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'digit'; did you mean .*digits-mst.*Known: "):
        mst.load_recipe("digit")
    with pytest.raises(MissingFileError, match=r"no file nowhere\.yaml"):
        mst.load_recipe("nowhere.yaml")
    with pytest.raises(InputError, match=r"unknown option 'train\.epoch'; did you mean train\.epochs"):
        mst.load_recipe("digits-mst", {"train.epoch": 3})


def test_run_training_reports_progress_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    epochs = []
    recipe = mst.load_recipe("digits-mst", SHORT)
    assert isinstance(recipe, mst.TrainingOptions)
    run = mst.run_training(recipe, tmp_path, progress=seen.append, on_epoch=epochs.append)
    assert capfd.readouterr().out == ""
    assert seen[0].done == 0
    assert seen[-1].done == seen[-1].total == 2 * (200 // 64)
    assert seen[-1].detail.startswith("loss ")
    assert [record.epoch for record in epochs] == [0, 1]
    assert run.record is not None
    record = json.loads(run.record.read_text())
    assert record["settings"]["train"]["epochs"] == 2
    assert record["settings"]["train_images"] == 200
    assert record["results"]["accuracy"] == run.result.history[-1].accuracy
    assert "digits" in repr(run)
    assert len(repr(run)) < 300


def test_runs_of_a_checkpoint_agree_with_each_other(trained: mst.TrainingRun) -> None:
    checkpoint = trained.result.last_checkpoint
    evaluation = mst.run_evaluation(checkpoint)
    assert evaluation.evaluation.accuracy == trained.result.history[-1].accuracy
    options = mst.CheckpointOptions(checkpoint, max_images=40, batch_size=20)
    steps = mst.StepOptions(time_steps=5)
    simulation = mst.run_simulation(options, steps)
    assert simulation.result.num_images == 40
    measurement = mst.run_measurement(options, steps, energy=mst.EnergyOptions(mac_pj=1.0, ac_pj=1.0))
    assert measurement.simulation.result.spike_counts == simulation.result.spike_counts
    estimate = measurement.estimate
    assert estimate.snn.energy_pj == pytest.approx(estimate.snn.num_macs + estimate.snn.num_acs)


def test_open_checkpoint_runs_several_times(trained: mst.TrainingRun, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mst.notes"):
        opened = mst.open_checkpoint(
            mst.CheckpointOptions(trained.result.last_checkpoint, max_images=20, masking_ratio=0.25, mask_rule="token")
        )
    assert "was made with masking ratio 0.5; it runs with 0.25" in caplog.text
    assert "rule token" in caplog.text
    with caplog.at_level(logging.INFO, "mst.notes"):
        limited = mst.open_checkpoint(mst.CheckpointOptions(trained.result.last_checkpoint, max_images=5, max_powers=2))
    assert "was made with every level; its levels are rounded to at most 2 powers of two" in caplog.text
    assert limited.facts()["max_powers"] == 2
    first = mst.run_simulation(opened, mst.StepOptions(3))
    second = mst.run_simulation(opened, mst.StepOptions(3), mst.CodingOptions("lossless", burst=4))
    assert first.result.coding != second.result.coding
    assert first.evaluation.accuracy == second.evaluation.accuracy
    assert "20 test images" in repr(opened)


def test_run_comparison_gives_each_coding_as_it_is_done(trained: mst.TrainingRun) -> None:
    options = mst.CheckpointOptions(trained.result.last_checkpoint, max_images=20)
    seen: list[int] = []
    codings = mst.ComparisonOptions(time_steps=8, bursts=(4,), schedules=("weighted",), validation_images=40)
    run = mst.run_comparison(options, codings, on_coding=lambda so_far: seen.append(len(so_far.runs)))
    assert seen == [1, 2]
    assert [each.label for each in run.runs] == ["rate", "lossless, weighted, burst 4"]
    assert "rate" in repr(run)


def test_run_sweep_continues_and_refuses_other_settings(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "method: train\nmasking_ratios: [0.0]\ntime_steps: [2]\nmask_seeds: [0]\nmax_images: 10\ntrain_images: 128\n"
        "model_kwargs: {embed_dim: 8, depths: [1, 1], num_heads: [1, 1]}\n"
        "train: {epochs: 2, warmup_epochs: 1, eval_batch_size: 360}\n"
    )
    options = mst.load_recipe(tmp_path / "sweep.yaml")
    assert isinstance(options, mst.SweepOptions)
    cells: list[str] = []
    observer = SweepObserver(on_cell=lambda number, total, cell: cells.append(f"{number}/{total} {cell.label}"))
    first = mst.run_sweep(options, tmp_path / "sweep", observer=observer)
    again = mst.run_sweep(replace(options, masking_ratios=(0.0, 0.5)), tmp_path / "sweep", observer=observer)
    assert cells == ["1/1 L = 16, p = 0", "1/2 L = 16, p = 0", "2/2 L = 16, p = 0.5 at attention"]
    fronts = {"on_energy_front": False, "on_spikes_front": False}  # the masked cell spends less, as accurate
    assert again.rows[0] | fronts == first.rows[0] | fronts
    with pytest.raises(FileConflictError, match="other settings: max_images: 10 -> 11"):
        mst.run_sweep(replace(options, max_images=11), tmp_path / "sweep")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mst.CheckpointOptions(Path("x"), batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: mst.CheckpointOptions(Path("x"), mask_rule="token"), "no effect without masking_ratio"),
        (lambda: mst.StepOptions(0), r"time_steps \(T\) must be at least 1, got 0"),
        (lambda: mst.StepOptions(4, slices=5), "slices must be from 1 to the 4 time steps"),
        (lambda: mst.run_simulation("x", coding=mst.CodingOptions("rate", burst=2)), "belongs to lossless coding"),
        (lambda: mst.NetworkOptions(pretrained=True, init_from="x"), "choose one"),
        (lambda: mst.ImportOptions(), "there are no weights"),
        (lambda: mst.ImportOptions(Path("x"), mean=(0.5,)), "give both"),
    ],
)
def test_options_refuse_bad_values_at_once(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()


def test_threads_are_those_asked_for_and_are_given_back(trained: mst.TrainingRun) -> None:
    before = torch.get_num_threads()
    opened = mst.open_checkpoint(mst.CheckpointOptions(trained.result.last_checkpoint, max_images=4, threads=2))
    assert opened.threads == opened.facts()["threads"] == 2
    mst.run_evaluation(opened)
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="threads must be at least 1, got 0"):
        mst.CheckpointOptions(trained.result.last_checkpoint, threads=0)
