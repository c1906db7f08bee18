"""`mst quickstart` on small networks; `make quickstart` runs it in full."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mst import experiments
from mst.cli import beside, quickstart
from mst.cli.main import main
from mst.options import with_changes

pytestmark = pytest.mark.slow


class _AtOnce:
    """A process that does its work in this one when it is started."""

    exitcode = 0

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> None:
        self.target, self.args = target, args

    def start(self) -> None:
        self.target(*self.args)

    def is_alive(self) -> bool:
        return False

    def join(self) -> None:
        pass


class _Killed(_AtOnce):
    """A process that is killed before it does anything."""

    exitcode = -9

    def start(self) -> None:
        pass


def _start_as(process: type[_AtOnce], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes of this class in place of real ones."""

    class Context:
        Process, Pipe = process, staticmethod(multiprocessing.Pipe)

    monkeypatch.setattr(multiprocessing, "get_context", lambda method: Context)


@pytest.fixture(autouse=True)
def _small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    load_recipe = experiments.load_recipe

    def load_small(name: str) -> Any:
        sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), **({"window_size": 4} if "dvs" in name else {})}
        short = {"train.epochs": 1, "train.warmup_epochs": 0, "train_images": 128, "train.eval_batch_size": 360}
        return with_changes(load_recipe(name), {**short, "model_kwargs": sizes})

    monkeypatch.setattr(experiments, "load_recipe", load_small)


def test_quickstart_measures_both_codings_and_a_masked_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "has_idle_core", lambda: True)
    _start_as(_AtOnce, monkeypatch)
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    assert main(["quickstart", "--time-steps", "4"]) == 0
    output = tmp_path / "runs" / "quickstart-2"  # the first name is taken
    figures = json.loads((output / "run_record.json").read_text())["results"]
    assert set(figures) == {"p = 0", "p = 0, lossless", "p = 0.75"}
    assert figures["p = 0"]["ann_accuracy"] == figures["p = 0, lossless"]["ann_accuracy"]
    assert figures["p = 0"]["snn_energy_pj"] != figures["p = 0.75"]["snn_energy_pj"]
    for name in ("digits-mst", "digits-mst-lossless", "digits-mst-masked"):
        assert json.loads((output / name / "simulation.json").read_text())["num_steps"] <= 4
        assert (output / name / "measurement.json").is_file()
    assert {"accuracy_vs_time.png", "energy.png"} <= {path.name for path in output.iterdir()}
    printed = capsys.readouterr().out
    assert "p = 0, lossless" in printed
    assert printed.count("epoch   1/1") == 2  # also of the training that ran beside


def test_quickstart_on_events_simulates_slices_over_time(tmp_path: Path) -> None:
    assert main(["quickstart", "--events", "--time-steps", "3", "--output", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "run_record.json").read_text())["results"]
    assert set(figures) == {"whole recording", "3 slices over time"}
    sliced = json.loads((tmp_path / "3-slices-over-time" / "simulation.json").read_text())
    assert sliced["slices"] == 3
    assert (tmp_path / "events.gif").is_file()


def test_training_beside_raises_the_error_that_ended_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _start_as(_AtOnce, monkeypatch)
    (tmp_path / "taken").touch()
    training = beside.TrainingBeside(experiments.load_recipe("digits-mst"), tmp_path / "taken")
    with pytest.raises(OSError, match="taken cannot be written"):
        training.finish(lambda record: None)


def test_training_beside_reports_a_process_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _start_as(_Killed, monkeypatch)
    training = beside.TrainingBeside(experiments.load_recipe("digits-mst"), tmp_path)
    with pytest.raises(RuntimeError, match=r"ended early \(exit code -9\)"):
        training.finish(lambda record: None)


@pytest.mark.parametrize(
    ("cores", "variables", "expected"),
    [(2, {}, True), (2, {"OMP_NUM_THREADS": "1"}, True), (2, {"OMP_NUM_THREADS": "2"}, False), (1, {}, False),
     (2, {"WORLD_SIZE": "2"}, False)],
)  # fmt: skip
def test_has_idle_core_needs_a_core_for_each_training(
    cores: int, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mst.threads.usable_cores", lambda: cores)
    monkeypatch.setattr("mst.distributed.runs_on_cpu", lambda device: True)
    assert beside.has_idle_core() is expected
