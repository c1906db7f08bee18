"""Files come in and networks go out; networks come in and files go out."""

from .copying import WeightsDoNotFitError
from .format import (
    CheckpointInfo,
    NoDescriptionError,
    describe_model,
    load,
    load_checkpoint,
    read_checkpoint_info,
    save_checkpoint,
)
from .hub import CARD_NAME, HUB, publish
from .initial import InitialWeights, load_initial_weights
from .pickles import read_pickle
from .reading import bare_names, read_state_dict, state_dict_in
from .references import checkpoint_file, pinned_reference
from .released import ANCHORS, import_released
from .swin import import_swin, is_swin, load_swin, map_swin, read_swin

__all__ = [
    "ANCHORS",
    "CARD_NAME",
    "HUB",
    "CheckpointInfo",
    "InitialWeights",
    "NoDescriptionError",
    "WeightsDoNotFitError",
    "bare_names",
    "checkpoint_file",
    "describe_model",
    "import_released",
    "import_swin",
    "is_swin",
    "load",
    "load_checkpoint",
    "load_initial_weights",
    "load_swin",
    "map_swin",
    "pinned_reference",
    "publish",
    "read_checkpoint_info",
    "read_pickle",
    "read_state_dict",
    "read_swin",
    "save_checkpoint",
    "state_dict_in",
]
