"""Runs that were interrupted continue as if they had not been; damaged states are refused or left behind."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import mst
from mst.checkpoints import CheckpointInfo
from mst.training import (
    TrainingStoppedError,
    train,
)
from mst.training.folder import TrainingFolder
from mst.training.state import PREVIOUS_STATE_FILE, STATE_FILE, load_training_state
from training_runs import QUICK, after_step, data, fresh, losses, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("options", [{}, {"masking_ratio": 0.5, "drop_path_rate": 0.3}], ids=["plain", "random"])
@pytest.mark.parametrize("mixing", [False, True])
def test_train_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, options: dict[str, Any], mixing: bool) -> None:
    config = dataclasses.replace(QUICK, mixup=0.8, cutmix=1.0) if mixing else QUICK
    whole = run(tmp_path / "whole", config, fresh(**options))

    class Stop(Exception):  # noqa: N818
        pass

    def stop_in_the_third_epoch(steps: int) -> None:
        if steps == 2 * 4 + 2:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "cut", config, fresh(**options), observer=after_step(stop_in_the_third_epoch))
    assert mst.read_checkpoint_info(tmp_path / "cut" / "last.safetensors").provenance["epochs"] == 2
    torch.manual_seed(99)  # independent of what the process did before
    steps: list[int] = []
    resumed = run(tmp_path / "cut", config, fresh(**options), resume=True, observer=after_step(steps.append))
    assert steps == [*range(2 * 4, 4 * 4 + 1)]
    assert losses(resumed) == losses(whole)
    a, b = mst.load_checkpoint(whole.last_checkpoint), mst.load_checkpoint(resumed.last_checkpoint)
    torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)


def test_train_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(FileExistsError, match="already holds a run; continue it with --resume"):
        run(tmp_path)


def test_train_resume_needs_a_run_with_the_same_settings(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        run(tmp_path / "empty", resume=True)
    run(tmp_path)
    with pytest.raises(ValueError, match=r"other settings.*train.learning_rate: 0.005 -> 0.1"):
        run(tmp_path, dataclasses.replace(QUICK, learning_rate=0.1), resume=True)
    other_data = CheckpointInfo("three", provenance={"data_fingerprint": "abc"})
    with pytest.raises(ValueError, match=r"provenance.data_fingerprint: None -> abc"):
        train(fresh(), data(), data(), tmp_path, QUICK, other_data, resume=True)  # type: ignore[arg-type]
    run(tmp_path, dataclasses.replace(QUICK, eval_batch_size=3, device="cpu"), resume=True)  # no number changes
    with pytest.raises(ValueError, match=r"model.config.masking_ratio: 0.0 -> 0.5"):
        run(tmp_path, QUICK, fresh(masking_ratio=0.5), resume=True)


def test_train_resumes_a_run_made_before_an_option_existed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = TrainingFolder.settings

    def without_alignment(self: Any) -> dict[str, Any]:
        settings = genuine(self)
        del settings["model"]["config"]["align_chans"]
        del settings["train"]["distillation_temperature"]  # whose default is not 0
        return settings

    with monkeypatch.context() as patch:
        patch.setattr(TrainingFolder, "settings", without_alignment)
        run(tmp_path)
    run(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"model.config.align_chans: None -> 3"):
        run(tmp_path, QUICK, fresh(align_chans=3), resume=True)


def test_train_truncated_state_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(tmp_path)
    last = (tmp_path / "last.safetensors").read_bytes()
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:1000])
    (tmp_path / "last.safetensors").write_bytes(last[:5000])
    steps: list[int] = []
    resumed = run(tmp_path, resume=True, observer=after_step(steps.append))
    assert "continuing from the state before it" in caplog.text
    assert steps[0] == 3 * 4
    assert losses(resumed) == losses(whole)
    assert load_training_state(tmp_path)[0]["epoch"] == 4
    path.unlink()  # the damaged state has not been kept as the one to fall back to
    assert load_training_state(tmp_path)[0]["epoch"] == 3
    for one, two in zip(mst.load_checkpoint(resumed.last_checkpoint).parameters(), fresh().parameters(), strict=True):
        assert one.shape == two.shape
    (tmp_path / "last.safetensors").write_bytes(last[:5000])  # of a finished run: written again from its state
    run(tmp_path, resume=True)
    mst.load_checkpoint(tmp_path / "last.safetensors")


def test_train_damaged_states_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    for name in (STATE_FILE, PREVIOUS_STATE_FILE):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{STATE_FILE}: not a torch file.*{PREVIOUS_STATE_FILE}: "):
        run(tmp_path, resume=True)
    torch.save({"epoch": 1}, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match="is not a training state of this version of mst"):
        load_training_state(tmp_path)


def test_train_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    saves: list[object] = []

    def full(state: object, path: str) -> None:
        saves.append(path)
        if len(saves) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", path)
        original(state, path)

    original = torch.save
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path / "full")
    monkeypatch.undo()
    assert not list((tmp_path / "full").glob(".*.partial"))
    assert losses(run(tmp_path / "full", resume=True)) == losses(whole)


@pytest.mark.parametrize(("mixing", "workers"), [(False, 0), (True, 2)])
def test_train_sigterm_in_an_epoch_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, mixing: bool, workers: int
) -> None:
    config = dataclasses.replace(QUICK, num_workers=workers)
    config = dataclasses.replace(config, mixup=0.8, cutmix=1.0) if mixing else config
    options: dict[str, Any] = {"masking_ratio": 0.5, "drop_path_rate": 0.3}
    whole = run(tmp_path / "whole", dataclasses.replace(config, num_workers=0), fresh(**options))

    def terminate(steps: int) -> None:
        if steps == 4 + 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(
        TrainingStoppedError, match="stopped after 1 epoch and 2 steps; .*--resume continues"
    ) as stopped:
        run(tmp_path / "cut", config, fresh(**options), observer=after_step(terminate))
    assert (stopped.value.epochs_done, stopped.value.steps_done, stopped.value.signal) == (1, 2, signal.SIGTERM)
    assert str(pickle.loads(pickle.dumps(stopped.value))) == str(stopped.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    steps: list[int] = []
    resumed = run(tmp_path / "cut", config, fresh(**options), resume=True, observer=after_step(steps.append))
    assert steps[0] == 4 + 2
    assert losses(resumed) == losses(whole)


def test_train_writes_its_state_within_a_long_epoch(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(steps: int) -> None:
        if (tmp_path / STATE_FILE).exists():
            seen.append(load_training_state(tmp_path)[0]["step"])

    run(tmp_path, dataclasses.replace(QUICK, checkpoint_minutes=0.0), observer=after_step(look))
    assert {1, 2} <= set(seen)
