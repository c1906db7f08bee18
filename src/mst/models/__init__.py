"""Names and sizes, or weights from elsewhere, come in; networks in ANN form go out."""

from .calibration import ThresholdFrom, calibrate, fit_threshold, in_evaluation, set_thresholds
from .checkpoint import (
    CheckpointInfo,
    describe_model,
    load_checkpoint,
    read_checkpoint_info,
    save_checkpoint,
    write_atomically,
)
from .foreign import build
from .initial import InitialWeights, load_initial_weights
from .layers import ActivationProduct, AddConstant, ChannelAlignment, TokenBatchNorm, synchronise_batch_norm
from .masking import ALL_SITES, SITE_GROUPS, mask_spikes, select_sites
from .mst import MaskedSpikingTransformer, MSTConfig
from .quantization import (
    Architecture,
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
from .registry import MODEL_NAMES, create_model
from .released import import_released, read_pickle, read_state_dict, strip_prefixes
from .rewriting import set_submodule
from .swin import import_swin, is_swin, load_swin, map_swin, read_swin

__all__ = [
    "ALL_SITES",
    "MODEL_NAMES",
    "SITE_GROUPS",
    "ActivationProduct",
    "AddConstant",
    "Architecture",
    "ChannelAlignment",
    "CheckpointInfo",
    "InitialWeights",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "MaxPool",
    "Quantization",
    "ThresholdFrom",
    "TokenBatchNorm",
    "build",
    "calibrate",
    "check_same",
    "create_model",
    "describe_model",
    "fit_threshold",
    "image_shape_of",
    "import_released",
    "import_swin",
    "in_evaluation",
    "is_swin",
    "load_checkpoint",
    "load_initial_weights",
    "load_swin",
    "map_swin",
    "mask_spikes",
    "note_quantization",
    "num_classes_of",
    "quantization_of",
    "quantize",
    "read_checkpoint_info",
    "read_pickle",
    "read_state_dict",
    "read_swin",
    "save_checkpoint",
    "select_sites",
    "set_submodule",
    "set_thresholds",
    "shape_thresholds",
    "strip_prefixes",
    "synchronise_batch_norm",
    "write_atomically",
]
