"""`mst quickstart` on small networks; `make quickstart` runs it in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mst import experiments
from mst.cli.main import main
from mst.options import with_changes

pytestmark = pytest.mark.slow


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
    assert "p = 0, lossless" in capsys.readouterr().out


def test_quickstart_on_events_simulates_slices_over_time(tmp_path: Path) -> None:
    assert main(["quickstart", "--events", "--time-steps", "3", "--output", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "run_record.json").read_text())["results"]
    assert set(figures) == {"whole recording", "3 slices over time"}
    sliced = json.loads((tmp_path / "3-slices-over-time" / "simulation.json").read_text())
    assert sliced["slices"] == 3
    assert (tmp_path / "events.gif").is_file()
