"""Sites at products in stock networks with random weights, in float64: does the settled SNN equal its quantised ANN?

python benchmarks/placement.py [--names NAME ...] [--levels N] [--schedule plain|staggered|weighted] [--burst N]
                               [--output FILE.json]

A table with one row for each network: sites, error of quantisation, largest difference between the settled SNN and the
quantised ANN, steps, and the products in which weights still meet analog values; then how many of how many networks,
and of how many families, settle. With a burst of all levels and the schedule "plain", the default, every neuron sends
its activation at once, which asks least of the machine. Many networks are cut in depth, for the same reason.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import mst
from mst.dataflow import ConversionError
from mst.errors import InputError
from mst.neurons import find_sites

ONE_EACH = (1, 1, 1, 1)
SMALL = {"img_size": 64}
NARROW = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}

FAMILIES: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {
    "ViT": {
        "vit_tiny_patch16_224": (64, SMALL),
        "vit_small_patch14_dinov2": (56, {"img_size": 56, "depth": 2}),
        "vit_base_patch16_rope_224": (64, NARROW),
        "vit_relpos_small_patch16_224": (64, {**SMALL, "depth": 2}),
    },
    "SAM": {"samvit_base_patch16": (64, NARROW)},
    "DeiT": {"deit_tiny_patch16_224": (64, SMALL), "deit3_small_patch16_224": (64, {**SMALL, "depth": 2})},
    "Swin": {
        "swin_tiny_patch4_window7_224": (56, {"img_size": 56, "depths": (1, 1, 2, 1)}),
        "swinv2_tiny_window8_256": (64, {**SMALL, "depths": ONE_EACH}),
        "swinv2_cr_tiny_224": (64, {**SMALL, "depths": ONE_EACH}),
    },
    "ConvNeXt": {
        "convnext_atto": (64, {"depths": ONE_EACH}),
        "convnextv2_atto": (64, {"depths": ONE_EACH}),
        "convnext_zepto_rms": (64, {"depths": ONE_EACH}),
    },
    "Mixer": {"mixer_s32_224": (64, SMALL), "resmlp_12_224": (64, SMALL), "gmlp_s16_224": (64, SMALL)},
    "MetaFormer": {"poolformer_s12": (64, {}), "poolformerv2_s12": (64, {}), "caformer_s18": (64, {})},
    "PVT": {"pvt_v2_b0": (64, {"depths": ONE_EACH}), "pvt_v2_b2_li": (64, {"depths": ONE_EACH})},
    "Twins": {
        "twins_svt_small": (64, {"depths": (1, 1, 2, 1)}),
        "twins_pcpvt_small": (64, {"depths": ONE_EACH}),
    },
    "CaiT": {"cait_xxs24_224": (64, {**SMALL, "depth": 2})},
    "XCiT": {"xcit_nano_12_p16_224": (64, {**SMALL, "depth": 2})},
    "EVA": {"eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 2})},
    "BEiT": {"beit_base_patch16_224": (32, {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 3})},
    "CoaT": {"coat_lite_tiny": (64, SMALL)},
    "MaxViT": {
        "maxvit_rmlp_pico_rw_256": (64, {**SMALL, "depths": ONE_EACH}),
        "coatnet_pico_rw_224": (64, {**SMALL, "depths": ONE_EACH}),
    },
    "Hiera": {"hiera_tiny_224": (224, {"stages": ONE_EACH})},
    "MViT": {"mvitv2_tiny": (64, SMALL)},
    "CrossViT": {"crossvit_tiny_240": (240, {"depth": ((1, 1, 0), (1, 1, 0), (1, 1, 0))})},
    "TNT": {"tnt_s_legacy_patch16_224": (64, {**SMALL, "depth": 2})},
    "Visformer": {"visformer_tiny": (64, {**SMALL, "depth": (1, 1, 1)})},
    "VOLO": {"volo_d1_224": (64, SMALL)},
    "PiT": {"pit_ti_224": (64, SMALL)},
    "ConViT": {"convit_tiny": (64, {**SMALL, "depth": 3})},
    "NesT": {"nest_tiny": (64, SMALL)},
    "DaViT": {"davit_tiny": (64, {"depths": ONE_EACH})},
    "FocalNet": {"focalnet_tiny_srf": (64, {})},
    "TinyViT": {"tiny_vit_5m_224": (64, {"depths": ONE_EACH})},
    "LeViT": {"levit_128s": (224, {"depth": (1, 1, 1)})},
    "EfficientFormer": {
        "efficientformer_l1": (224, {"depths": (1, 1, 1, 2)}),
        "efficientformerv2_s0": (224, {"depths": (1, 1, 1, 2)}),
    },
    "EfficientViT": {
        "efficientvit_b0": (64, {"depths": ONE_EACH}),
        "efficientvit_m0": (64, {**SMALL, "depth": (1, 1, 1)}),
        "shvit_s1": (64, {}),
    },
    "MobileViT": {"mobilevit_xxs": (64, {}), "mobilevitv2_050": (64, {})},
    "EdgeNeXt": {"edgenext_xx_small": (64, {"depths": (1, 1, 1, 2)}), "swiftformer_xs": (64, {"layers": ONE_EACH})},
    "FastViT": {"fastvit_t8": (64, {"layers": ONE_EACH})},
    "RepViT": {"repvit_m0_9": (64, {})},
    "MobileNet": {
        "mobilenetv2_035": (64, {}),
        "mobilenetv3_small_050": (64, {}),
        "mobilenetv4_conv_small_035": (64, {}),
        "mobilenetv4_hybrid_medium": (64, {}),
        "lcnet_035": (64, {}),
    },
    "EfficientNet": {
        "efficientnet_lite0": (64, {}),
        "efficientnet_b0": (64, {}),
        "tf_efficientnetv2_b0": (64, {}),
        "tf_mixnet_s": (64, {}),
        "tinynet_e": (64, {}),
    },
    "searched": {"mnasnet_small": (64, {}), "hardcorenas_a": (64, {}), "rexnet_100": (64, {})},
    "RegNet": {"regnetx_002": (64, {}), "regnety_002": (64, {})},
    "ResNet": {
        "resnet18": (64, {}),
        "seresnet18": (64, {}),
        "resnetv2_18": (64, {}),
        "eca_resnext26ts": (64, {}),
        "gcresnext26ts": (64, {}),
    },
    "Res2Net": {"res2net50_14w_8s": (64, {"layers": ONE_EACH})},
    "ResNeSt": {"resnest14d": (64, {})},
    "SKNet": {"skresnet18": (64, {})},
    "NFNet": {"nfnet_l0": (64, {}), "nf_regnet_b0": (64, {})},
    "LambdaNet": {"lambda_resnet26t": (64, {})},
    "BotNet": {"botnet26t_256": (256, {}), "halonet26t": (256, {})},
    "DenseNet": {"densenet121": (64, {"block_config": (2, 2, 2, 2)})},
    "DLA": {"dla46_c": (64, {})},
    "DPN": {"dpn48b": (64, {})},
    "CSPNet": {"cs3darknet_s": (64, {})},
    "HRNet": {"hrnet_w18_small": (64, {})},
    "VGG": {"vgg16_small": (32, {"img_size": 32, "width": 8}), "repvgg_a0": (64, {}), "mobileone_s0": (64, {})},
    "VoVNet": {"ese_vovnet19b_slim_dw": (64, {}), "hgnetv2_b0": (64, {})},
    "GhostNet": {"ghostnet_050": (64, {}), "repghostnet_050": (64, {})},
    "StarNet": {"starnet_s1": (64, {"depths": ONE_EACH})},
    "FasterNet": {"fasternet_t0": (64, {"depths": ONE_EACH})},
    "InceptionNeXt": {"inception_next_atto": (64, {"depths": ONE_EACH})},
    "MambaOut": {"mambaout_femto": (64, {"depths": ONE_EACH})},
    "ConvMixer": {"convmixer_768_32": (32, {})},
    "Sequencer": {"sequencer2d_s": (64, SMALL)},
    "torchvision": {f"torchvision:{name}": (64, {}) for name in (
        "vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "maxvit_t", "mobilenet_v3_small", "shufflenet_v2_x0_5"
    )},
    "embeddings": {"nn.TransformerEncoder": (0, {}), "one layer for each depth": (0, {})},
}  # fmt: skip
"""Family -> name -> size of the images in pixels, options of the network."""


class Shared(nn.Module):
    """A Transformer of embeddings [B, N, C] that calls one layer three times, with torch.einsum for its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.norm, self.mlp = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 4)

    def layer(self, x: Tensor) -> Tensor:
        """[B, N, 16] -> [B, N, 16]."""
        y = F.layer_norm(x, (16,))
        scores = torch.einsum("bqhc,bkhc->bhqk", *(each(y).unflatten(-1, (4, 4)) for each in (self.query, self.key)))
        mixed = torch.einsum("bhqk,bkhc->bqhc", (scores / 2).softmax(-1), self.value(y).unflatten(-1, (4, 4)))
        x = x + self.out(mixed.flatten(2))
        return x + self.mlp(self.norm(x))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layer(x)
        return self.head(x.mean(1))


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True)
    return nn.Sequential(
        nn.TransformerEncoder(layer, 2), nn.AdaptiveAvgPool2d((1, None)), nn.Flatten(), nn.Linear(16, 4)
    )


def _torchvision(name: str) -> nn.Module:
    """A network of torchvision with 4 classes; the large ones narrow and shallow."""
    models, swin, convnext = torchvision.models, torchvision.models.swin_transformer, torchvision.models.convnext
    small: dict[str, Callable[[], nn.Module]] = {
        "vit_b_16": lambda: models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=4),
        "swin_t": lambda: models.SwinTransformer([4, 4], 24, [1, 2, 1], [1, 2, 4], [7, 7], num_classes=4),
        "swin_v2_t": lambda: models.SwinTransformer(
            [4, 4], 24, [1, 2, 1], [1, 2, 4], [8, 8], num_classes=4,
            block=swin.SwinTransformerBlockV2, downsample_layer=swin.PatchMergingV2,
        ),
        "convnext_tiny": lambda: models.ConvNeXt(
            [convnext.CNBlockConfig(*sizes) for sizes in ((24, 48, 1), (48, 96, 2), (96, None, 1))], num_classes=4
        ),
        "maxvit_t": lambda: models.MaxVit((64, 64), 16, 4, [16, 32], [1, 2], 8, 0.0, num_classes=4),
    }  # fmt: skip
    return small[name]() if name in small else models.get_model(name, num_classes=4)


def build(name: str, size: int, options: dict[str, Any]) -> tuple[nn.Module, Tensor]:
    """The network with random weights, away from the zeros and ones of an initialisation, and two images."""
    torch.manual_seed(0)
    if not size:
        model, shape = (_encoder() if name.startswith("nn.") else Shared()), (2, 6, 16)
    elif name.startswith("torchvision:"):
        model, shape = _torchvision(name.partition(":")[2]), (2, 3, size, size)
    else:
        model, shape = timm.create_model(name, num_classes=4, **options), (2, 3, size, size)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
            elif parameter.numel() > 1 and float(parameter.std()) < 0.01:  # a head near 0 hides everything before it
                parameter.normal_(std=0.05)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model, torch.randn(shape, dtype=torch.float64)


def examine(model: nn.Module, images: Tensor, levels: int, schedule: Any, burst: int) -> dict[str, Any]:
    """One row of the table."""
    quantized = mst.quantize(model, levels, images, placement="products").eval()
    with torch.no_grad():
        plain, expected = model(images), quantized(images)
    snn = mst.convert(quantized, "lossless", images, burst=burst, schedule=schedule)
    assert snn.longest_settling is not None
    result = mst.simulate(snn, images, snn.longest_settling)
    analog = [
        count.operation.name
        for count in result.operations
        if count.operation.kind in ("linear", "convolution", "product") and int(count.macs_per_step.sum())  # type: ignore[union-attr]
    ]
    return {
        "sites": len(find_sites(quantized)),
        "quantisation_error": float((expected - plain).norm() / plain.norm()),
        "settled": result.num_settled,
        "largest_difference": float((result.logits - expected).abs().max()),
        "mean_steps": result.mean_steps,
        "analog_products": analog,
        "unpriced": list(result.uncounted),
    }


def row_of(name: str, levels: int, schedule: Any, burst: int) -> dict[str, Any]:
    """The row of a network, or the reasons why it is refused."""
    family = next((family for family, names in FAMILIES.items() if name in names), "")
    size, network_options = FAMILIES[family][name] if family else (64, {})
    row = {"name": name, "family": family}
    try:
        return row | examine(*build(name, size, network_options), levels, schedule, burst)
    except ConversionError as error:
        return row | {"refused": [str(each) for each in error.obstacles]}
    except InputError as error:
        return row | {"refused": [error.problem]}


def settles(row: dict[str, Any]) -> bool:
    """True if both images have settled at the logits of the quantised ANN."""
    return row.get("settled") == 2 and row["largest_difference"] <= 1e-9


def in_words(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "refused" in row:
        return f"refused: {'; '.join(row['refused'])}"
    return (
        f"{'equal' if settles(row) else 'DIFFERENT'}, {row['sites']} sites, quantisation error "
        f"{row['quantisation_error']:.3f}, largest difference {row['largest_difference']:.0e}, {row['mean_steps']:.1f} "
        f"steps, analog: {', '.join(row['analog_products']) or 'none'}; {len(row['unpriced'])} unpriced"
    )


def summary(rows: list[dict[str, Any]]) -> str:
    """Numbers of networks that settle, and of their families."""
    settled, refused = [row for row in rows if settles(row)], [row for row in rows if "refused" in row]
    families = {row["family"] for row in settled}
    largest = max((row["largest_difference"] for row in settled), default=0.0)
    return (
        f"{len(settled)} of {len(rows)} networks settle at their quantised ANN, of {len(families)} of "
        f"{len({row['family'] for row in rows})} families, largest difference {largest:.0e}; {len(refused)} refused; "
        f"every operation has a price in {sum(not row['unpriced'] for row in settled)}"
    )


def main() -> None:
    """Examine each network and print its row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for family in FAMILIES.values() for name in family]
    parser.add_argument("--names", nargs="+", default=names, help="networks of the table, or others of timm")
    parser.add_argument("--levels", type=int, default=31, help="levels above the lowest")
    parser.add_argument("--schedule", default="plain", choices=["plain", "staggered", "weighted"])
    parser.add_argument("--burst", type=int, help="spikes per neuron per step; by default the number of levels")
    parser.add_argument("--output", type=Path, help="write the rows here as json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for name in options.names:
        began = time.perf_counter()
        rows.append(row_of(name, options.levels, options.schedule, options.burst or options.levels))
        print(f"{name:30} {in_words(rows[-1])} ({time.perf_counter() - began:.0f} s)", flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(rows, indent=1))
    print(summary(rows))


if __name__ == "__main__":
    main()
