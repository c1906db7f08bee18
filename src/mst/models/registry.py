"""The registered variants of the Masked Spiking Transformer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from mst.errors import InputError

from . import small_cnn  # noqa: F401 (registers its models)
from .foreign import Architecture, architecture
from .mst import MaskedSpikingTransformer
from .mst_config import MSTConfig

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
        raise InputError(
            f"no weights are published for {variant}", remedy="use mst.import_released or mst.load_checkpoint"
        )

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


MODEL_NAMES: tuple[str, ...] = tuple(default_cfgs)
"""The registered variants of the Masked Spiking Transformer."""


def architecture_of(config: MSTConfig) -> Architecture:
    """The network of this configuration by the name of a registered variant, every option given."""
    sizes = f"patch{config.patch_size}_window{config.window_size}_{config.image_shape[0]}"
    name = next((name for name in MODEL_NAMES if name.endswith(sizes)), MODEL_NAMES[0])
    return architecture(name, asdict(config))
