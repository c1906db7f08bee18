"""An ANN with quantised activations comes in; a spiking network and the account of its conversion go out."""

from .conversion import CODINGS, Coding, SiteConversion, SpikingNetwork, convert

__all__ = ["CODINGS", "Coding", "SiteConversion", "SpikingNetwork", "convert"]
