"""A spiking network comes in; its operations, and what they cost while it runs, go out."""

from .counter import conv_fan_out
from .trace import Operation, OperationCount, Trace, trace_operations

__all__ = [
    "Operation",
    "OperationCount",
    "Trace",
    "conv_fan_out",
    "trace_operations",
]
