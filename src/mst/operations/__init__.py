"""A spiking network comes in; its operations, and their counts while it runs, go out."""

from .changes import ChangeCounter
from .counter import COMMON_ASSUMPTIONS, OperationCounter
from .elementary import (
    ADDITION,
    COMPARISON,
    ELEMENTARY,
    ERF,
    EXP,
    LOG,
    MULTIPLICATION,
    RECIPROCAL,
    ROOT,
    SINE,
    Rule,
)
from .fan_out import conv_fan_out, outputs_reached
from .function_counter import FunctionCounter
from .functions import Function, FunctionCount
from .neuron_sites import NeuronSite, neuron_sites
from .spikes import SpikeCounter
from .trace import Operation, OperationCount, Trace, trace_operations

__all__ = [
    "ADDITION",
    "COMMON_ASSUMPTIONS",
    "COMPARISON",
    "ELEMENTARY",
    "ERF",
    "EXP",
    "LOG",
    "MULTIPLICATION",
    "RECIPROCAL",
    "ROOT",
    "SINE",
    "ChangeCounter",
    "Function",
    "FunctionCount",
    "FunctionCounter",
    "NeuronSite",
    "Operation",
    "OperationCount",
    "OperationCounter",
    "Rule",
    "SpikeCounter",
    "Trace",
    "conv_fan_out",
    "neuron_sites",
    "outputs_reached",
    "trace_operations",
]
