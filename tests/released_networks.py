"""Random networks of the released form, as models and as arguments of the plain implementation in `reference.py`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import mst
from conftest import randomise
from mst.models import MaskedSpikingTransformer, MSTConfig
from mst.models.geometry import stage_geometries

OTHERS: dict[str, dict[str, Any]] = {
    "mlp_batch_norm": {"mlp_batch_norm": True},
    "no_mlp_batch_norm": {"mlp_batch_norm": False},
    "one_stage": {"depths": (3,), "num_heads": (4,), "embed_dim": 12},
    "three_stages": {"img_size": 32, "depths": (1, 2, 1), "num_heads": (1, 2, 4)},
    "window_3_patch_3": {"img_size": 36, "patch_size": 3, "window_size": 3},
    "window_shrinks_everywhere": {"window_size": 9},
    "one_channel_odd_classes": {"in_chans": 1, "num_classes": 7},
    "patch_1": {"img_size": 8, "patch_size": 1, "window_size": 4},
    "no_qkv_bias_wide_mlp": {"qkv_bias": False, "mlp_ratio": 3.0},
    "odd_mlp_ratio": {"embed_dim": 12, "mlp_ratio": 2.3},
    "position_embedding": {"absolute_position_embedding": True},
    "four_levels": {"num_levels": 4},
}


def released_state(model: MaskedSpikingTransformer) -> dict[str, Tensor]:
    """Our weights under the released names, buffers included."""
    state = {n.replace(".threshold", ".up"): t for n, t in model.state_dict().items()}
    buffers = {n: b for n, b in model.named_buffers() if n.endswith(("attn_mask", "relative_position_index"))}
    return {**state, **buffers}


def released_network(name: str) -> tuple[MaskedSpikingTransformer, Tensor, dict[str, Any]]:
    """A network of OTHERS in float64, two images, and the arguments of `Reference` except `spiking`."""
    sizes: dict[str, Any] = {
        "img_size": 16, "patch_size": 2, "in_chans": 3, "num_classes": 5, "embed_dim": 8, "depths": (2, 2),
        "num_heads": (2, 4), "window_size": 4, "mlp_ratio": 2.0, "num_levels": 16,
    }  # fmt: skip
    config = MSTConfig(**{**sizes, **OTHERS[name]})
    source = MaskedSpikingTransformer(config).eval().double()
    randomise(source, seed=len(name))
    state = released_state(source)
    model = mst.import_released(state, img_size=config.img_size, num_levels=config.num_levels)
    images = torch.rand(2, config.in_chans, *config.image_shape, dtype=torch.float64) * 2 - 0.5
    stages = stage_geometries(config.image_shape, config.patch_size, config.window_size, len(config.depths))
    return model, images, {
        "state": state, "patch": config.patch_size, "windows": [s.window for s in stages],
        "shifts": [s.shift for s in stages], "resolutions": [s.resolution[0] for s in stages],
        "depths": list(config.depths), "heads": list(config.num_heads), "levels": config.num_levels,
    }  # fmt: skip
