"""Levels shared out among the sites of a network: more where an error reaches the output, fewer where it does not."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from functools import partial
from math import log2

from torch import Tensor, nn

from mst.data import ImageData
from mst.errors import InputError
from mst.models import ann_of
from mst.neurons import QCFS, set_levels
from mst.numbers import whole_number

from .calibration import in_evaluation
from .post_training import beside_float
from .site_errors import Diagnoser

MOST_IMAGES = 16
"""Images at which the effect of each site is measured at most; the network runs on them once for each site."""


def allocate_levels(model: nn.Module, images: ImageData, *, min_bits: int = 3, max_bits: int = 9) -> dict[str, int]:
    """Share levels out among the sites, without training: the mean of the bits over all neurons does not rise.

        b = arg min  Σ e²·4^(b₀ - b)    with    Σ N·b <= Σ N·b₀

    for the sites of a network, of N neurons and b bits (2^b - 1 levels above the lowest). e is the error of the output,
    relative for each image, if this site alone quantises with the b₀ bits that it has now: a bit halves it. Bits are
    given one by one where they remove most for each neuron. A site keeps its range, as with `mst.set_levels`;
    `mst.set_thresholds` then fits the thresholds to the new levels.

    Args:
        model: a network whose thresholds were set from images (`mst.quantize` with calibration, `mst.set_thresholds`)
            and that has not been trained since; its levels change in place.
        images: calibration images in any form of `mst.data.ImageData`; of more than 16 evenly spaced ones are taken.
        min_bits: fewest bits of a site.
        max_bits: most bits of a site.

    Returns:
        Site -> its bits, for the sites that take part in the forward pass.

    Raises:
        InputError: no QCFS site, no images, min_bits below 1, above max_bits or above the mean of the bits; a network
            that was trained with quantisation; NaN or infinity in weights or images; images that the network does not
            take.
    """
    low, high = whole_number("min_bits", min_bits, 1), whole_number("max_bits", max_bits, 1)
    if low > high:
        raise InputError(f"min_bits must not exceed max_bits, got {min_bits} and {max_bits}")
    model = ann_of(model, "mst.allocate_levels", "allocate the levels of the ANN, then convert it")
    with in_evaluation(model):
        diagnoser, batch = beside_float(model, images, MOST_IMAGES, "allocate levels")
        sizes = _neurons(diagnoser, batch)
        effects = {name: _effect(diagnoser, batch, name) for name in sizes}
    bits = {name: log2(diagnoser.sites[name].num_levels - diagnoser.sites[name].min_level + 1) for name in sizes}
    shared = share_bits(effects, sizes, bits, low, high)
    set_levels(model, {glob.escape(name): 2**number - 1 for name, number in shared.items()})
    return shared


def share_bits(
    effects: Mapping[str, float], sizes: Mapping[str, int], bits: Mapping[str, float], min_bits: int, max_bits: int
) -> dict[str, int]:
    """Whole numbers of bits, see `allocate_levels`.

    Args:
        effects: site -> e.
        sizes: site -> N.
        bits: site -> b₀.
        min_bits, max_bits: smallest and largest b.

    Raises:
        InputError: fewer bits in all than the smallest of every site together.
    """
    shared = dict.fromkeys(sizes, min_bits)
    left = sum(sizes[name] * (bits[name] - min_bits) for name in sizes)
    if left < 0:
        mean = sum(sizes[name] * bits[name] for name in sizes) / sum(sizes.values())
        raise InputError(f"min_bits {min_bits} is more than the mean of the bits, {mean:.2f}")
    while True:
        gains = {
            name: effects[name] ** 2 * 4.0 ** (bits[name] - shared[name]) / sizes[name]
            for name in sizes
            if shared[name] < max_bits and sizes[name] <= left
        }
        if not gains:
            return shared
        best = max(gains, key=gains.__getitem__)
        shared[best] += 1
        left -= sizes[best]


def _neurons(diagnoser: Diagnoser, batch: Tensor) -> dict[str, int]:
    """Neurons of one image at each site that takes part in the forward pass."""
    sizes: dict[str, int] = {}

    def note(name: str, site: QCFS, inputs: tuple[Tensor, ...]) -> None:
        sizes[name] = inputs[0].numel() // len(batch)

    hooks = [site.register_forward_pre_hook(partial(note, name)) for name, site in diagnoser.sites.items()]
    diagnoser.run(batch, 0, ())
    for hook in hooks:
        hook.remove()
    return sizes


def _effect(diagnoser: Diagnoser, batch: Tensor, site: str) -> float:
    """Root mean square, over images, of the relative error of the output if this site alone quantises."""
    expected = diagnoser.batches[0].output.double().flatten(1)
    error = diagnoser.run(batch, 0, (site,)).double().flatten(1) - expected
    shares = error.square().sum(dim=1) / expected.square().sum(dim=1).clamp_min(1e-30)
    return float(shares.mean().sqrt())
