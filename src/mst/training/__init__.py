"""An ANN and labelled images come in; a trained ANN, its checkpoints and its history go out."""

from .config import EpochRecord, TrainConfig, TrainingDivergedError, TrainingResult, TrainingStoppedError
from .evaluation import Evaluation, evaluate
from .loop import BEST_CHECKPOINT, FREE_ON_RESUME, LAST_CHECKPOINT, train
from .state import has_training_state

__all__ = [
    "BEST_CHECKPOINT",
    "FREE_ON_RESUME",
    "LAST_CHECKPOINT",
    "EpochRecord",
    "Evaluation",
    "TrainConfig",
    "TrainingDivergedError",
    "TrainingResult",
    "TrainingStoppedError",
    "evaluate",
    "has_training_state",
    "train",
]
