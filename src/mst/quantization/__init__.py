"""A network comes in; the same network with quantised activations at its sites goes out."""

from mst.models import image_shape_of, num_classes_of

from .allocation import allocate_levels
from .biases import correct_biases
from .calibration import calibrate, in_evaluation, set_thresholds
from .checks import check_same
from .fitting import ThresholdFrom, fit_threshold
from .named import activation_classes, check_same_as_plain, create_model
from .quantizer import quantize, shape_thresholds
from .spec import OWN, MaxPool, Quantization, note_quantization, quantization_of
from .weights import correct_weights

__all__ = [
    "OWN",
    "MaxPool",
    "Quantization",
    "ThresholdFrom",
    "activation_classes",
    "allocate_levels",
    "calibrate",
    "check_same",
    "check_same_as_plain",
    "correct_biases",
    "correct_weights",
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
