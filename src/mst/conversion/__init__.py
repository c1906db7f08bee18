"""An ANN with quantised activations comes in; a spiking network and an account of its conversion go out."""

from mst.dataflow import ConversionError, Obstacle

from .codings import CODINGS, LOSSLESS, RATE, Coding, NeuronFactory, coding_of, register_coding
from .conversion import convert, default_schedule
from .independence import refuse_dependent_answers
from .spiking_network import SiteConversion, SpikingNetwork

__all__ = [
    "CODINGS",
    "LOSSLESS",
    "RATE",
    "Coding",
    "ConversionError",
    "NeuronFactory",
    "Obstacle",
    "SiteConversion",
    "SpikingNetwork",
    "coding_of",
    "convert",
    "default_schedule",
    "refuse_dependent_answers",
    "register_coding",
]
