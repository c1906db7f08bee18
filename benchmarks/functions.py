"""Count how often the functions between the sites are computed, schedule by schedule, and price it.

A ViT of timm (GELU, LayerNorm, softmax) is trained in float on the digits of scikit-learn, one or two minutes on one
CPU core, unless FOLDER has it. Then sites stand at its products, and test images run until they have settled.

python benchmarks/functions.py FOLDER [--bits 6] [--images 32] [--epochs 20]

Energies are relative to the maps and products of the ANN in fp32 (45 nm). "Computed" is the energy of the functions as
a multiple of computing each once: at every step; where an input has changed; and not before a site that reads it may
fire.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from unittest import mock

import torch

import mst
from mst.experiments import run_training
from mst.experiments.options import NetworkOptions, QuantizeOptions, TrainingOptions
from mst.operations import function_counter
from mst.training import LAST_CHECKPOINT
from product_rows import num_levels, schedules

VIT = {"img_size": 8, "patch_size": 2, "embed_dim": 48, "depth": 6, "num_heads": 3}


def trained(folder: Path, epochs: int) -> Path:
    """The checkpoint of the float network."""
    if not (folder / "run_record.json").exists():
        network = NetworkOptions("vit_tiny_patch16_224", VIT, quantize=QuantizeOptions(placement="none"))
        config = mst.TrainConfig(epochs=epochs, learning_rate=2e-3, trackers=())
        run_training(TrainingOptions(network, mst.DataOptions("digits"), config), folder)
    return folder / LAST_CHECKPOINT


def main() -> None:
    """Train if need be, and print a row for each schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the trained network, kept for the next call")
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--images", type=int, default=32, help="first test images shown to the SNN")
    parser.add_argument("--epochs", type=int, default=20, help="of the training in float")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    model = mst.load_checkpoint(trained(options.folder, options.epochs))
    data = mst.load_dataset("digits")
    calibration = torch.stack([data.train[i][0] for i in range(256)])
    images = torch.stack([data.test[i][0] for i in range(options.images)])
    quantized = mst.quantize(
        model, num_levels(options.bits), calibration, placement="products", per_channel=True
    ).eval()
    print(f"accuracy: {mst.evaluate(model, data.test).accuracy:.4f} in float, "
          f"{mst.evaluate(quantized, data.test).accuracy:.4f} with sites\n")  # fmt: skip
    print(
        "| schedule | settled | steps | maps and products | computed: at every step | where changed | and awaited "
        "| functions, SNN | ANN | all | functions from tables, SNN | ANN | all |\n" + "|---" * 13 + "|"
    )
    for label, schedule in schedules(options.bits):
        snn = mst.convert(quantized, "lossless", images[:1], schedule=schedule)
        assert snn.longest_settling is not None
        result = mst.simulate(snn, images, snn.longest_settling, drop_settled=True)
        with mock.patch.object(function_counter, "_first_step", return_value=0):
            hasty = mst.estimate_energy(mst.simulate(snn, images, snn.longest_settling, drop_settled=True))
        exact, tables = (mst.estimate_energy(result, name) for name in ("45nm-fp32", "45nm-fp32-tables"))
        whole, cells = exact.maps_and_products.ann.energy_pj, []
        for each in (exact, tables):
            part = each.all_functions
            cells += [
                f"{part.snn.energy_pj / whole:.2f}x",
                f"{part.ann.energy_pj / whole:.2f}x",
                f"{each.whole.ratio:.2f}x",
            ]
        print(
            f"| {label} | {result.num_settled} of {len(images)} | {result.mean_steps:.1f} "
            f"| {exact.maps_and_products.ratio:.2f}x | {result.mean_steps:.1f} | {hasty.all_functions.ratio:.1f} "
            f"| {exact.all_functions.ratio:.1f} | {' | '.join(cells)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
