"""Networks of timm and torchvision by name, with stems for small images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import nn

from mst.errors import InputError
from mst.text import suggestion

from .layers import ChannelAlignment, set_submodule


@dataclass(frozen=True)
class Architecture:
    """Recipe to build a network again: by name, from a library, with plain options."""

    library: str
    """ "timm" or "torchvision"."""

    name: str
    """Name of the network in its library."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of its builder, plain values."""

    small_stem: bool = False
    """True if `use_small_stem` changed it."""

    align_chans: int = 0
    """Channels that a `ChannelAlignment` in front of it returns; 0: there is none."""


TORCHVISION = "torchvision:"
"""Prefix of a name of torchvision; names without it are timm's."""

_RESERVED = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "scriptable",
    "exportable", "weights", "weights_backbone", "progress", "features_only",
)  # fmt: skip
"""Options that download, read files or reshape; a checkpoint must not contain them."""


def architecture(name: str, options: Mapping[str, Any], small_stem: bool = False, align_chans: int = 0) -> Architecture:
    """The architecture of this name, checked without building it.

    Args:
        name: of timm (a tag after a dot names published weights and is allowed), or torchvision:NAME.
        options: keyword arguments of its builder, plain values.
        small_stem: see `use_small_stem`.
        align_chans: channels that a `ChannelAlignment` in front makes of in_chans; 0: none.

    Raises:
        InputError: an unknown name (suggests the nearest), a reserved option, or one that is not a plain value.
    """
    library, bare = ("torchvision", name[len(TORCHVISION) :]) if name.startswith(TORCHVISION) else ("timm", name)
    if library == "timm":
        known = timm.list_models()
        is_known = bool(re.fullmatch(r"[\w.\-]+", bare)) and timm.is_model(bare.partition(".")[0])
    else:
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        is_known = bare in known
    if not is_known:
        names = "names are timm's, or torchvision:NAME for torchvision's"
        raise InputError(f"unknown model {name!r}", remedy=suggestion(bare.partition(".")[0], known, names))
    reserved = sorted(set(options) & set(_RESERVED))
    if reserved:
        raise InputError(f"{', '.join(reserved)} cannot be among the options of {name}")
    try:
        plain = json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError) as error:
        raise InputError(f"the options of {name} must be plain values: {error}") from error
    if not isinstance(align_chans, int) or align_chans < 0:
        raise InputError(f"align_chans must be a whole number, at least 0, got {align_chans!r}")
    return Architecture(library, bare, plain, small_stem, align_chans)


LARGEST_SIZE = 2**24
"""Largest number among the options of a network. A damaged or hostile checkpoint could ask for more memory than any
machine has, and some versions of PyTorch then end the process."""


def build(architecture: Architecture, pretrained: bool = False) -> nn.Module:
    """The plain network, before quantisation.

    Args:
        architecture: the network.
        pretrained: fetch the published weights of that name; a head for other classes gets fresh weights.

    Raises:
        InputError: options that the library does not take, no published weights, or they cannot be fetched.
    """
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in architecture.options.items()}
    huge = {key: value for key, value in options.items() if isinstance(value, int) and abs(value) > LARGEST_SIZE}
    if huge:
        raise InputError(
            f"{architecture.name} of {architecture.library} cannot be built with {huge}: at most {LARGEST_SIZE}"
        )
    in_chans = architecture.options.get("in_chans", 3)
    if architecture.align_chans:
        options["in_chans"] = architecture.align_chans
    try:
        network = _BUILDERS[architecture.library](architecture.name, options, pretrained)
    except Exception as error:  # foreign code, which may fail in any way
        what = "with its published weights" if pretrained else f"with the options {options}"
        raise InputError(f"{architecture.name} of {architecture.library} cannot be built {what}: {error}") from error
    if architecture.small_stem:
        use_small_stem(network)
    if architecture.align_chans:
        num_classes = getattr(network, "num_classes", None)
        network = ChannelAlignment(network, in_chans, architecture.align_chans)
        network.num_classes = num_classes  # type: ignore[assignment]
    return network


def _build_timm(name: str, options: dict[str, Any], pretrained: bool) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    return network


def _build_torchvision(name: str, options: dict[str, Any], pretrained: bool) -> nn.Module:
    import torchvision

    in_chans = options.pop("in_chans", 3)
    num_classes = options.pop("num_classes", 1000)
    if not pretrained:
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    else:
        network = torchvision.models.get_model(name, weights="DEFAULT", **options)
        path, last = [(p, m) for p, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
        if last.out_features != num_classes:
            set_submodule(network, path, nn.Linear(last.in_features, num_classes))
    path, first = _first_convolution(network)
    if in_chans != first.in_channels:
        _replace_convolution(network, path, first, in_channels=in_chans)
    network.num_classes = num_classes  # as timm's networks have it
    return network


_BUILDERS: dict[str, Callable[[str, dict[str, Any], bool], nn.Module]] = {
    "timm": _build_timm,
    "torchvision": _build_torchvision,
}


def use_small_stem(network: nn.Module) -> None:
    """Let a network made for 224 px keep the resolution of small images.

    Its first convolution becomes 3x3 with stride 1, and a max-pool before the second convolution is removed.

    Raises:
        InputError: the network has such a stem already, or does not begin with a convolution.
    """
    path, first = _first_convolution(network)
    changed = False
    if first.stride != (1, 1) or max(first.kernel_size) > 3:
        _replace_convolution(network, path, first, kernel_size=3, stride=1, padding=1)
        changed = True
    convolutions = 0
    for name, module in list(network.named_modules()):
        convolutions += isinstance(module, nn.Conv2d)
        if convolutions == 1 and isinstance(module, nn.MaxPool2d):
            set_submodule(network, name, nn.Identity())
            changed = True
    if not changed:
        raise InputError(f"small_stem has no effect: {type(network).__name__} keeps the resolution already")


def _first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module
    raise InputError(f"{type(network).__name__} has no convolution")


def _replace_convolution(network: nn.Module, path: str, was: nn.Conv2d, **changes: Any) -> None:
    settings: dict[str, Any] = {
        "in_channels": was.in_channels, "out_channels": was.out_channels, "kernel_size": was.kernel_size,
        "stride": was.stride, "padding": was.padding, "dilation": was.dilation, "bias": was.bias is not None,
    }  # fmt: skip
    new = nn.Conv2d(**{**settings, **changes})
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    set_submodule(network, path, new)
