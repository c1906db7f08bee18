"""An ANN and labelled images come in; a trained ANN, its checkpoints and its history go out."""

from .evaluation import Evaluation, check_labels, count_hits, evaluate
from .loop import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    EpochRecord,
    TrainConfig,
    TrainingDivergedError,
    TrainingResult,
    train,
)
from .state import seed_epoch

__all__ = [
    "BEST_CHECKPOINT",
    "LAST_CHECKPOINT",
    "EpochRecord",
    "Evaluation",
    "TrainConfig",
    "TrainingDivergedError",
    "TrainingResult",
    "check_labels",
    "count_hits",
    "evaluate",
    "seed_epoch",
    "train",
]
