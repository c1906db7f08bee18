"""Files written before the rebuild: the present code reads them and finds the same figures."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Subset

import mst
from mst.cli.main import main
from mst.neurons import find_sites

pytestmark = pytest.mark.slow

BEFORE = Path(__file__).parent / "data" / "before"
EXPECTED: dict[str, Any] = json.loads((BEFORE / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["mst", "cnn"])
def test_earlier_checkpoint_evaluates_and_simulates_to_the_same_figures(name: str) -> None:
    path, expected, logits = (
        BEFORE / name / "last.safetensors",
        EXPECTED[name],
        load_file(BEFORE / f"{name}.logits.safetensors"),
    )
    model = mst.load_checkpoint(path)
    info = mst.read_checkpoint_info(path)
    assert info.dataset == "digits"
    assert info.provenance["accuracy"] == expected["accuracy"]
    data = mst.load_dataset("digits", preprocessing=info.preprocessing)
    evaluation = mst.evaluate(model, data.test, seed=0)
    assert evaluation.accuracy == expected["accuracy"]
    torch.testing.assert_close(evaluation.logits[:20], logits["ann"], rtol=1e-5, atol=1e-5)
    for coding in ("rate", "lossless"):
        known = expected[coding]
        snn = mst.convert(model, coding, **known["options"])
        result = mst.simulate(snn, Subset(data.test, range(20)), num_steps=known["num_steps"], seed=0)
        torch.testing.assert_close(result.logits, logits[coding], rtol=1e-5, atol=1e-5)
        assert result.accuracy is not None
        assert result.accuracy.tolist() == known["accuracy"]
        assert result.spikes_per_image == known["spikes_per_image"]
        energy = mst.estimate_energy(result)
        assert energy.snn.energy_pj == pytest.approx(known["snn_energy_pj"], rel=1e-12)
        assert energy.ann.energy_pj == pytest.approx(known["ann_energy_pj"], rel=1e-12)


def test_earlier_checkpoint_keeps_its_masked_sites() -> None:
    masked = {
        name: {
            site.masking_ratio
            for site_name, site in find_sites(mst.load_checkpoint(BEFORE / name / "last.safetensors")).items()
            if where in site_name
        }
        for name, where in (("mst", ".q_if"), ("cnn", "layer1."))
    }
    assert masked == {"mst": {0.5}, "cnn": {0.25}}
    sites = find_sites(mst.load_checkpoint(BEFORE / "cnn" / "last.safetensors"))
    assert {site.masking_ratio for name, site in sites.items() if not name.startswith("layer1.")} == {0.0}


def test_training_interrupted_in_an_earlier_version_continues_to_the_same_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(BEFORE / "cut", tmp_path / "cut")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--output", "cut", "--resume"]) == 0
    history = json.loads((tmp_path / "cut" / "run_record.json").read_text())["results"]["history"]
    assert [epoch["loss"] for epoch in history] == pytest.approx(EXPECTED["resumed"]["loss"], rel=1e-6)
    assert [epoch["accuracy"] for epoch in history] == EXPECTED["resumed"]["accuracy"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_earlier_sweep_keeps_its_finished_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BEFORE / "sweep", tmp_path / "sweep")
    monkeypatch.chdir(tmp_path)
    record = json.loads((tmp_path / "sweep" / "run_record.json").read_text())
    before = rows(tmp_path / "sweep" / "sweep.csv")
    (tmp_path / "sweep" / "sweep.csv").unlink()
    settings = record["settings"]
    assert settings["time_steps"] == [4, 8]
    words = (
        "sweep --output sweep --model-kwargs.embed_dim 8 --model-kwargs.depths [1] --model-kwargs.num_heads [2] "
        "--num-levels 4 --dataset digits --train-images 200 --train.batch-size 50 --train.epochs 3 "
        "--train.learning-rate 1e-2 --train.trackers [] --train.device cpu --masking-ratios 0,0.5 --time-steps 4,8 "
        "--mask-seeds 0,1 --max-images 60"
    )
    assert main(words.split()) == 0
    now = rows(tmp_path / "sweep" / "sweep.csv")
    assert [{name: row[name] for name in before[0]} for row in now] == before
    assert {(row["coding"], row["mean_steps"], row["energy_with_functions_uj"]) for row in now} == {
        ("rate", "4.0", ""), ("rate", "8.0", "")
    }  # fmt: skip
    assert not list((tmp_path / "sweep").rglob("last.safetensors"))  # no cell was trained again


def test_earlier_record_stays_beside_that_of_another_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BEFORE / "mst", tmp_path / "mst")
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "mst" / "run_record.json").read_text()
    assert main(["evaluate", "mst/last.safetensors", "--output", "mst", "--device", "cpu"]) == 0
    assert (tmp_path / "mst" / "run_record.json").read_text() == before
    record = json.loads((tmp_path / "mst" / "evaluate_run_record.json").read_text())
    assert record["results"]["ann_accuracy"] == EXPECTED["mst"]["accuracy"]
