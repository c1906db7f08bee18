"""The registered variants of the Masked Spiking Transformer, and networks of any library by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from mst.data import nearest_name

from . import small_cnn  # noqa: F401 (registers its models)
from .foreign import architecture, build
from .masking import ALL_SITES, mask_spikes
from .mst import MaskedSpikingTransformer, MSTConfig
from .quantization import Architecture, MaxPool, quantize, shape_thresholds

# --------------------------------------------------------------------------------------------- variants


def _cfg(size: int) -> dict[str, Any]:
    return {
        "input_size": (3, size, size),
        "fixed_input_size": True,
        "num_classes": 1000,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bicubic",
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "mit",
    }


default_cfgs = generate_default_cfgs(
    {
        "mst_tiny_patch4_window7_224": _cfg(224),
        "mst_mini_patch2_window7_28": _cfg(28),
        "mst_mini_patch2_window8_32": _cfg(32),
        "mst_nano_patch2_window2_8": _cfg(8),
    }
)


def _create(variant: str, pretrained: bool, sizes: dict[str, Any], options: dict[str, Any]) -> MaskedSpikingTransformer:
    if pretrained:
        raise ValueError(f"no weights are published for {variant}; use mst.import_released or mst.load_checkpoint")

    def build(**kwargs: Any) -> MaskedSpikingTransformer:
        return MaskedSpikingTransformer(MSTConfig(**kwargs))

    model: MaskedSpikingTransformer = build_model_with_cfg(build, variant, pretrained, **{**sizes, **options})
    return model


@register_model
def mst_tiny_patch4_window7_224(pretrained: bool = False, **kwargs: Any) -> MaskedSpikingTransformer:
    """The paper's network at 224 px: 28.3 M parameters with 1000 classes."""
    sizes = {
        "patch_size": 4,
        "window_size": 7,
        "embed_dim": 96,
        "depths": (2, 2, 6, 2),
        "num_heads": (3, 6, 12, 24),
    }
    return _create("mst_tiny_patch4_window7_224", pretrained, {**sizes, "drop_path_rate": 0.2}, kwargs)


_MINI: dict[str, Any] = {
    "patch_size": 2,
    "embed_dim": 48,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "mlp_ratio": 2.0,
}


@register_model
def mst_mini_patch2_window7_28(pretrained: bool = False, **kwargs: Any) -> MaskedSpikingTransformer:
    """For 28 px images (Fashion-MNIST): two stages of 14x14 and 7x7 tokens."""
    return _create("mst_mini_patch2_window7_28", pretrained, {**_MINI, "window_size": 7}, kwargs)


@register_model
def mst_mini_patch2_window8_32(pretrained: bool = False, **kwargs: Any) -> MaskedSpikingTransformer:
    """For 32 px images (CIFAR): two stages of 16x16 and 8x8 tokens."""
    return _create("mst_mini_patch2_window8_32", pretrained, {**_MINI, "window_size": 8}, kwargs)


@register_model
def mst_nano_patch2_window2_8(pretrained: bool = False, **kwargs: Any) -> MaskedSpikingTransformer:
    """For 8 px images (digits): two stages of 4x4 and 2x2 tokens, one block each."""
    sizes = {"patch_size": 2, "window_size": 2, "embed_dim": 48, "depths": (1, 1), "num_heads": (3, 6)}
    return _create("mst_nano_patch2_window2_8", pretrained, sizes, kwargs)


# ---------------------------------------------------------------------------------------------- by name

MODEL_NAMES: tuple[str, ...] = tuple(default_cfgs)
"""The registered variants of the Masked Spiking Transformer."""


def create_model(
    name: str,
    *,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: str | tuple[str, ...] | None = None,
    max_pool: MaxPool = "keep",
    also: tuple[str, ...] = (),
    small_stem: bool = False,
    pretrained: bool = False,
    align_chans: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a network with QCFS activations by name: an MST, or any network of timm or torchvision, quantised.

    Args:
        name: one of `MODEL_NAMES`, any name of timm, or torchvision:NAME.
        num_levels: L of every site.
        masking_ratio, mask_sites: see `mask_spikes`; by default "attention" for an MST and "all" for others.
        max_pool, also: see `quantize`; `also` by the names of torch's classes ("GELU"). Not for an MST.
        small_stem: see `use_small_stem`. Not for an MST.
        pretrained: fetch the published weights of that name. Thresholds still have to be set (`set_thresholds`).
        align_chans: channels to which a 1x1 convolution in front brings those of the images (in_chans); 0: none.
        options: fields of `MSTConfig`, or keyword arguments of the library's builder (num_classes, in_chans, ...).

    Raises:
        ValueError: unknown name or option (suggests the nearest), a value out of range, a network without a ReLU, or
            weights that cannot be fetched.
    """
    if name not in MODEL_NAMES:
        network = quantize_named(
            architecture(name, options, small_stem, align_chans), num_levels, max_pool, also, pretrained
        )
        return mask_spikes(network, masking_ratio, mask_sites or ALL_SITES)
    taken = {"max_pool": max_pool != "keep", "also": bool(also), "small_stem": small_stem}
    for option, is_set in taken.items():
        if is_set:
            raise ValueError(
                f"{option} has no effect on {name}, which has QCFS sites, no max-pool and a stem of its own"
            )
    if pretrained:
        raise ValueError(f"no weights are published for {name}; use mst.import_released or mst.load_checkpoint")
    options |= {"num_levels": num_levels, "masking_ratio": masking_ratio, "align_chans": align_chans}
    if mask_sites is not None:
        options["mask_sites"] = (mask_sites,) if isinstance(mask_sites, str) else tuple(mask_sites)
    fields = [f.name for f in dataclasses.fields(MSTConfig)]
    for option in options:
        if option not in fields:
            raise ValueError(
                f"unknown model option {option!r}{nearest_name(option, fields)} Known: {', '.join(fields)}"
            )
    model: MaskedSpikingTransformer = timm.create_model(name, **options)
    return model


def quantize_named(
    of: Architecture,
    num_levels: int,
    max_pool: MaxPool,
    also: tuple[str, ...],
    pretrained: bool = False,
    state: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Build and quantise a network of a library.

    Args:
        of: which.
        num_levels, max_pool: see `quantize`.
        also: names of torch's activation classes.
        pretrained: fetch its published weights.
        state: tensors whose thresholds the sites are to hold, if they differ from one for each site.

    Raises:
        ValueError: as `build` and `quantize`; a name in `also` that is no activation of torch.
    """
    activations = {name: getattr(torch.nn.modules.activation, name, None) for name in also}
    for name, kind in activations.items():
        known = torch.nn.modules.activation.__all__
        if name not in known or not isinstance(kind, type):
            raise ValueError(f"{name!r} is no activation of torch.nn{nearest_name(name, known)}")
    classes = tuple(kind for kind in activations.values() if isinstance(kind, type))
    network = build(of, pretrained)
    quantized = quantize(network, num_levels, max_pool=max_pool, also=classes, architecture=of)
    if state is not None:
        shape_thresholds(quantized, state)
    return quantized
