"""Names and sizes come in; networks in ANN form go out."""

from .admission import (
    about_chance,
    check_one_tensor_in,
    draws_random_numbers,
    function_name,
    one_tensor_out,
    refuse_chance,
)
from .foreign import Architecture, build
from .intake import NetworkInput, ann_of, check_answers, check_network, check_weights, logits_of, rows_of
from .layers import (
    ActivationProduct,
    AddConstant,
    ChannelAlignment,
    ClippedReLU,
    ConvolutionFunction,
    LinearFunction,
    TokenBatchNorm,
    TransposedConvolutionFunction,
    set_submodule,
    synchronise_batch_norm,
)
from .mst import MaskedSpikingTransformer
from .mst_config import RELEASED_MASK_SITES, MSTConfig
from .registry import MODEL_NAMES, architecture_of
from .spec import (
    ARCHITECTURES,
    CannotBuildError,
    NetworkSpec,
    class_names_of,
    image_shape_of,
    note_classes,
    num_classes_of,
    register_architecture,
    spec_of,
)
from .wrapping import copy_network, unwrapped

__all__ = [
    "ARCHITECTURES",
    "MODEL_NAMES",
    "RELEASED_MASK_SITES",
    "ActivationProduct",
    "AddConstant",
    "Architecture",
    "CannotBuildError",
    "ChannelAlignment",
    "ClippedReLU",
    "ConvolutionFunction",
    "LinearFunction",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "NetworkInput",
    "NetworkSpec",
    "TokenBatchNorm",
    "TransposedConvolutionFunction",
    "about_chance",
    "ann_of",
    "architecture_of",
    "build",
    "check_answers",
    "check_network",
    "check_one_tensor_in",
    "check_weights",
    "class_names_of",
    "copy_network",
    "draws_random_numbers",
    "function_name",
    "image_shape_of",
    "logits_of",
    "note_classes",
    "num_classes_of",
    "one_tensor_out",
    "refuse_chance",
    "register_architecture",
    "rows_of",
    "set_submodule",
    "spec_of",
    "synchronise_batch_norm",
    "unwrapped",
]
