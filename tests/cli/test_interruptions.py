"""Training runs that are interrupted, and resumed as users would resume them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mst
from failing import fails
from mst.cli.main import main

pytestmark = pytest.mark.slow


def start_training(output: Path, *options: str) -> subprocess.Popen[str]:
    """`mst train` in a separate process that has finished its first epochs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mst", "train", "--output", str(output), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while not (output / "training_state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


OPTIONS = (
    "--train.epochs",
    "9",
    "--train.learning-rate",
    "1e-2",
    "--augment.crop-padding",
    "1",
    "--masking-ratio",
    "0.5",
)


def history(output: Path) -> list[float]:
    record = json.loads((output / "run_record.json").read_text())
    return [epoch["loss"] for epoch in record["results"]["history"]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("whole")
    assert main(["train", "--output", str(folder), *OPTIONS]) == 0
    return history(folder)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["int", "term", "kill"]
)
def test_cut_run_resumes_without_its_options_and_ends_as_if_it_had_not_been(
    tmp_path: Path, uninterrupted: list[float], number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    process = start_training(tmp_path, *OPTIONS)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in error
    if number != signal.SIGKILL:
        assert "the training state has been written, and --resume continues from it" in error
    mst.load_checkpoint(tmp_path / "last.safetensors")
    assert main(["train", "--output", str(tmp_path), "--resume"]) == 0
    assert history(tmp_path) == pytest.approx(uninterrupted, abs=1e-6)
    assert mst.read_checkpoint_info(tmp_path / "last.safetensors").provenance["epochs"] == 9
    assert not list(tmp_path.glob(".*.partial"))


def test_resume_before_anything_was_saved_starts_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--output", str(tmp_path), "--train.epochs", "2", "--num-levels", "4"]) == 0
    for path in (*tmp_path.glob("*.pt"), *tmp_path.glob("*.safetensors")):
        path.unlink()
    assert main(["train", "--output", str(tmp_path), "--resume"]) == 0
    assert "it starts from scratch" in capfd.readouterr().err
    assert mst.load_checkpoint(tmp_path / "last.safetensors").config.num_levels == 4
    assert "nothing to resume" in fails(["train", "--output", str(tmp_path / "none"), "--resume"], capfd)


def test_resume_with_another_option_says_which(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--output", str(tmp_path), "--train.epochs", "2"]) == 0
    line = fails(["train", "--output", str(tmp_path), "--resume", "--train.seed", "5"], capfd)
    assert "other settings" in line
    assert "train.seed: 0 -> 5" in line


def test_sigterm_to_the_whole_group_of_a_run_with_workers_saves(tmp_path: Path, uninterrupted: list[float]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mst", "train", "--output", str(tmp_path), *OPTIONS, "--train.num-workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "training_state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, "the training state has been written" in error) == (143, True), error
    assert main(["train", "--output", str(tmp_path), "--resume", "--train.num-workers", "0"]) == 0
    assert history(tmp_path) == pytest.approx(uninterrupted, abs=1e-6)
