"""`mst diagnose` on a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mst
from mst.cli.main import main


def test_diagnose_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = mst.load_dataset("digits", img_size=8)
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "in_chans": 1, "num_classes": 10}
    model = mst.create_model("mst_nano_patch2_window2_8", **sizes)
    info = mst.CheckpointInfo("digits", data.info.class_names, data.preprocessing)
    mst.save_checkpoint(model, tmp_path / "x.safetensors", info)
    few = ["--max-images", "4", "--calibration-images", "8", "--simulated-images", "1", "--time-steps", "8"]
    words = [
        "diagnose",
        str(tmp_path / "x.safetensors"),
        "--output",
        str(tmp_path),
        "--bits",
        "3",
        *few,
        "--codings",
        "lossless",
    ]
    assert main(words) == 0
    assert "Sites to change first" in capsys.readouterr().out
    content = json.loads((tmp_path / "diagnosis.json").read_text())
    assert content["dataset"] == "digits"
    assert content["diagnosis"]["num_images"] == 4
    assert {path.name for path in tmp_path.iterdir()} >= {"diagnosis.csv", "diagnosis.png", "run_record.json"}
    record = json.loads((tmp_path / "run_record.json").read_text())
    assert (record["verb"], record["settings"]["bits"], record["settings"]["max_images"]) == ("diagnose", [3], 4)
    assert record["settings"]["codings"] == ["lossless"]
