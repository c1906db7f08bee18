"""Names and sizes, or weights from elsewhere, come in; networks in ANN form go out."""

from .calibration import calibrate, fit_threshold
from .checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    read_checkpoint_info,
    save_checkpoint,
    write_atomically,
)
from .initial import InitialWeights, load_initial_weights
from .layers import synchronise_batch_norm
from .mst import MASK_SITES, MaskedSpikingTransformer, MSTConfig
from .registry import MODEL_NAMES, create_model
from .released import import_released, read_pickle, read_state_dict, strip_prefixes
from .swin import import_swin, is_swin, load_swin, map_swin, read_swin

__all__ = [
    "MASK_SITES",
    "MODEL_NAMES",
    "CheckpointInfo",
    "InitialWeights",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "calibrate",
    "create_model",
    "fit_threshold",
    "import_released",
    "import_swin",
    "is_swin",
    "load_checkpoint",
    "load_initial_weights",
    "load_swin",
    "map_swin",
    "read_checkpoint_info",
    "read_pickle",
    "read_state_dict",
    "read_swin",
    "save_checkpoint",
    "strip_prefixes",
    "synchronise_batch_norm",
    "write_atomically",
]
