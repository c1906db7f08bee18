"""Sites at products in networks of timm with random weights, in float64: does the settled SNN equal its quantised ANN?

python benchmarks/placement.py [--names NAME ...] [--levels N] [--schedule plain|staggered|weighted] [--burst N]
                               [--output FILE.json]

A table with one row for each network: sites, error of quantisation, largest difference between the settled SNN and the
quantised ANN, steps, and the products in which weights still meet analog values. With a burst of all levels and the
schedule "plain", the default, every neuron sends its activation at once, which asks least of the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import mst
from mst.neurons import find_sites

NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "deit_tiny_patch16_224": (64, {"img_size": 64}),
    "deit3_small_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "swin_tiny_patch4_window7_224": (56, {"img_size": 56}),
    "swinv2_tiny_window8_256": (64, {"img_size": 64}),
    "convnext_atto": (64, {}),
    "convnextv2_atto": (64, {}),
    "mixer_s32_224": (224, {}),
    "resmlp_12_224": (224, {}),
    "poolformer_s12": (64, {}),
    "pvt_v2_b0": (64, {}),
    "twins_svt_small": (64, {}),
    "cait_xxs24_224": (64, {"img_size": 64, "depth": 2}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64, "depth": 2}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 2}),
    "beit_base_patch16_224": (32, {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 3}),
    "coat_lite_tiny": (64, {"img_size": 64}),
    "maxvit_rmlp_pico_rw_256": (64, {"img_size": 64}),
    "hiera_tiny_224": (224, {}),
    "mobilevit_xxs": (64, {}),
    "edgenext_xx_small": (64, {}),
    "fastvit_t8": (64, {}),
    "mobilenetv2_035": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "efficientnet_lite0": (64, {}),
    "efficientnet_b0": (64, {}),
    "regnety_002": (64, {}),
    "resnet18": (64, {}),
    "seresnet18": (64, {}),
    "res2net50_14w_8s": (64, {}),
    "densenet121": (64, {}),
    "nfnet_l0": (64, {}),
    "ghostnet_050": (64, {}),
    "tinynet_e": (64, {}),
    "levit_128s": (224, {}),
    "efficientformer_l1": (224, {}),
}
"""Name -> size of the images in pixels, options of the network."""


def build(name: str) -> tuple[nn.Module, Tensor]:
    """The network with random weights, away from the zeros and ones of an initialisation, and two images."""
    size, options = NETWORKS.get(name, (64, {}))
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
            elif not parameter.any():  # heads of some networks start at 0, and would hide everything before them
                parameter.normal_(std=0.05)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model, torch.randn(2, 3, size, size, dtype=torch.float64)


def examine(name: str, levels: int, schedule: Any, burst: int) -> dict[str, Any]:
    """One row of the table."""
    model, images = build(name)
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
        "name": name,
        "sites": len(find_sites(quantized)),
        "quantisation_error": float((expected - plain).norm() / plain.norm()),
        "settled": result.num_settled,
        "largest_difference": float((result.logits - expected).abs().max()),
        "mean_steps": result.mean_steps,
        "analog_products": analog,
        "unpriced": list(result.uncounted),
    }


def main() -> None:
    """Examine each network and print its row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=list(NETWORKS), help="networks of timm")
    parser.add_argument("--levels", type=int, default=31, help="levels above the lowest")
    parser.add_argument("--schedule", default="plain", choices=["plain", "staggered", "weighted"])
    parser.add_argument("--burst", type=int, help="spikes per neuron per step; by default the number of levels")
    parser.add_argument("--output", type=Path, help="write the rows here as json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for name in options.names:
        began = time.perf_counter()
        try:
            row = examine(name, options.levels, options.schedule, options.burst or options.levels)
            equal = "equal" if row["settled"] == 2 and row["largest_difference"] <= 1e-9 else "DIFFERENT"
            text = (
                f"{equal:9} {row['sites']:4} sites, quantisation error {row['quantisation_error']:.3f}, largest "
                f"difference {row['largest_difference']:.0e}, {row['mean_steps']:.1f} steps, analog: "
                f"{', '.join(row['analog_products']) or 'none'}; {len(row['unpriced'])} unpriced"
            )
        except (ValueError, RuntimeError) as error:
            row, text = {"name": name, "refused": str(error)}, f"refused   {' '.join(str(error).split())[:200]}"
        rows.append(row)
        print(f"{name:30} {text} ({time.perf_counter() - began:.0f} s)", flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
