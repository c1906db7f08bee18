"""A converted network and one image come in; what drives each operation, and what spikes cannot carry, go out."""

from .obstacles import ConversionError, Obstacle
from .tracer import trace_dataflow
from .values import Call, Dataflow, Flow

__all__ = ["Call", "ConversionError", "Dataflow", "Flow", "Obstacle", "trace_dataflow"]
