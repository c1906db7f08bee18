"""A spiking network comes in; its operations, and their counts while it runs, go out."""

from .changes import ChangeCounter
from .counter import COMMON_ASSUMPTIONS, OperationCounter
from .fan_out import conv_fan_out
from .spikes import SpikeCounter
from .trace import Operation, OperationCount, Trace, trace_operations

__all__ = [
    "COMMON_ASSUMPTIONS",
    "ChangeCounter",
    "Operation",
    "OperationCount",
    "OperationCounter",
    "SpikeCounter",
    "Trace",
    "conv_fan_out",
    "trace_operations",
]
