"""Weights of the released MST code: its state dicts and .pth files read into our model.

A released name is ours, but for a threshold, which is `<site>.up` there. Sizes are read off names and shapes.
"""

from __future__ import annotations

import logging
import math
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mst.models import RELEASED_MASK_SITES, MaskedSpikingTransformer, MSTConfig

logger = logging.getLogger(__name__)

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
        source: a released state dict, or a `.pth` or `.safetensors` file that holds one. A dict under the key
            "model", and prefixes "module." and "model.", are looked through.
        img_size: pixels. None infers it from what depends on it (shift masks, shrunk windows, an absolute position
            table); where the weights hold nothing of the kind, it is the smallest that their windows allow, and logged.
        num_levels: L the weights were trained with; the released files do not store it.
        masking_ratio: p the weights were trained with; the released files do not store it.
        mask_sites: sites that are masked with p.

    Returns:
        The model in evaluation mode, in the dtype of the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or holds more than tensors and plain values, no MST is in it, tensors
            are missing, unexpected or of the wrong shape (all listed), or img_size contradicts them.
    """
    state = read_state_dict(Path(source)) if isinstance(source, str | Path) else _state_dict_in(source, "the source")
    state = strip_prefixes(state)
    try:
        config = infer_config(state, img_size, num_levels, masking_ratio, mask_sites)
    except (IndexError, ZeroDivisionError, TypeError, OverflowError) as error:
        raise ValueError(f"this is no state dict of an MST: its tensors have impossible shapes ({error})") from error
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
        ValueError: tensors that every MST has are missing.
    """
    blocks = sorted(
        {(int(m[1]), int(m[2])) for name in state if (m := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))}
    )
    num_stages = len({stage for stage, _ in blocks})
    if blocks and blocks[-1][0] != num_stages - 1:
        raise ValueError(
            f"this is no state dict of an MST: its stages are {sorted({stage for stage, _ in blocks})[:9]}"
        )
    depths = tuple(sum(1 for stage, _ in blocks if stage == i) for i in range(num_stages))
    first_blocks = [f"layers.{i}.blocks.0." for i in range(num_stages)]
    needed = ["patch_embed.proj.weight", "norm.weight"]
    needed += [b + leaf for b in first_blocks for leaf in ("attn.relative_position_bias_table", "mlp.fc1.weight")]
    missing = [name for name in needed if name not in state]
    if missing or not blocks:
        shown = ", ".join(missing) or "layers.0.blocks.0.*"
        raise ValueError(f"this is no state dict of an MST: missing {shown}; it holds {_some(state)}")
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
    """The side of a square image, from the tables whose length depends on it, or else the smallest that fits."""
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
        "nothing in these weights tells the image size; %d px is taken, the smallest that their windows allow. "
        "If it is another, give img_size",
        smallest,
    )
    return smallest


def load_released(model: MaskedSpikingTransformer, state: Mapping[str, Tensor], new_head: bool = False) -> bool:
    """Copy released weights into `model`; every name must be consumed and none may be missing.

    Args:
        model: of the sizes of the weights.
        state: names as released, a threshold being `<site>.up`.
        new_head: leave the model's head as it is where the numbers of classes differ.

    Returns:
        Whether the head was copied too.

    Raises:
        ValueError: missing, unexpected or misshapen tensors; all listed.
    """
    ours = {name.replace(".threshold", ".up"): tensor for name, tensor in model.state_dict(keep_vars=True).items()}
    recomputed = {name: buffer for name, buffer in model.named_buffers() if name.endswith(_RECOMPUTED)}
    problems = [
        _misfit(name, state[name], buffer) for name, buffer in recomputed.items()
        if name in state and state[name].shape != buffer.shape
    ]  # fmt: skip
    weights = {name: tensor for name, tensor in state.items() if name not in recomputed}
    what = f"an MST with img_size {model.config.img_size}"
    head = copy_weights(ours, weights, what=what, new_head=new_head, problems=problems)
    for name, buffer in recomputed.items():
        if name in state and not torch.equal(state[name].to(buffer.dtype), buffer):
            logger.warning("%s in the file differs from the one this geometry gives; ours is used", name)
    for name in ours:
        if name.endswith(".up") and not bool((state[name] > 0).all()):
            logger.warning("threshold %s is %s; it acts as the smallest allowed", name, state[name].tolist())
    return head


def copy_weights(
    ours: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    what: str,
    may_lack: Collection[str] = (),
    new_head: bool = True,
    problems: Sequence[str] = (),
    head: Collection[str] = ("head.weight", "head.bias"),
) -> bool:
    """Copy `state` into the tensors `ours` of the same names; nothing is copied unless everything fits.

    Args:
        ours: name -> tensor of the model.
        state: what to copy.
        what: the model, for the error.
        may_lack: names that `state` need not have.
        new_head: leave the head alone where the numbers of classes differ, or `state` has none.
        problems: others that were found already.
        head: names of the head's tensors.

    Returns:
        Whether the head was copied too.

    Raises:
        ValueError: missing, unexpected or misshapen tensors; all listed.
    """
    heads = {name for name in {*ours, *state} if name in head}
    keep_head = new_head and any(
        name not in state or name not in ours or state[name].shape != ours[name].shape for name in heads
    )
    skipped = heads if keep_head else set()
    found = list(problems)
    new_alignment = not any(_is_alignment(name) for name in state)  # in front of weights that know none, it starts anew
    may_lack = {*may_lack, *(name for name in ours if new_alignment and _is_alignment(name))}
    found += [f"missing {name}" for name in ours if name not in state and name not in may_lack and name not in skipped]
    found += [f"unexpected {name}" for name in state if name not in ours and name not in skipped]
    shared = [name for name in ours if name in state and name not in skipped]
    found += [_misfit(name, state[name], ours[name]) for name in shared if state[name].shape != ours[name].shape]
    if found:
        raise ValueError(
            f"the weights do not fit {what} ({len(found)} problems): "
            + "; ".join(found[:20])
            + ("; ..." if len(found) > 20 else "")
        )
    with torch.no_grad():
        for name in shared:
            ours[name].copy_(state[name])
    return not skipped


def _is_alignment(name: str) -> bool:
    """Whether the tensor belongs to a channel alignment."""
    return name.startswith(("align.", "patch_embed.align."))


def _misfit(name: str, theirs: Tensor, ours: Tensor) -> str:
    return f"{name} is {list(theirs.shape)}, the model has {list(ours.shape)}"


# ------------------------------------------------------------------------------------------- reading files


class _ConfigNode:
    """Stands in for the `yacs.config.CfgNode` inside released files: becomes a plain ordered dict."""

    def __new__(cls) -> OrderedDict[str, object]:  # type: ignore[misc]
        return OrderedDict()


def read_pickle(path: str | Path) -> object:
    """Unpickle tensors and plain values; anything else is refused and never run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no torch file, is damaged, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_ConfigNode, "yacs.config.CfgNode")]):
            warnings.simplefilter("ignore")  # remarks on old pickle protocols; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|Unsupported (?:class|global|operand)):?\s+(\S+)", str(error))
        what = f"it asks for {found[1]}" if found else "it is no plain torch file, or a damaged one"
        raise ValueError(
            f"{path} is refused: only tensors and plain values may be unpickled, and {what}. Nothing was run"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path} is no torch file, or a damaged one ({type(error).__name__})") from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, the latter itself a state dict or holding one under "model".

    Raises:
        FileNotFoundError, ValueError: as `read_pickle`; no state dict in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file, or a damaged one: {error}") from error
        return _state_dict_in(tensors, str(path))
    return _state_dict_in(read_pickle(path), str(path))


def _state_dict_in(content: object, where: str) -> dict[str, Tensor]:
    """`content` itself, or what it holds under "model"."""
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{where} holds no state dict (neither itself nor under the key 'model')")
    for name, value in content.items():
        if value.is_complex() or value.is_meta or value.layout != torch.strided:
            raise ValueError(f"{where}: {name} is no tensor of plain numbers ({value.dtype}, {value.layout})")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{where}: {name} holds values that are NaN or infinite")
    return dict(content)


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what wrappers put in front of every name; leave tensors without the prefix behind."""
    for prefix in ("module.", "model."):
        inner = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
        state = inner or state
    return state


def _some(state: Mapping[str, Tensor]) -> str:
    names = list(state)[:4]
    return (", ".join(names) + ", ...") if names else "nothing"
