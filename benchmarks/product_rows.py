"""Shared by benchmarks of sites at products: levels, schedules, and a row of a table for each run of an SNN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import mst
from mst.neurons import FiringSchedule, named_schedule

BITS = (8, 6, 5, 4)


def num_levels(bits: int) -> int:
    """Levels above the lowest: 255, 63, 31, 15 for 8, 6, 5, 4 bits."""
    return 2**bits - 1


def schedules(bits: int) -> Iterator[tuple[str, FiringSchedule]]:
    """Label and schedule of every run. In the last, a site sends all its spikes in one step, when all sites before it
    have sent theirs: no schedule sends fewer spikes, and each function is computed once."""
    levels = num_levels(bits)
    for name in ("plain", "staggered", "weighted"):
        yield name, named_schedule(name, levels)  # type: ignore[arg-type]
    for stagger in (0.0, 0.25, 0.5, 1.0):
        yield f"free, {stagger:g} steps per site", FiringSchedule(1, stagger=stagger, is_free=True)
    for burst in (2, 4):  # with the delays that `named_schedule` gives such bursts
        yield f"free, burst {burst}", named_schedule("free", levels, burst)
    yield "free, burst 8, site after site", FiringSchedule(8, stagger=1.0, is_free=True)


HEADER = (
    "| schedule | images | answers of the ANN | settled | steps, mean | most | spikes per neuron | maps and products | "
    "functions, SNN | functions, ANN |\n|---|---|---|---|---|---|---|---|---|---|"
)


def snn_row(label: str, quantized: nn.Module, images: Tensor, schedule: FiringSchedule, **options: Any) -> str:
    """One row of the table under `HEADER`: the SNN run until it has settled. Energies are relative to the maps and
    products of the ANN in fp32.

    Args:
        label: name of the row.
        quantized: the ANN with sites at its products.
        images: [N, ...].
        schedule: of the spikes.
        options: of `mst.simulate`.
    """
    snn = mst.convert(quantized, "lossless", images[:1], schedule=schedule)
    assert snn.longest_settling is not None
    result = mst.simulate(snn, images, snn.longest_settling, **options)
    with torch.no_grad():
        expected = torch.cat([quantized(part) for part in images.split(256)])
    equal = int((result.logits.argmax(1) == expected.argmax(1)).sum())
    estimate = mst.estimate_energy(result)
    maps, functions = estimate.maps_and_products, estimate.all_functions
    spikes = result.spikes_per_image / sum(site.num_neurons for site in result.sites.values())
    whole = maps.ann.energy_pj
    return (
        f"| {label} | {len(images):,} | {equal:,} | {result.num_settled:,} | {result.mean_steps:.1f} | "
        f"{int(result.steps_taken.max())} | {spikes:.2f} | {maps.snn.energy_pj / whole:.2f}x | "
        f"{functions.snn.energy_pj / whole:.2f}x | {functions.ann.energy_pj / whole:.2f}x |"
    )
