"""An ANN with quantised activations comes in; a spiking network and a report of its conversion go out."""

from mst.dataflow import ConversionError, Obstacle

from .conversion import CODINGS, Coding, SiteConversion, SpikingNetwork, convert

__all__ = [
    "CODINGS",
    "Coding",
    "ConversionError",
    "Obstacle",
    "SiteConversion",
    "SpikingNetwork",
    "convert",
]
