"""Training runs that are interrupted, and resumed as users would resume them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mst
from failing import fails
from mst.cli.main import main
from mst.training import steps
from small_runs import FEW_IMAGES, TINY_MST

pytestmark = pytest.mark.slow

OPTIONS = [
    *TINY_MST, *FEW_IMAGES, "--num-levels", "4", "--train.epochs", "3", "--train.warmup-epochs", "1",
    "--train.learning-rate", "1e-2", "--augment.crop-padding", "1", "--masking-ratio", "0.5",
]  # fmt: skip

RUN_AND_SEND = """
import os, runpy, signal, sys
from mst.training import steps

seed_step = steps.seed_step

def send_in_the_second_epoch(seed, epoch, step, process=0):
    if (epoch, step) == (1, 2):
        {send}
    seed_step(seed, epoch, step, process)

steps.seed_step = send_in_the_second_epoch
runpy.run_module("mst", run_name="__main__")
"""
"""`python -m mst` that sends itself a signal within the second epoch."""


def run_and_send(send: str, output: Path, *options: str) -> tuple[int, str]:
    """Exit code and standard error of an `mst train` that executes `send` within the second epoch."""
    command = [sys.executable, "-c", RUN_AND_SEND.format(send=send), "train", "--output", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, start_new_session=True, timeout=300, check=False
    )
    return done.returncode, done.stderr


def signal_in_the_second_epoch(number: signal.Signals) -> Callable[..., None]:
    """`seed_step` that sends this process a signal within the second epoch."""
    seed_step = steps.seed_step

    def changed(seed: int, epoch: int, step: int, process: int = 0) -> None:
        if (epoch, step) == (1, 2):
            os.kill(os.getpid(), number)
        seed_step(seed, epoch, step, process)

    return changed


def history(output: Path) -> list[float]:
    record = json.loads((output / "run_record.json").read_text())
    return [epoch["loss"] for epoch in record["results"]["history"]]


def check_resumed_run(output: Path, uninterrupted: Path, *options: str) -> None:
    """Resume a run; it must end as if it had not been interrupted."""
    mst.load_checkpoint(output / "last.safetensors")
    assert main(["train", "--output", str(output), "--resume", *options]) == 0
    assert history(output) == pytest.approx(history(uninterrupted), abs=1e-6)
    assert mst.read_checkpoint_info(output / "last.safetensors").provenance["epochs"] == 3
    assert not list(output.glob(".*.partial"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main(["train", "--output", str(folder), *OPTIONS]) == 0
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_train_stopped_by_a_signal_resumes_without_its_options_and_ends_as_an_uninterrupted_run(
    tmp_path: Path,
    uninterrupted: Path,
    number: signal.Signals,
    code: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(steps, "seed_step", signal_in_the_second_epoch(number))
        assert main(["train", "--output", str(tmp_path), *OPTIONS]) == code
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert "the training state has been written, and --resume continues from it" in error
    check_resumed_run(tmp_path, uninterrupted)


def test_train_killed_resumes_from_its_last_epoch(tmp_path: Path, uninterrupted: Path) -> None:
    code, error = run_and_send("os.kill(os.getpid(), signal.SIGKILL)", tmp_path, *OPTIONS)
    assert (code, "Traceback" in error) == (-signal.SIGKILL, False), error
    check_resumed_run(tmp_path, uninterrupted)


def test_train_saves_when_sigterm_reaches_the_whole_group_of_its_workers(tmp_path: Path, uninterrupted: Path) -> None:
    code, error = run_and_send("os.killpg(0, signal.SIGTERM)", tmp_path, *OPTIONS, "--train.num-workers", "2")
    assert (code, "the training state has been written" in error, "Traceback" in error) == (143, True, False), error
    check_resumed_run(tmp_path, uninterrupted, "--train.num-workers", "0")


def test_resume_starts_from_scratch_when_nothing_was_saved(
    tmp_path: Path, uninterrupted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cut"
    shutil.copytree(uninterrupted, output)
    for path in (*output.glob("*.pt"), *output.glob("*.safetensors")):
        path.unlink()
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert "it starts from scratch" in capfd.readouterr().err
    assert mst.load_checkpoint(output / "last.safetensors").config.num_levels == 4
    assert "nothing to resume" in fails(["train", "--output", str(tmp_path / "none"), "--resume"], capfd)


def test_resume_names_an_option_that_differs(uninterrupted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = fails(["train", "--output", str(uninterrupted), "--resume", "--train.seed", "5"], capfd)
    assert "other settings" in line
    assert "train.seed: 0 -> 5" in line
