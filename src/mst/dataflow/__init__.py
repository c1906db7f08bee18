"""A converted network and one image come in; what drives each operation, and what spikes cannot carry, go out."""

from .functions import FunctionCall
from .obstacles import THE_NETWORK, ConversionError, Obstacle
from .replay import other_image, smooth_output
from .streams import FanOut, Stream
from .tracer import OPAQUE, trace_dataflow
from .values import Call, Dataflow, Flow

__all__ = [
    "OPAQUE",
    "THE_NETWORK",
    "Call",
    "ConversionError",
    "Dataflow",
    "FanOut",
    "Flow",
    "FunctionCall",
    "Obstacle",
    "Stream",
    "other_image",
    "smooth_output",
    "trace_dataflow",
]
