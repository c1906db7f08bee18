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
from .operations import Operation, OperationCount, Trace, trace_operations
from .recorder import conv_fan_out
from .result import SimulationResult, SiteRecord
from .sharded import merge_results, simulate_dataset
from .simulation import simulate

__all__ = [
    "EXIT_RULES",
    "EarlyExit",
    "ExitCalibration",
    "ExitPoint",
    "ExitRule",
    "Operation",
    "OperationCount",
    "SimulationResult",
    "SiteRecord",
    "Trace",
    "calibrate_early_exit",
    "calibrate_early_exits",
    "conv_fan_out",
    "exit_point",
    "merge_results",
    "readouts_of",
    "simulate",
    "simulate_dataset",
    "trace_operations",
]
