"""A spiking network and images come in; accuracy at every step, spikes and operations go out."""

from .operations import Operation, OperationCount, Trace, conv_fan_out, trace_operations
from .sharded import merge_results, simulate_dataset
from .simulation import SimulationResult, SiteRecord, simulate

__all__ = [
    "Operation",
    "OperationCount",
    "SimulationResult",
    "SiteRecord",
    "Trace",
    "conv_fan_out",
    "merge_results",
    "simulate",
    "simulate_dataset",
    "trace_operations",
]
