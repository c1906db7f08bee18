"""Weights to start a training from: a checkpoint, released weights, a Swin's, or those of the same network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import ChannelAlignment, MaskedSpikingTransformer
from mst.neurons import find_sites
from mst.quantization import shape_thresholds

from .copying import copy_weights
from .format import set_levels, stored_levels
from .reading import read_state_dict, without_wrappers
from .released import ANCHORS, load_released
from .swin import is_swin, load_swin, read_swin

TIMM = "timm:"
"""Prefix of a model whose published weights timm downloads."""

_ALIGNED = "network."
"""Prefix of the names of the network in a `ChannelAlignment`."""


@dataclass(frozen=True)
class InitialWeights:
    """Report of `load_initial_weights`."""

    kind: Literal["mst", "released", "swin", "plain", "quantised"]
    """Origin of the weights. For networks other than an MST it is "quantised" if they hold thresholds, else "plain"."""

    head_kept: bool
    """True if the weights of the head were copied too."""

    @property
    def needs_calibration(self) -> bool:
        """True if the weights came without thresholds."""
        return self.kind in ("swin", "plain")


def load_initial_weights(model: nn.Module, source: str) -> InitialWeights:
    """Fill `model` with the weights of `source`; a head for other classes is left as it is.

    Args:
        model: a network of the same sizes except the head. It keeps its levels and masks.
        source: a checkpoint; a file of torch or .safetensors with released weights, a Swin's or the model's own (see
            `state_dict_in` for the forms it may have); or timm:NAME, a Swin for an MST and the same network for others.

    Raises:
        MissingFileError: no such file.
        InputError: a damaged file, or weights that cannot be fetched.
        WeightsDoNotFitError: weights of another architecture or other sizes.
    """
    if not isinstance(model, MaskedSpikingTransformer):
        return _load_same(model, source)
    operands = {name: site for name, site in find_sites(model).items() if site.is_operand}
    if operands or model.config.activation == "clip":
        return _load_clipped(model, source, {f"{name}.threshold" for name in operands})
    if source.startswith(TIMM):
        return InitialWeights("swin", load_swin(model, read_swin(None, source[len(TIMM) :])))
    state = read_state_dict(Path(source), ANCHORS)
    if is_swin(state):
        return InitialWeights("swin", load_swin(model, state))
    if any(name.endswith(".up") for name in state):
        return InitialWeights("released", load_released(model, state, new_head=True))
    what = f"this MST with img_size {model.config.img_size}"
    return InitialWeights("mst", copy_weights(model.state_dict(keep_vars=True), state, what=what))


def _load_clipped(model: MaskedSpikingTransformer, source: str, of_sites: set[str]) -> InitialWeights:
    """Copy weights of an MST whose activations are clipped ReLUs: those of one with sites at its activations, whose
    thresholds these take, or of one like it. Thresholds of sites at products may be missing, and are then to be set.

    Raises:
        InputError: a Swin's or released weights, whose thresholds have to be set first.
    """
    state = {} if source.startswith(TIMM) else read_state_dict(Path(source), ANCHORS)
    if not any(name.endswith(".threshold") for name in state):
        raise InputError(
            "weights of a Swin or of the released code start an MST with sites at its activations",
            where=source,
            remedy="import them with mst import, then start from that checkpoint",
        )
    if of_sites & state.keys():
        return _load_same(model, source)
    what = f"this MST with img_size {model.config.img_size}"
    head = copy_weights(model.state_dict(keep_vars=True), state, what=what, may_lack=of_sites)
    return InitialWeights("plain", head)


def _load_same(model: nn.Module, source: str) -> InitialWeights:
    """Copy weights of the same network, with thresholds or without."""
    if source.startswith(TIMM):
        try:
            published = timm.create_model(source[len(TIMM) :], pretrained=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"the weights of {source} cannot be fetched: {error}") from error
        state: dict[str, Tensor] = published.state_dict()
    else:
        names = model.state_dict().keys()
        inner = {name.removeprefix(_ALIGNED) for name in names} if isinstance(model, ChannelAlignment) else set()
        state = read_state_dict(Path(source), names | inner)
    if isinstance(model, ChannelAlignment) and not any(name.startswith(_ALIGNED) for name in state):
        # They belong to the network behind the alignment.
        state = {f"{_ALIGNED}{name}": tensor for name, tensor in state.items()}
    shape_thresholds(model, state)
    ours = model.state_dict(keep_vars=True)
    thresholds = [f"{name}.threshold" for name in find_sites(model)]
    has_thresholds = any(name in state for name in thresholds)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    head = [f"{linear[-1]}.weight", f"{linear[-1]}.bias"] if linear else []
    head_kept = copy_weights(
        ours, state, what=type(model).__name__, may_lack=() if has_thresholds else thresholds, head=head
    )
    if has_thresholds and any(site.is_operand for site in find_sites(model).values()):
        levels = stored_levels(Path(source))
        if levels is None:
            raise InputError(
                "it holds thresholds, but not the levels that they belong to",
                where=source,
                remedy="save the network with mst.save_checkpoint",
            )
        set_levels(find_sites(model), without_wrappers(levels, find_sites(model), source))
    return InitialWeights("quantised" if has_thresholds else "plain", head_kept)
