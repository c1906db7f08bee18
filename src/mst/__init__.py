"""Masked Spiking Transformer."""
__version__ = "0.1.0"
from .models import import_released
from .convert import convert
from .simulate import simulate
