"""Options of a training are checked and have an effect."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mst
from mst.checkpoints import CheckpointInfo
from mst.extras import install_command
from mst.threads import intra_op_threads
from mst.training import (
    TrainConfig,
)
from mst.training.config import COMMON_OPTIMIZERS
from mst.training.loop import _Trainer
from training_runs import QUICK, data, fresh, losses, run

pytestmark = pytest.mark.slow

SHORT = dataclasses.replace(QUICK, epochs=2)
"""Two epochs: one warms up, one follows the cosine."""

FIELDS = {
    "epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "min_learning_rate": 4e-3, "warmup_epochs": 0,
    "warmup_learning_rate": 1e-3, "weight_decay": 2.0, "clip_grad_norm": 0.01, "label_smoothing": 0.3,
    "mixup": 0.8, "cutmix": 1.0, "seed": 7, "accumulation_steps": 2, "optimizer": "sgd",
    "spike_penalty": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def short_losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of `SHORT`, computed on one thread as every test does."""
    with intra_op_threads(1):
        return losses(run(tmp_path_factory.mktemp("short"), SHORT))


@pytest.mark.parametrize("field", FIELDS)
def test_config_every_training_field_is_alive(tmp_path: Path, short_losses: list[float], field: str) -> None:
    assert losses(run(tmp_path, dataclasses.replace(SHORT, **{field: FIELDS[field]}))) != short_losses


def test_train_can_be_repeated(tmp_path: Path, short_losses: list[float]) -> None:
    assert losses(run(tmp_path, SHORT)) == short_losses


def test_config_the_other_fields_are_alive(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, mixed_precision="bf16", num_workers=2, eval_batch_size=5)
    trainer = _Trainer(fresh(), data(), data(), tmp_path, config, CheckpointInfo())  # type: ignore[arg-type]
    assert trainer.accelerator.mixed_precision == "bf16"
    assert trainer.loader._loader.num_workers == 2
    assert {f.name for f in dataclasses.fields(TrainConfig)} == {
        *FIELDS, "mixed_precision", "num_workers", "eval_batch_size", "device", "sync_batch_norm", "trackers",
        "checkpoint_minutes", "spike_penalty_on", "distillation", "distillation_temperature", "compile",
        "channels_last",
    }  # fmt: skip


def test_config_device_is_taken_or_refused(tmp_path: Path) -> None:
    on_cpu = dataclasses.replace(QUICK, device="cpu")
    trainer = _Trainer(fresh(), data(), data(), tmp_path, on_cpu, CheckpointInfo())  # type: ignore[arg-type]
    assert trainer.accelerator.device.type == "cpu"
    with pytest.raises(ValueError, match="device 'abacus' is not available for training here"):
        run(tmp_path, dataclasses.replace(QUICK, device="abacus"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        (
            {"epochs": 3, "warmup_epochs": 3},
            "warmup_epochs is 3, which must be less than epochs, 3; lower train.warmup_epochs",
        ),
        ({"mixup": 0.5, "batch_size": 7}, "batch_size must be even"),
    ],
)
def test_config_value_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_config_trackers_and_optimizer_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'adamv'; did you mean"):
        TrainConfig(optimizer="adamv")
    with pytest.raises(ValueError, match="unknown tracker 'paper'; choose from tensorboard, wandb"):
        TrainConfig(trackers=("paper",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"{re.escape(install_command('wandb'))}$"):
        TrainConfig(trackers=("wandb",))


def test_config_accumulation_of_the_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="asks for 4 accumulation steps; set train.accumulation_steps instead"):
        run(tmp_path)


def test_config_common_optimizers_are_known_to_timm() -> None:
    from timm.optim import list_optimizers

    assert set(COMMON_OPTIMIZERS) <= set(list_optimizers())


def test_config_can_be_made_without_loading_what_a_training_needs() -> None:
    """The command line reads the options before it knows whether anything is to be trained."""
    heavy = ("accelerate", "tensorboard", "timm", "torch")
    script = (
        "import sys, types, importlib.util\n"
        "package = types.ModuleType('mst'); package.__path__ = [sys.argv[1]]; sys.modules['mst'] = package\n"
        "from mst.training import TrainConfig, TrainingObserver; TrainConfig()\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(Path(mst.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
