"""An ANN and labelled images come in; a trained ANN, its checkpoints and its history go out."""

from .config import EpochRecord, TrainConfig, TrainingDivergedError, TrainingResult, TrainingStoppedError
from .evaluation import Evaluation, check_labels, count_hits, evaluate, evaluate_dataset
from .loop import BEST_CHECKPOINT, FREE_ON_RESUME, LAST_CHECKPOINT, train
from .processes import (
    gather_values,
    is_main_process,
    join_processes,
    leave_processes,
    num_processes,
    one_process_first,
    runs_on_cpu,
    share_of,
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
    "TrainingResult",
    "TrainingStoppedError",
    "check_labels",
    "count_hits",
    "evaluate",
    "evaluate_dataset",
    "gather_values",
    "has_training_state",
    "is_main_process",
    "join_processes",
    "leave_processes",
    "num_processes",
    "one_process_first",
    "runs_on_cpu",
    "share_of",
    "train",
]
