"""A network comes in; the same network with quantised activations at its sites goes out."""

from .calibration import ThresholdFrom, calibrate, fit_threshold, in_evaluation, set_thresholds
from .named import create_model
from .quantizer import (
    MaxPool,
    Quantization,
    check_same,
    image_shape_of,
    note_quantization,
    num_classes_of,
    quantization_of,
    quantize,
    shape_thresholds,
)

__all__ = [
    "MaxPool",
    "Quantization",
    "ThresholdFrom",
    "calibrate",
    "check_same",
    "create_model",
    "fit_threshold",
    "image_shape_of",
    "in_evaluation",
    "note_quantization",
    "num_classes_of",
    "quantization_of",
    "quantize",
    "set_thresholds",
    "shape_thresholds",
]
