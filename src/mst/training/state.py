"""What a training needs to go on exactly where it was: one file that is whole or absent, and the one before it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from mst.checkpoints import read_pickle
from mst.files import write_atomically

logger = logging.getLogger(__name__)

STATE_FILE = "training_state.pt"
PREVIOUS_STATE_FILE = "training_state.previous.pt"

_KEYS = {"epoch", "step", "loss_sum", "seconds", "model", "optimizer", "scaler", "history", "config"}


def has_training_state(folder: Path) -> bool:
    """Whether `folder` holds a state, readable or not."""
    return (folder / STATE_FILE).is_file() or (folder / PREVIOUS_STATE_FILE).is_file()


def save_training_state(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. Until the new state is complete the older ones stay; then the last becomes the
    previous one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = folder / STATE_FILE

    def write(temporary: str) -> None:
        torch.save(state, temporary)

    def keep_previous() -> None:
        if path.is_file():
            os.replace(path, folder / PREVIOUS_STATE_FILE)

    write_atomically(path, write, before_replacing=keep_previous)


def load_training_state(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """Read what `save_training_state` wrote last, or, if that is damaged, what it wrote before.

    Returns:
        The state, and the damaged file that it was read instead of, if so.

    Raises:
        FileNotFoundError: there is none in `folder`.
        ValueError: neither file can be read, or they are something else.
    """
    if not has_training_state(folder):
        raise FileNotFoundError(f"nothing to resume: {folder / STATE_FILE} does not exist")
    problems = []
    for name in (STATE_FILE, PREVIOUS_STATE_FILE):
        try:
            state = _read(folder / name)
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error))
            continue
        if problems:
            logger.warning("%s; going on from the state before it, %s", problems[0], folder / name)
        return state, folder / STATE_FILE if problems else None
    raise ValueError("; ".join(problems))


def _read(path: Path) -> dict[str, Any]:
    state = read_pickle(path)
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise ValueError(f"{path} is no training state of this version of mst")
    return state


def remove_leftovers(folder: Path, pattern: str = ".*.partial") -> None:
    """Delete what writes that were cut short have left behind."""
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)
