"""Models by name, with errors that help."""

from __future__ import annotations

import dataclasses
from typing import Any

import timm

from mst.data import nearest_name

from .mst import MaskedSpikingTransformer, MSTConfig, default_cfgs

MODEL_NAMES: tuple[str, ...] = tuple(default_cfgs)
"""The registered variants of the Masked Spiking Transformer."""


def create_model(name: str, **options: Any) -> MaskedSpikingTransformer:
    """Build a registered variant.

    Args:
        name: one of `MODEL_NAMES`.
        options: fields of `MSTConfig` to override.

    Raises:
        ValueError: unknown name or option (suggests the nearest), or a value out of range.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"unknown model {name!r}{nearest_name(name, MODEL_NAMES)} Known: {', '.join(MODEL_NAMES)}")
    fields = [f.name for f in dataclasses.fields(MSTConfig)]
    for option in options:
        if option not in fields:
            raise ValueError(
                f"unknown model option {option!r}{nearest_name(option, fields)} Known: {', '.join(fields)}"
            )
    model: MaskedSpikingTransformer = timm.create_model(name, **options)
    return model
