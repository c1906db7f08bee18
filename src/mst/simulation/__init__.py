"""A spiking network and images come in; accuracy at every step, spikes and operations go out."""

from .early_exit import (
    EXIT_RULES,
    EarlyExit,
    ExitCalibration,
    ExitPoint,
    ExitRule,
    calibrate_early_exit,
    calibrate_early_exits,
    exit_point,
    readouts_of,
)
from .loop import simulate
from .result import SimulationResult, SiteRecord
from .sharded import merge_results, simulate_dataset

__all__ = [
    "EXIT_RULES",
    "EarlyExit",
    "ExitCalibration",
    "ExitPoint",
    "ExitRule",
    "SimulationResult",
    "SiteRecord",
    "calibrate_early_exit",
    "calibrate_early_exits",
    "exit_point",
    "merge_results",
    "readouts_of",
    "simulate",
    "simulate_dataset",
]
