"""The training state: everything needed to continue a training exactly where it was, and the state before it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from mst.checkpoints import read_pickle
from mst.errors import InputError, MissingFileError
from mst.files import write_atomically

logger = logging.getLogger(__name__)

STATE_FILE = "training_state.pt"
PREVIOUS_STATE_FILE = "training_state.previous.pt"

_KEYS = {"epoch", "step", "loss_sum", "seconds", "model", "optimizer", "scaler", "history", "config"}


def has_training_state(folder: Path) -> bool:
    """True if `folder` holds a state, readable or not."""
    return (folder / STATE_FILE).is_file() or (folder / PREVIOUS_STATE_FILE).is_file()


def save_training_state(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. The new state is completed beside the older ones; then the last one becomes the
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
    """Read the last state that `save_training_state` wrote, or the one before if the last is damaged.

    Returns:
        The state; and the damaged file if the state before it was read instead, else None.

    Raises:
        MissingFileError: there is no state in `folder`.
        InputError: neither file can be read, or they are not training states.
    """
    if not has_training_state(folder):
        raise MissingFileError(
            f"nothing to resume: {folder / STATE_FILE} does not exist", remedy="start the run without --resume"
        )
    problems = []
    for name in (STATE_FILE, PREVIOUS_STATE_FILE):
        try:
            state = _read(folder / name)
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error))
            continue
        if problems:
            logger.warning("%s; continuing from the state before it, %s", problems[0], folder / name)
        return state, folder / STATE_FILE if problems else None
    raise InputError("; ".join(problems))


def _read(path: Path) -> dict[str, Any]:
    state = read_pickle(path)
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise InputError(f"{path} is not a training state of this version of mst")
    return state


def remove_leftovers(folder: Path, pattern: str = ".*.partial") -> None:
    """Delete the temporary files of writes that were cut short."""
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)
