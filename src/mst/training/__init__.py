"""An ANN and labelled images come in; a trained ANN, its checkpoints and its history go out.

Importing this package loads the options and results only; PyTorch, timm and accelerate are loaded with the functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import FREE_ON_RESUME, TrainConfig
from .results import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    EpochRecord,
    TrainingDivergedError,
    TrainingObserver,
    TrainingResult,
    TrainingStoppedError,
)

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate
    from .loop import train
    from .state import has_training_state

__all__ = [
    "BEST_CHECKPOINT",
    "FREE_ON_RESUME",
    "LAST_CHECKPOINT",
    "EpochRecord",
    "Evaluation",
    "TrainConfig",
    "TrainingDivergedError",
    "TrainingObserver",
    "TrainingResult",
    "TrainingStoppedError",
    "evaluate",
    "has_training_state",
    "train",
]

_FILES = {"Evaluation": "evaluation", "evaluate": "evaluation", "train": "loop", "has_training_state": "state"}


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(import_module(f".{_FILES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
