"""Names and sizes come in; networks in ANN form go out."""

from .foreign import Architecture, build
from .layers import (
    ActivationProduct,
    AddConstant,
    ChannelAlignment,
    TokenBatchNorm,
    set_submodule,
    synchronise_batch_norm,
)
from .mst import MaskedSpikingTransformer, MSTConfig
from .registry import MODEL_NAMES

__all__ = [
    "MODEL_NAMES",
    "ActivationProduct",
    "AddConstant",
    "Architecture",
    "ChannelAlignment",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "TokenBatchNorm",
    "build",
    "set_submodule",
    "synchronise_batch_norm",
]
