"""Quantisation without training: what corrects it and what does not, on a network trained in float on Fashion-MNIST.

python benchmarks/post_training.py FOLDER [--data-path DIR] [--networks vit convnext swin] [--bits 4 5 6]
        [--ways LABEL ...] [--test-images 2000]

Trains the networks as benchmarks/stock_transformers.py does unless FOLDER has them. Prints for each number of bits,
with one threshold for each site and with one for each channel: the error of the logits against the float network, the
share of its predictions that stay, and the accuracy. The last two ways are not in the library: thresholds fitted to
what reaches a site behind quantised sites, and thresholds for the least error of the output of the next linear map.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

import mst
from mst.experiments.opening import training_images
from mst.neurons import QCFS, find_sites, qcfs
from mst.quantization.fitting import fit_levels
from mst.quantization.site_errors import quantising
from product_rows import num_levels
from stock_transformers import NETWORKS, float_network, test_images

SOFTMAX_BITS = 2
"""Bits that the sites behind a softmax get more."""


def correct_biases(model: nn.Module, images: Tensor) -> None:
    """Take the shifts of means out of the biases."""
    mst.correct_biases(model, images)


def correct_weights(model: nn.Module, images: Tensor) -> None:
    """Fit the weights to the quantised values that they multiply."""
    mst.correct_weights(model, images)


def more_behind_softmax(model: nn.Module, images: Tensor) -> None:
    """More levels at the softmax of attention, thresholds fitted to them."""
    roles = {site.role: site.num_levels - site.min_level for site in find_sites(model).values()}
    per_channel = any(site.threshold.numel() > 1 for site in find_sites(model).values())
    if "weights" in roles:
        mst.set_levels(model, {"weights": 2**SOFTMAX_BITS * (roles["weights"] + 1) - 1})
        mst.set_thresholds(model, images, per_channel=per_channel)


def behind_quantised_sites(model: nn.Module, images: Tensor) -> None:
    """Thresholds fitted to what reaches a site while all sites before it quantise, in one pass; one to a site."""

    def fit(site: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(site, QCFS)
        if site.threshold.numel() == 1:
            values = inputs[0].flatten()
            drawn = torch.randint(len(values), (2**16,), generator=torch.Generator().manual_seed(0))
            set_site(site, *fit_levels(values[drawn], site.num_levels - site.min_level))

    run_with_hooks(model, images, lambda site: site.register_forward_pre_hook(fit))


def for_the_next_map(model: nn.Module, images: Tensor) -> None:
    """Thresholds scaled to the least error of the output of the linear map behind a site, in place of its input."""
    maps = [module for module in model.modules() if isinstance(module, nn.Linear) and hasattr(module, "input_site")]
    weights = {id(module.input_site): module.weight for module in maps}

    def fit(site: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(site, QCFS)
        weight = weights.get(id(site))
        if weight is None:
            return
        x, threshold = inputs[0].flatten(0, -2)[:4096], site.threshold.detach()

        def error(factor: float) -> float:
            y = qcfs(x, factor * threshold, site.num_levels, site.min_level)
            return float(((y - x) @ weight.T).square().sum())  # type: ignore[operator]

        best = min((0.6 + 0.05 * step for step in range(17)), key=error)
        set_site(site, best * threshold, site.num_levels, site.min_level)

    with quantising(model, ()):
        run_with_hooks(model, images, lambda site: site.register_forward_hook(fit))


def set_site(site: QCFS, threshold: Tensor, highest: int, lowest: int) -> None:
    """Give a site a threshold and levels."""
    site.num_levels, site.min_level = highest, lowest
    site.threshold = nn.Parameter(threshold.to(site.threshold))


def run_with_hooks(model: nn.Module, images: Tensor, add: Callable[[QCFS], Any]) -> None:
    """One pass with a hook at each site."""
    hooks = [add(site) for site in find_sites(model).values()]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


WAYS: dict[str, tuple[Callable[[nn.Module, Tensor], None], ...]] = {
    "as quantised": (),
    "biases corrected": (correct_biases,),
    "weights corrected": (correct_weights,),
    f"softmax {SOFTMAX_BITS} bits more": (more_behind_softmax,),
    "both": (more_behind_softmax, correct_biases),
    "fitted behind quantised sites": (behind_quantised_sites,),
    "fitted for the next map": (for_the_next_map,),
}
"""Label -> what is done to the quantised network."""


def examine(name: str, network: nn.Module, splits: mst.DataSplits, wanted: argparse.Namespace) -> None:
    """Print the table of a network."""
    test, images = Subset(splits.test, range(wanted.test_images)), test_images(splits, wanted.test_images)
    calibration = training_images(splits, wanted.calibration_images)
    expected = mst.evaluate(network, test)
    print(f"\n{name}: {100 * expected.accuracy:.2f} % in float, {len(images):,} test images\n")
    print("| bits | thresholds | way | error of the logits | same prediction | accuracy |\n|---|---|---|---|---|---|")
    for bits in wanted.bits:
        for per_channel in (False, True):
            for way in wanted.ways or WAYS:
                model = mst.quantize(
                    network, num_levels(bits), calibration, placement="products", per_channel=per_channel
                ).eval()
                for change in WAYS[way]:
                    change(model, calibration)
                reached = mst.evaluate(model, test)
                error = float((reached.logits - expected.logits).norm() / expected.logits.norm())
                same = float((reached.logits.argmax(1) == expected.logits.argmax(1)).double().mean())
                print(
                    f"| {bits} | {'per channel' if per_channel else 'per site'} | {way} | {100 * error:.1f} % "
                    f"| {100 * same:.2f} % | {100 * reached.accuracy:.2f} % |",
                    flush=True,
                )


def main() -> None:
    """Train what is missing, then print the table of each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the trained networks, kept for the next call")
    parser.add_argument("--data-path", type=Path, help="folder with Fashion-MNIST's files")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--from-zoo", action="store_true", help="take float weights from the zoo instead of training")
    parser.add_argument("--calibration-images", type=int, default=256, help="training images for levels and biases")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="rows; all by default")
    parser.add_argument("--test-images", type=int, default=2000, help="first test images")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    data = mst.DataOptions("fashion-mnist", wanted.data_path)
    splits = mst.load_dataset(data)
    for name in wanted.networks:
        checkpoint = float_network(name, data, wanted.folder, wanted.from_zoo)
        examine(name, mst.load_checkpoint(checkpoint), splits, wanted)


if __name__ == "__main__":
    main()
