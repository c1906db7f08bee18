"""An ANN with quantised activations comes in; a spiking network and a report of its conversion go out."""

from .conversion import CODINGS, Coding, ConversionError, SiteConversion, SpikingNetwork, convert
from .dataflow import Call, Dataflow, Flow, Obstacle, watch

__all__ = [
    "CODINGS",
    "Call",
    "Coding",
    "ConversionError",
    "Dataflow",
    "Flow",
    "Obstacle",
    "SiteConversion",
    "SpikingNetwork",
    "convert",
    "watch",
]
