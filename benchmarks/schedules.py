"""Count steps and spikes of a lossless network under many firing schedules, and under rules that hold spikes back.

python benchmarks/schedules.py runs/fashion/last.safetensors [--max-images 180]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import mst
from mst.data import first_readable
from mst.experiments import steps_to_within
from mst.experiments.opening import training_images
from mst.models import set_submodule
from mst.neurons import SCHEDULES, FiringSchedule, SignedIFNeuron, named_schedule
from mst.training import evaluate

Least = Callable[[int], int]
"""Step of the site's own clock -> minimum number of quanta, missing or in excess, for a neuron to fire."""


class HoldingNeuron(SignedIFNeuron):
    """Fires +1 only if at least `least_up` quanta are missing, -1 only if at least `least_down` are in excess."""

    least_up: Least
    least_down: Least

    def _fire(self, x: Tensor, count: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        spikes, after, target = super()._fire(x, count, step)
        own, missing = step - self.schedule.start(self.depth), target - count
        held = (missing < self.least_up(own)) & (missing > -self.least_down(own))
        return spikes.masked_fill(held, 0), torch.where(held, count, after), target


def holding(snn: mst.SpikingNetwork, up: Least, down: Least) -> mst.SpikingNetwork:
    """The same network with neurons that hold spikes back."""
    for name, neuron in list(snn.network.named_modules()):
        if isinstance(neuron, SignedIFNeuron):
            other = HoldingNeuron(
                neuron.threshold, neuron.num_levels, neuron.site, neuron.role,
                mask=neuron.mask, layout=neuron.layout, schedule=neuron.schedule,
            )  # fmt: skip
            other.depth, other.least_up, other.least_down = neuron.depth, up, down
            set_submodule(snn.network, name, other)
    return snn


def schedules(num_levels: int) -> Iterator[tuple[str, FiringSchedule]]:
    """Label and schedule of every run without holding."""
    for burst in (1, 2, 4):
        for stagger in (0.0, 0.25, 0.5, 1.0):
            yield f"burst {burst}, stagger {stagger / burst:g}", FiringSchedule(burst, stagger=stagger / burst)
    for weights in ((8, 4, 2, 1, 1), (8, 4, 2, 1), (8, 4, 2, 1, 1, 1), (4, 2, 1), (4, 4, 2, 1, 1), (8, 2, 1), (2, 1)):
        yield f"weights {weights}, stagger 0.5", FiringSchedule(1, weights, 0.5)
    for stagger in (0.0, 0.25, 1.0):
        yield f"weights (8, 4, 2, 1, 1), stagger {stagger:g}", FiringSchedule(1, (8, 4, 2, 1, 1), stagger)
    for burst in (2, 4):
        yield f"weighted, burst {burst}", named_schedule("weighted", num_levels, burst)


HOLDS: dict[str, tuple[Least, Least]] = {
    "cancels only 2 or more, for 16 steps": (lambda t: 1, lambda t: 2 if t < 16 else 1),
    "cancels nothing for 16 steps": (lambda t: 1, lambda t: 99 if t < 16 else 1),
    "cancels only 2 or more, every other step": (lambda t: 1, lambda t: 1 + t % 2),
    "fires only for 2 or more, either way, for 8 steps": (lambda t: 2 if t < 8 else 1, lambda t: 2 if t < 8 else 1),
    "fires only for 2 or more, either way, every other step": (lambda t: 1 + t % 2, lambda t: 1 + t % 2),
    "fires only for 4, 4, 2, 1 in turn": (lambda t: (4, 4, 2, 1)[t % 4], lambda t: (4, 4, 2, 1)[t % 4]),
}


def main() -> None:
    """Print one line per schedule, per rule that holds spikes back, and per schedule with initial levels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="trained network")
    parser.add_argument("--max-images", type=int, default=180, help="number of test images")
    parser.add_argument("--time-steps", type=int, default=128, help="T of the simulation")
    parser.add_argument(
        "--resting-images", type=int, default=200, help="number of training images that set initial levels"
    )
    options = parser.parse_args()
    opened = mst.open_checkpoint(
        mst.CheckpointOptions(options.checkpoint, batch_size=60, max_images=options.max_images, device="cpu")
    )
    ann = evaluate(opened.model, opened.images, batch_size=60)
    example = first_readable(opened.images)[0][None]
    num_levels = max(site.num_levels for site in opened.model.modules() if isinstance(site, mst.QCFS))
    print(f"ANN {100 * ann.accuracy:.2f} %, {ann.quanta_per_image:,.0f} quanta per image; {opened.num_images} images")
    print(f"{'':<68}{'T within':>19}{'settled after':>16}{'spikes':>12}{'per':>9}")
    print(f"{'schedule':<68}{'1':>9}{'0.1 points':>11}{'mean':>7}{'max':>8}{'per image':>12}{'quantum':>9}")

    def show(name: str, snn: mst.SpikingNetwork) -> None:
        loader = DataLoader(opened.images, batch_size=60)
        result = mst.simulate(snn, loader, options.time_steps, record_operations=False)
        within = [steps_to_within(result, ann.accuracy, points) or "never" for points in (1.0, 0.1)]
        settled = result.steps_taken
        print(
            f"{name:<68}{within[0]:>9}{within[1]:>11}{settled.double().mean():>7.1f}{int(settled.max()):>8}"
            f"{result.spikes_per_image:>12,.0f}{result.spikes_per_image / ann.quanta_per_image:>9.2f}",
            flush=True,
        )

    for name, schedule in schedules(num_levels):
        show(name, mst.convert(opened.model, "lossless", example, schedule=schedule))
    for name, (up, down) in HOLDS.items():
        snn = mst.convert(opened.model, "lossless", example, schedule="staggered")
        show(f"staggered, {name}", holding(snn, up, down))
    resting = list(torch.split(training_images(opened.data, options.resting_images), 50))
    for name in SCHEDULES:
        for burst in (1, 4):
            snn = mst.convert(opened.model, "lossless", example, schedule=name, burst=burst, initial_images=resting)
            show(f"from initial levels, {name}, burst {burst}", snn)


if __name__ == "__main__":
    main()
