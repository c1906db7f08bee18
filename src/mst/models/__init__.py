"""Names and sizes, or weights from elsewhere, come in; networks in ANN form go out."""

from .checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    read_checkpoint_info,
    save_checkpoint,
    write_atomically,
)
from .layers import synchronise_batch_norm
from .mst import MASK_SITES, MaskedSpikingTransformer, MSTConfig
from .registry import MODEL_NAMES, create_model
from .released import import_released, read_pickle

__all__ = [
    "MASK_SITES",
    "MODEL_NAMES",
    "CheckpointInfo",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "create_model",
    "import_released",
    "load_checkpoint",
    "read_checkpoint_info",
    "read_pickle",
    "save_checkpoint",
    "synchronise_batch_norm",
    "write_atomically",
]
