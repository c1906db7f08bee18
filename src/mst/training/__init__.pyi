from .config import FREE_ON_RESUME, TrainConfig
from .evaluation import Evaluation, evaluate
from .loop import train
from .results import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    EpochRecord,
    TrainingDivergedError,
    TrainingObserver,
    TrainingResult,
    TrainingStoppedError,
)
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
