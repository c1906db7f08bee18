"""A spiking network and images come in; accuracy at every step, spikes and operations go out."""

from .early_exit import EXIT_RULES, EarlyExit, ExitRule
from .examination import trace_for
from .exit_calibration import (
    ExitCalibration,
    ExitPoint,
    ExitTest,
    calibrate_early_exit,
    calibrate_early_exits,
    exit_point,
    images_needed_to_calibrate,
    least_loss,
    too_few_images,
)
from .loop import run_batches
from .options import SimulationOptions
from .readout import readouts_of
from .result import SimulationResult, SiteRecord
from .risk_control import DEFAULT_CONFIDENCE
from .settled import SettledResult, SettledSite, predict_settled
from .sharded import merge_results
from .simulation import simulate
from .tracing import ImageTrace, SiteTrace, trace_images

__all__ = [
    "DEFAULT_CONFIDENCE",
    "EXIT_RULES",
    "EarlyExit",
    "ExitCalibration",
    "ExitPoint",
    "ExitRule",
    "ExitTest",
    "ImageTrace",
    "SettledResult",
    "SettledSite",
    "SimulationOptions",
    "SimulationResult",
    "SiteRecord",
    "SiteTrace",
    "calibrate_early_exit",
    "calibrate_early_exits",
    "exit_point",
    "images_needed_to_calibrate",
    "least_loss",
    "merge_results",
    "predict_settled",
    "readouts_of",
    "run_batches",
    "simulate",
    "too_few_images",
    "trace_for",
    "trace_images",
]
