"""Count steps, spikes and energy of lossless coding against the number of sites in a chain, schedule by schedule.

The network is a Transformer of timm that was trained in float (`mst train --quantize.placement none`). Of its blocks
the first ones are kept, or all are passed several times over (copies), so that chains of different lengths see the
activations of a trained network. Sites stand at its products; 63 levels above the lowest are 6 bits.

python benchmarks/depth.py runs/vit/last.safetensors --data-path DATA [--blocks 1 2 4 8] [--max-images 16]
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import mst
from mst.experiments.opening import training_images
from mst.neurons import FiringSchedule, named_schedule

PRODUCTS = ("linear", "convolution", "product")


def schedules(num_levels: int) -> Iterator[tuple[str, FiringSchedule]]:
    """Label and schedule of each run."""
    for burst in (1, 4):
        yield f"weighted, burst {burst}", named_schedule("weighted", num_levels, burst)
    for burst in (1, 2, 3, 4):
        for stagger in (0.0, 0.25, 0.5, 1.0):
            if stagger * burst <= 1:
                yield f"free, burst {burst}, stagger {stagger:g}", FiringSchedule(burst, (), stagger, is_free=True)


def with_blocks(model: nn.Module, number: int) -> nn.Module:
    """A copy with the first blocks, or with copies of all of them behind each other."""
    changed = copy.deepcopy(model)
    blocks = list(changed.blocks)  # type: ignore[arg-type]
    chosen = [copy.deepcopy(blocks[i % len(blocks)]) for i in range(number)]
    changed.blocks = nn.Sequential(*chosen)
    return changed


def main() -> None:
    """Print a row for each number of blocks and schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="float network with a sequence of blocks")
    parser.add_argument("--data-path", type=Path, help="folder with the data set's files")
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of blocks")
    parser.add_argument("--levels", type=int, default=63, help="levels above the lowest")
    parser.add_argument("--max-images", type=int, default=16, help="test images to simulate")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    opened = mst.open_checkpoint(
        mst.CheckpointOptions(
            options.checkpoint, data_path=options.data_path, max_images=options.max_images, device="cpu"
        )
    )
    images = torch.stack([opened.images[i][0] for i in range(opened.num_images)])
    calibration = training_images(opened.data, 256)
    print(
        "| blocks | sites | schedule | steps | spikes per neuron | energy, times the fp32 ANN's |\n" + "|---" * 6 + "|"
    )
    for number in options.blocks:
        network = with_blocks(opened.model, number)
        quantized = mst.quantize(network, options.levels, calibration, placement="products").eval()
        for label, schedule in schedules(options.levels):
            snn = mst.convert(quantized, "lossless", images[:1], schedule=schedule)
            assert snn.longest_settling is not None
            result = mst.simulate(snn, images, snn.longest_settling)
            neurons = sum(site.num_neurons for site in result.sites.values())
            rows = [row for row in mst.estimate_energy(result).operations if row.kind in PRODUCTS]
            ratio = sum(row.snn.energy_pj for row in rows) / sum(row.ann.energy_pj for row in rows)
            print(
                f"| {number} | {snn.depth} | {label} | {result.mean_steps:.1f} "
                f"| {result.spikes_per_image / neurons:.2f} | {ratio:.2f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
