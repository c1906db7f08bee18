"""What a training needs to go on exactly where it was, in one file that is whole or absent."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mst.models import read_pickle, write_atomically

STATE_FILE = "training_state.pt"


def save_training_state(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; an older state stays until the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    write_atomically(folder / STATE_FILE, lambda temporary: torch.save(state, temporary))


def load_training_state(folder: Path) -> dict[str, Any]:
    """Read what `save_training_state` wrote.

    Raises:
        FileNotFoundError: there is none in `folder`.
        ValueError: the file is damaged or is something else.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: {path} does not exist")
    state = read_pickle(path)
    if (
        not isinstance(state, dict)
        or not {"epoch", "model", "optimizer", "scaler", "history", "config"} <= state.keys()
    ):
        raise ValueError(f"{path} is no training state of mst")
    return state


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed every global generator from (seed, epoch).

    All that is random in an epoch (order, augmentation, mixing, masks, stochastic depth) follows from these two
    numbers, so a resumed run needs no generator's state to repeat what an uninterrupted one does.
    """
    sequence = np.random.SeedSequence([seed, epoch])
    for_torch, for_numpy, for_python = (int(word) for word in sequence.generate_state(3))
    torch.manual_seed(for_torch)
    np.random.seed(for_numpy)  # noqa: NPY002 (timm's mixup draws from numpy's global generator)
    random.seed(for_python)
