"""Stock networks of timm, narrow, trained in float on Fashion-MNIST: accuracy with sites at products, steps, energy.

python benchmarks/stock_transformers.py FOLDER [--data-path DIR] [--networks vit convnext swin] [--bits 8 6 5 4]
        [--snn-bits 6] [--snn-scales tensor channel] [--snn-images 500] [--schedules LABEL ...]
        [--fine-tune 4] [--distillation 0 0.9]

Trains each network in float (10 to 40 minutes on one CPU core) unless FOLDER has it, and keeps it there. The ViT's
float weights are in the zoo; --from-zoo takes them from there. Then prints the accuracy on the test images without
further training; of the SNN, the steps until all answers are the quantised ANN's, spikes and energy; and, with
--fine-tune, the accuracy after one epoch of training with sites.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

import mst
from mst.data import DataSplits
from mst.experiments import run_training
from mst.experiments.networks import build_network
from mst.experiments.opening import training_images
from mst.experiments.options import NetworkOptions, QuantizeOptions, TrainingOptions
from mst.training import LAST_CHECKPOINT, has_training_state
from product_rows import BITS, HEADER, num_levels, schedules, snn_row

NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": 28, "patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 3},
        5,
    ),
    "convnext": (
        "convnext_tiny",
        {"patch_size": 2, "output_stride": 8, "depths": [2, 2, 1, 1], "dims": [48, 96, 96, 96], "ls_init_value": 0.1},
        2,
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 28, "patch_size": 2, "window_size": 7, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]},
        2,
    ),
}
"""Label -> network of timm, its options, epochs of training in float."""

IN_ZOO = {"vit": "zoo:fashion-mnist-vit-6-bits"}
"""Networks of the zoo that were quantised without training: they hold the float network's weights and thresholds."""


def options_of(name: str, data: mst.DataOptions) -> TrainingOptions:
    """The float training of a network."""
    model, kwargs, epochs = NETWORKS[name]
    network = NetworkOptions(model, kwargs, quantize=QuantizeOptions(placement="none"))
    return TrainingOptions(network, data, mst.TrainConfig(epochs=epochs, learning_rate=2e-3, trackers=()))


def trained(options: TrainingOptions, folder: Path) -> Path:
    """The checkpoint of a training; it is trained, or continued, unless `folder` has it."""
    checkpoint = folder / LAST_CHECKPOINT
    if not (folder / "run_record.json").exists():
        run_training(options, folder, resume=has_training_state(folder), on_epoch=print)
    return checkpoint


def float_network(name: str, data: mst.DataOptions, folder: Path, from_zoo: bool) -> Path:
    """The checkpoint of a float network: as `folder` has it, with the weights of the zoo, or trained now."""
    options, checkpoint = options_of(name, data), folder / name / LAST_CHECKPOINT
    if not from_zoo or name not in IN_ZOO:
        return trained(options, checkpoint.parent)
    if not checkpoint.exists():
        network = build_network(options.network, mst.load_dataset(data))
        weights = mst.load(IN_ZOO[name]).state_dict()
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        mst.save_checkpoint(network, checkpoint, mst.read_checkpoint_info(IN_ZOO[name]))
    return checkpoint


def fine_tuned(base: TrainingOptions, start: Path, bits: int, distillation: float, per_channel: bool) -> float:
    """Accuracy after one epoch of training with sites, from the float network's weights."""
    quantize = QuantizeOptions(placement="products", per_channel=per_channel)
    options = replace(
        base,
        network=replace(base.network, init_from=str(start), num_levels=num_levels(bits), quantize=quantize),
        train=replace(
            base.train, epochs=1, warmup_epochs=0, learning_rate=3e-4, min_learning_rate=0.0, distillation=distillation
        ),
    )
    folder = start.parent / f"{bits}-bits{'-per-channel' if per_channel else ''}-distillation-{distillation:g}"
    trained(options, folder)
    return float(mst.read_checkpoint_info(folder / LAST_CHECKPOINT).provenance["accuracy"])


def test_images(splits: DataSplits, count: int) -> Tensor:
    """The first test images, [N, 1, 28, 28]."""
    return torch.stack([splits.test[index][0] for index in range(count)])


def examine(name: str, network: nn.Module, splits: DataSplits, wanted: argparse.Namespace) -> None:
    """Print the tables of a trained network."""
    test = Subset(splits.test, range(wanted.test_images))
    accuracy = mst.evaluate(network, test).accuracy
    calibration = training_images(splits, wanted.calibration_images)
    print(f"\n{name}: {100 * accuracy:.2f} % in float, {len(test):,} test images\n", flush=True)
    print("| bits | scales | accuracy | difference to float, points |\n|---|---|---|---|", flush=True)
    for bits in wanted.bits:
        for per_channel in (False, True):
            quantized = mst.quantize(
                network, num_levels(bits), calibration, placement="products", per_channel=per_channel,
                bias_correction=wanted.correct_biases,
            )  # fmt: skip
            reached = mst.evaluate(quantized, test).accuracy
            scales = "per channel" if per_channel else "per tensor"
            print(
                f"| {bits} | {scales} | {100 * reached:.2f} % | {100 * (reached - accuracy):+.2f} |",
                flush=True,
            )
    images = test_images(splits, wanted.snn_images)
    for bits, scales in product(wanted.snn_bits, wanted.snn_scales):
        quantized = mst.quantize(
            network, num_levels(bits), calibration, placement="products", per_channel=scales == "channel"
        ).eval()
        print(f"\n{name}, {bits} bits, per {scales}, as an SNN\n\n{HEADER}", flush=True)
        for label, schedule in schedules(bits):
            if not wanted.schedules or label in wanted.schedules:
                print(snn_row(label, quantized, images, schedule, batch_size=64, incremental=True), flush=True)


def main() -> None:
    """Train what is missing, then print the tables of each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the trained networks, kept for the next call")
    parser.add_argument("--data-path", type=Path, help="folder with Fashion-MNIST's files")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--from-zoo", action="store_true", help="take float weights from the zoo instead of training")
    parser.add_argument("--calibration-images", type=int, default=256, help="training images that set the levels")
    parser.add_argument("--bits", type=int, nargs="*", default=BITS, help="bits of the quantised ANNs")
    parser.add_argument("--test-images", type=int, default=10_000, help="first test images that give the accuracy")
    parser.add_argument("--correct-biases", action="store_true", help="correct the biases after setting the levels")
    parser.add_argument("--snn-bits", type=int, nargs="*", default=[6], help="bits of the networks run as SNNs")
    parser.add_argument("--snn-scales", nargs="+", default=["channel"], choices=["tensor", "channel"])
    parser.add_argument("--snn-images", type=int, default=500, help="first test images shown to the SNNs")
    parser.add_argument("--schedules", nargs="+", help="rows of the SNN's table by their labels; all by default")
    parser.add_argument("--fine-tune", type=int, nargs="*", default=[], help="bits to train one epoch with")
    parser.add_argument("--distillation", type=float, nargs="+", default=[0.0, 0.9], help="weights of the teacher")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    data = mst.DataOptions("fashion-mnist", wanted.data_path)
    splits = mst.load_dataset(data)
    for name in wanted.networks:
        checkpoint = float_network(name, data, wanted.folder, wanted.from_zoo)
        examine(name, mst.load_checkpoint(checkpoint), splits, wanted)
        for bits in wanted.fine_tune:
            for weight in wanted.distillation:
                reached = fine_tuned(options_of(name, data), checkpoint, bits, weight, per_channel=True)
                print(f"\n{name}, {bits} bits after one epoch, distillation {weight:g}: {100 * reached:.2f} %")


if __name__ == "__main__":
    main()
