"""Weights to start a training from: a checkpoint of ours, released weights, or a Swin's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .mst import MaskedSpikingTransformer
from .released import copy_weights, load_released, read_state_dict, strip_prefixes
from .swin import is_swin, load_swin, read_swin

TIMM = "timm:"
"""Prefix of a model whose published weights timm downloads."""


@dataclass(frozen=True)
class InitialWeights:
    """kind: whose weights they were.  head_kept: whether the head came with them.

    A Swin's weights need calibration before use (`calibrate`).
    """

    kind: Literal["mst", "released", "swin"]
    head_kept: bool


def load_initial_weights(model: MaskedSpikingTransformer, source: str) -> InitialWeights:
    """Fill `model` with the weights of `source`; a head for other classes is left as it is.

    Args:
        model: of the same sizes, but for the head. Its levels and masking stay its own.
        source: a checkpoint of ours, a released .pth, a Swin's .pth or .safetensors, or timm:NAME.

    Raises:
        FileNotFoundError, ValueError: no such file; a damaged one; weights of another architecture or other sizes.
    """
    if source.startswith(TIMM):
        return InitialWeights("swin", load_swin(model, read_swin(None, source[len(TIMM) :])))
    state = strip_prefixes(read_state_dict(Path(source)))
    if is_swin(state):
        return InitialWeights("swin", load_swin(model, state))
    if any(name.endswith(".up") for name in state):
        return InitialWeights("released", load_released(model, state, new_head=True))
    what = f"this MST with img_size {model.config.img_size}"
    return InitialWeights("mst", copy_weights(model.state_dict(keep_vars=True), state, what=what))
