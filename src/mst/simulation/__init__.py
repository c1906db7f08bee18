"""A spiking network and images come in; accuracy at every step, spikes and operations go out."""

from .early_exit import EXIT_RULES, EarlyExit, ExitRule
from .examination import trace_for
from .exit_calibration import ExitCalibration, ExitPoint, calibrate_early_exit, calibrate_early_exits, exit_point
from .options import SimulationOptions
from .readout import readouts_of
from .result import SimulationResult, SiteRecord
from .sharded import merge_results
from .simulation import simulate

__all__ = [
    "EXIT_RULES",
    "EarlyExit",
    "ExitCalibration",
    "ExitPoint",
    "ExitRule",
    "SimulationOptions",
    "SimulationResult",
    "SiteRecord",
    "calibrate_early_exit",
    "calibrate_early_exits",
    "exit_point",
    "merge_results",
    "readouts_of",
    "simulate",
    "trace_for",
]
