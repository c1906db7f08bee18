"""A converted network and one image come in; what drives each operation, and what spikes cannot carry, go out."""

from .obstacles import THE_NETWORK, ConversionError, Obstacle
from .replay import other_image, smooth_output
from .tracer import trace_dataflow
from .values import Call, Dataflow, Flow

__all__ = [
    "THE_NETWORK",
    "Call",
    "ConversionError",
    "Dataflow",
    "Flow",
    "Obstacle",
    "other_image",
    "smooth_output",
    "trace_dataflow",
]
