"""Weights of the released MST code: its state dicts and .pth files read into our model.

Released names are ours, except that a threshold is called `<site>.up`. Sizes are inferred from names and shapes.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mst.errors import InputError
from mst.models import RELEASED_MASK_SITES, MaskedSpikingTransformer, MSTConfig

from .copying import copy_weights, misfit
from .reading import read_state_dict, state_dict_in

logger = logging.getLogger(__name__)

ANCHORS = ("patch_embed.proj.weight",)
"""Names that every MST and every Swin has; what stands before them in a file is a prefix."""

_RECOMPUTED = ("attn_mask", "attn.relative_position_index")


def import_released(
    source: str | Path | Mapping[str, Tensor],
    img_size: int | tuple[int, int] | None = None,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] = RELEASED_MASK_SITES,
) -> MaskedSpikingTransformer:
    """Build an MST from released weights; everything but the arguments is inferred from names and shapes.

    Args:
        source: a released state dict, or a file that holds one; see `state_dict_in` for the forms it may have.
        img_size: pixels. None infers it from the tensors that depend on it (shift masks, shrunk windows, an absolute
            position table). Weights without any of these get the smallest size that their windows allow, and a warning.
        num_levels: L that the weights were trained with; the released files do not store it.
        masking_ratio: p that the weights were trained with; the released files do not store it.
        mask_sites: sites that are masked with p.

    Returns:
        The model in evaluation mode, in the dtype of the weights.

    Raises:
        MissingFileError: no such file.
        InputError: the file is damaged, holds more than tensors and plain values, or holds no MST.
        WeightsDoNotFitError: tensors are missing, unexpected or of the wrong shape (all listed), or img_size
            contradicts them.
    """
    if isinstance(source, str | Path):
        state = read_state_dict(Path(source), ANCHORS)
    else:
        state = state_dict_in(source, "the source", ANCHORS)
    try:
        config = infer_config(state, img_size, num_levels, masking_ratio, mask_sites)
    except (IndexError, ZeroDivisionError, TypeError, OverflowError) as error:
        raise InputError(f"not a state dict of an MST: its tensors have impossible shapes ({error})") from error
    model = MaskedSpikingTransformer(config).eval()
    model.to(state["patch_embed.proj.weight"].dtype)
    load_released(model, state)
    return model


def infer_config(
    state: Mapping[str, Tensor],
    img_size: int | tuple[int, int] | None = None,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] = RELEASED_MASK_SITES,
) -> MSTConfig:
    """The configuration of the network that a released state dict belongs to.

    Raises:
        InputError: tensors that every MST has are missing.
    """
    blocks = sorted(
        {(int(m[1]), int(m[2])) for name in state if (m := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))}
    )
    num_stages = len({stage for stage, _ in blocks})
    if blocks and blocks[-1][0] != num_stages - 1:
        raise InputError(f"not a state dict of an MST: its stages are {sorted({stage for stage, _ in blocks})[:9]}")
    depths = tuple(sum(1 for stage, _ in blocks if stage == i) for i in range(num_stages))
    first_blocks = [f"layers.{i}.blocks.0." for i in range(num_stages)]
    needed = ["patch_embed.proj.weight", "norm.weight"]
    needed += [b + leaf for b in first_blocks for leaf in ("attn.relative_position_bias_table", "mlp.fc1.weight")]
    missing = [name for name in needed if name not in state]
    if missing or not blocks:
        shown = ", ".join(missing) or "layers.0.blocks.0.*"
        raise InputError(f"not a state dict of an MST: missing {shown}; it holds {_some(state)}")
    embed_dim, in_chans, patch_size, _ = state["patch_embed.proj.weight"].shape
    tables = [state[b + "attn.relative_position_bias_table"] for b in first_blocks]
    windows = [(math.isqrt(table.shape[0]) + 1) // 2 for table in tables]
    head = state.get("head.weight")
    if img_size is None:
        img_size = _infer_img_size(state, patch_size, windows)
    return MSTConfig(
        img_size=img_size,
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=0 if head is None else head.shape[0],
        embed_dim=embed_dim,
        depths=depths,
        num_heads=tuple(table.shape[1] for table in tables),
        window_size=max(windows),
        mlp_ratio=_infer_mlp_ratio([tuple(state[b + "mlp.fc1.weight"].shape) for b in first_blocks]),
        qkv_bias=first_blocks[0] + "attn.qkv.bias" in state,
        mlp_batch_norm=first_blocks[0] + "mlp.norm1.weight" in state,
        absolute_position_embedding="absolute_pos_embed" in state,
        num_levels=num_levels,
        masking_ratio=masking_ratio,
        mask_sites=mask_sites,
    )


def _infer_mlp_ratio(shapes: list[tuple[int, ...]]) -> float:
    """A ratio r with int(channels · r) = hidden in every stage; `shapes` are those of fc1, (hidden, channels)."""
    lowest = max(hidden / channels for hidden, channels in shapes)
    if all(int(channels * lowest) == hidden for hidden, channels in shapes):
        return lowest
    highest = min((hidden + 1) / channels for hidden, channels in shapes)
    return (lowest + highest) / 2


def _infer_img_size(state: Mapping[str, Tensor], patch_size: int, windows: list[int]) -> int:
    """The side of a square image in pixels, from the tables whose length depends on it, or the smallest that fits."""
    embedding = state.get("absolute_pos_embed")
    if embedding is not None:
        return math.isqrt(embedding.shape[1]) * patch_size
    for stage, window in enumerate(windows):
        mask = state.get(f"layers.{stage}.blocks.1.attn_mask")
        if mask is not None:
            return (math.isqrt(mask.shape[0]) * window << stage) * patch_size
        if window < max(windows):  # it has shrunk to the stage's resolution
            return (window << stage) * patch_size
    smallest = (windows[-1] << (len(windows) - 1)) * patch_size
    logger.warning(
        "nothing in these weights determines the image size; %d px is assumed, the smallest that their windows allow. "
        "Give img_size if it is another",
        smallest,
    )
    return smallest


def load_released(model: MaskedSpikingTransformer, state: Mapping[str, Tensor], new_head: bool = False) -> bool:
    """Copy released weights into `model`; every name must be consumed and none may be missing.

    Args:
        model: an MST with the sizes of the weights.
        state: tensors under their released names; a threshold is `<site>.up`.
        new_head: leave the model's head as it is where the numbers of classes differ.

    Returns:
        True if the head was copied too.

    Raises:
        WeightsDoNotFitError: missing, unexpected or misshapen tensors; all listed.
    """
    ours = {name.replace(".threshold", ".up"): tensor for name, tensor in model.state_dict(keep_vars=True).items()}
    recomputed = {name: buffer for name, buffer in model.named_buffers() if name.endswith(_RECOMPUTED)}
    problems = [
        misfit(name, state[name], buffer) for name, buffer in recomputed.items()
        if name in state and state[name].shape != buffer.shape
    ]  # fmt: skip
    weights = {name: tensor for name, tensor in state.items() if name not in recomputed}
    what = f"an MST with img_size {model.config.img_size}"
    head = copy_weights(ours, weights, what=what, new_head=new_head, problems=problems)
    for name, buffer in recomputed.items():
        if name in state and not torch.equal(state[name].to(buffer.dtype), buffer):
            logger.warning("%s in the file differs from the one that follows from the sizes, which is used", name)
    for name in ours:
        if name.endswith(".up") and not bool((state[name] > 0).all()):
            logger.warning("threshold %s is %s; the smallest allowed is used", name, state[name].tolist())
    return head


def _some(state: Mapping[str, Tensor]) -> str:
    names = list(state)[:4]
    return (", ".join(names) + ", ...") if names else "nothing"
