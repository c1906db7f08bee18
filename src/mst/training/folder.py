"""The output folder of a run: its checkpoints, its training state, and the check that a resumed run is the same run."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mst.checkpoints import CheckpointInfo, describe_model, save_checkpoint
from mst.errors import FileConflictError, InputError

from .config import FREE_ON_RESUME, TrainConfig
from .results import BEST_CHECKPOINT, LAST_CHECKPOINT, EpochRecord
from .state import has_training_state, load_training_state, remove_leftovers, save_training_state
from .steps import TrainingSteps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartialEpoch:
    """An epoch that is under way."""

    step: int = 0
    """Steps done."""

    loss_sum: float = 0.0
    """Sum of their losses, each the mean over processes."""

    seconds: float = 0.0
    """Seconds spent on it."""


class TrainingFolder:
    """Reads and writes the files of one run. Only the main process writes.

    Args:
        path: the folder, which all processes see.
        config: how to train.
        info: description that the checkpoints carry.
        steps: the run's model and optimizer.
    """

    def __init__(self, path: Path, config: TrainConfig, info: CheckpointInfo, steps: TrainingSteps) -> None:
        self.path, self.config, self.info, self.steps = path, config, info, steps
        self.last_save = time.monotonic()

    @property
    def _writes(self) -> bool:
        return bool(self.steps.accelerator.is_main_process)

    def begin(self) -> None:
        """Make the folder.

        Raises:
            FileConflictError: it holds a run already.
        """
        if has_training_state(self.path):
            raise FileConflictError(
                f"{self.path} already holds a run", remedy="continue it with --resume, or choose another output folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if self._writes:
            remove_leftovers(self.path)

    def settings(self) -> dict[str, Any]:
        """Everything that a run's numbers follow from; it must be the same for a run to be continued."""
        settings = {
            "train": {name: value for name, value in asdict(self.config).items() if name not in FREE_ON_RESUME},
            "num_processes": self.steps.accelerator.num_processes,
            "model": describe_model(self.steps.raw_model),
            "dataset": self.info.dataset,
            "preprocessing": None if self.info.preprocessing is None else asdict(self.info.preprocessing),
            "provenance": self.info.provenance,
            "teacher": None if self.steps.teacher is None else self.steps.teacher.fingerprint,
        }
        return dict(json.loads(json.dumps(settings)))  # as they come back from a file: lists for tuples

    def restore(self) -> tuple[list[EpochRecord], PartialEpoch]:
        """Load the training state into the model and the optimizer.

        Returns:
            The finished epochs, and the one that was under way.

        Raises:
            MissingFileError: there is no state.
            InputError: the state cannot be read, or belongs to a run with other settings.
        """
        state, damaged = load_training_state(self.path)
        self._check_settings(state["config"])
        self.steps.load_state(state)
        known = {field.name for field in fields(EpochRecord)}
        history = [EpochRecord(**{k: v for k, v in r.items() if k in known}) for r in state["history"]]
        logger.info("resuming %s after epoch %d, step %d", self.path, state["epoch"], state["step"])
        self.steps.accelerator.wait_for_everyone()  # until all have read the state
        if self._writes:
            if damaged is not None:  # otherwise the next write would keep it as the state to fall back to
                damaged.unlink(missing_ok=True)
            remove_leftovers(self.path)
            if history and not state["step"] and not _is_whole(self.path / LAST_CHECKPOINT):
                self._save_checkpoint(LAST_CHECKPOINT, history[-1])
        return history, PartialEpoch(state["step"], state["loss_sum"], state["seconds"])

    def _check_settings(self, stored: dict[str, Any]) -> None:
        then, now = flatten(stored), flatten(self.settings())
        usual = flatten({"train": asdict(TrainConfig())})
        new = now.keys() - then.keys()  # options that did not exist then
        new_and_off = {key for key in new if not now[key] or now[key] == usual.get(key)}
        changed = [
            f"{key}: {then.get(key)} -> {now.get(key)}"
            for key in {**then, **now}
            if then.get(key) != now.get(key) and key not in new_and_off
        ]
        if changed:
            raise InputError(
                f"{self.path} was trained with other settings ({'; '.join(changed)})",
                remedy="to resume it, repeat the options that it was started with",
            )

    def save_epoch(self, history: list[EpochRecord], is_best: bool) -> None:
        """Write the checkpoints of the epoch just finished, then the state."""
        if self._writes:
            if is_best:
                self._save_checkpoint(BEST_CHECKPOINT, history[-1])
            self._save_checkpoint(LAST_CHECKPOINT, history[-1])
        self.save_state(history, PartialEpoch())

    def _save_checkpoint(self, name: str, record: EpochRecord) -> None:
        provenance = {
            **self.info.provenance,
            "epochs": record.epoch + 1,
            "accuracy": record.accuracy,
            "train": asdict(self.config),
            "num_processes": self.steps.accelerator.num_processes,
        }
        info = CheckpointInfo(self.info.dataset, self.info.class_names, self.info.preprocessing, provenance)
        save_checkpoint(self.steps.raw_model, self.path / name, info)

    def save_state(self, history: list[EpochRecord], begun: PartialEpoch) -> None:
        """Write the training state."""
        self.last_save = time.monotonic()
        if not self._writes:
            return
        state = {
            "epoch": len(history),
            **asdict(begun),
            **self.steps.state(),
            "history": [asdict(r) for r in history],
            "config": self.settings(),
        }
        save_training_state(self.path, state)


def _is_whole(checkpoint: Path) -> bool:
    try:
        with safe_open(str(checkpoint), "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
