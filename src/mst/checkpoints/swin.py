"""Weights of a Swin Transformer (from timm or the official code) as a start for an MST.

A Swin and an MST of the same sizes have the same linear maps and position tables. They differ in three ways. A Swin
normalises with LayerNorm where an MST has BatchNorm. It has GELU in the MLP where an MST has a QCFS, and nothing where
an MST has a QCFS on queries, keys, values, scores and after both output maps. And the second residual of an MST block
carries the normalised activation. So the weights are a start for training, not a working network. Linear maps and
tables are copied; LayerNorm's scale and shift become BatchNorm's; statistics and thresholds then come from data
(`calibrate`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import timm
from torch import Tensor

from mst.errors import InputError
from mst.models import RELEASED_MASK_SITES, MaskedSpikingTransformer

from .copying import copy_weights
from .reading import read_state_dict
from .released import ANCHORS, infer_config

logger = logging.getLogger(__name__)

_RECOMPUTED = re.compile(r"layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)$")
_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.(.+)$")


def is_swin(state: Mapping[str, Tensor]) -> bool:
    """True for the weights of a Swin; those of an MST have thresholds too."""
    has_blocks = "layers.0.blocks.0.attn.relative_position_bias_table" in state
    return has_blocks and not any(name.endswith((".up", ".threshold")) for name in state)


def map_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Swin's tensors under the names of an MST; nothing is computed.

    timm's Swin has the merging of a stage at the start of the next stage, and its head under head.fc. The official Swin
    has both where an MST has them. The merged tokens and the position tables are in the same order in all three.

    Raises:
        InputError: tensors that a Swin of the first version does not have; listed.
    """
    timm_layout = "layers.0.downsample.reduction.weight" not in state
    mapped: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        merging = _DOWNSAMPLE.match(name)
        if _RECOMPUTED.match(name):
            continue
        if merging and timm_layout:
            ours = f"layers.{int(merging[1]) - 1}.downsample.{merging[2]}"
        else:
            ours = name.replace("head.fc.", "head.")
        if _is_shared(ours):
            mapped[ours] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise InputError(f"not a Swin Transformer of the first version: unexpected {', '.join(unknown[:10])}")
    return mapped


_SHARED = re.compile(
    r"(patch_embed\.(proj|norm)|norm|head|layers\.\d+\.downsample\.(norm|reduction)"
    r"|layers\.\d+\.blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2))\.(weight|bias)$"
    r"|layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table$|absolute_pos_embed$"
)


def _is_shared(name: str) -> bool:
    return _SHARED.match(name) is not None


def read_swin(weights: str | Path | None, timm_name: str | None = None) -> dict[str, Tensor]:
    """A Swin's state dict, from a file or from timm's published weights.

    Args:
        weights: a file; None downloads the weights of `timm_name`.
        timm_name: a Swin of timm.

    Raises:
        MissingFileError: no such file.
        InputError: no Swin in it, an unknown name, or the download failed.
    """
    if weights is not None:
        state = read_state_dict(Path(weights), ANCHORS)
    else:
        assert timm_name is not None
        if not timm_name.startswith("swin_") or timm_name.split(".")[0] not in timm.list_models("swin_*"):
            known = ", ".join(timm.list_models("swin_*"))
            raise InputError(f"{timm_name} is not a Swin of timm", remedy=f"choose from {known}")
        try:
            state = timm.create_model(timm_name, pretrained=True).state_dict()
        except (OSError, RuntimeError, URLError, ValueError) as error:
            raise InputError(
                f"the weights of {timm_name} could not be downloaded ({type(error).__name__})",
                remedy="fetch them elsewhere and name the file with --weights",
            ) from error
    if not is_swin(state):
        raise InputError("holds no Swin Transformer", where=str(weights or timm_name))
    return state


def import_swin(
    state: Mapping[str, Tensor],
    img_size: int | tuple[int, int],
    *,
    num_classes: int | None = None,
    **options: Any,
) -> MaskedSpikingTransformer:
    """Build an MST of the sizes of a Swin and give it the Swin's weights. Calibrate it before use.

    Args:
        state: from `read_swin`.
        img_size: pixels, one number or (height, width).
        num_classes: None keeps the Swin's head; a number that differs from the Swin's gives a new head.
        options: further fields of `MSTConfig` (num_levels, masking_ratio, mask_sites, mlp_batch_norm, ...).

    Raises:
        InputError: not a Swin, or sizes that do not fit.
    """
    mapped = map_swin(state)
    config = infer_config(
        mapped,
        img_size,
        options.pop("num_levels", 16),
        options.pop("masking_ratio", 0.0),
        options.pop("mask_sites", RELEASED_MASK_SITES),
    )
    classes = config.num_classes if num_classes is None else num_classes
    model = MaskedSpikingTransformer(type(config)(**{**config.__dict__, "num_classes": classes, **options}))
    model.to(mapped["patch_embed.proj.weight"].dtype)
    load_swin(model, state)
    return model.eval()


def load_swin(model: MaskedSpikingTransformer, state: Mapping[str, Tensor]) -> bool:
    """Copy a Swin's weights into an MST of the same sizes.

    Returns:
        True if the head was copied too; it is not where the numbers of classes differ.

    Raises:
        InputError: not a Swin.
        WeightsDoNotFitError: missing, unexpected or misshapen tensors; all listed.
    """
    mapped = map_swin(state)
    ours = model.state_dict(keep_vars=True)
    own = {name for name in ours if not _is_shared(name)}  # statistics, thresholds, BatchNorms of the MLP
    return copy_weights(ours, mapped, may_lack=own, what=f"an MST with img_size {model.config.img_size}")
