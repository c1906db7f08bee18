"""Speed and memory of a simulation, beside its ANN and a plain loop over the steps, in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from mst.checkpoints import checkpoint_file
from mst.conversion import ConversionError, SpikingNetwork, convert
from mst.measure.plain_loop import SpikingJellyIF, has_spikingjelly, plain_copy, plain_loop
from mst.measure.timing import MachineRates, interleaved, measure_machine, peak_memory
from mst.models import image_shape_of
from mst.neurons import SpikingNeuron
from mst.progress import ProgressCallback, Stage
from mst.quantization import calibrate, create_model
from mst.simulation import SimulationResult, simulate
from mst.text import note
from mst.threads import choose_threads, count_macs, intra_op_threads

from .benchmark_options import BenchmarkOptions
from .opening import choose_device, open_checkpoint
from .options import CheckpointOptions, CodingOptions
from .spiking_run import check_coding, coding_label

ANN, PLAIN, SPIKINGJELLY, UNCOUNTED, COUNTED = (
    "ANN, one pass", "plain loop", "plain loop, SpikingJelly's neurons", "nothing counted", "operations counted",
)  # fmt: skip
"""The computations that take turns."""

BYTES_PER_NEURON_STEP = 16
"""Least traffic of a float32 neuron in a step: its input is read, its state read and written, its output written."""

CALIBRATION_IMAGES = 4
"""Random images that set the thresholds of random weights."""


@dataclass(frozen=True)
class BenchmarkRun:
    """Times and memory of one network under one coding."""

    options: BenchmarkOptions
    """Network, size of the run, device."""

    coding: CodingOptions
    """The coding."""

    device: str
    """Device, by its name where it has one."""

    threads: int
    """CPU threads."""

    macs_per_image: int
    """Multiply-accumulates of the ANN's maps and products."""

    neurons_per_image: int
    """Neurons."""

    steps: int
    """Steps that were computed: T, or fewer where all images have settled."""

    rates: MachineRates
    """Rates of the device, measured in the same run."""

    seconds: dict[str, tuple[float, ...]]
    """Computation -> its seconds in each round."""

    peak_bytes: dict[str, int | None]
    """Computation -> its peak memory: of the process on a CPU, in use on a CUDA device."""

    def steps_of(self, name: str) -> int:
        """Passes over the batch that a computation stands for."""
        return 1 if name == ANN else self.options.time_steps if name.startswith(PLAIN) else self.steps

    def ratio(self, name: str, other: str) -> float:
        """Time of `name` as a multiple of that of `other`, median over the rounds."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))

    def speed_up(self, name: str) -> float | None:
        """Time per step of the plain loop as a multiple of that of `name`; None without a plain loop."""
        if PLAIN not in self.seconds:
            return None
        return self.ratio(PLAIN, name) * self.steps_of(name) / self.steps_of(PLAIN)

    def fraction_of_floor(self, name: str) -> float:
        """Least time of the dense products and of one visit to each neuron, as a fraction of the measured time."""
        passes = self.options.batch_size * self.steps_of(name)
        neurons = 0 if name == ANN else self.neurons_per_image
        floor = self.rates.floor_seconds(self.macs_per_image * passes, BYTES_PER_NEURON_STEP * neurons * passes)
        return floor / median(self.seconds[name])

    def rows(self) -> dict[str, dict[str, float | int | None]]:
        """Computation -> its figures, ratios first."""
        images = self.options.batch_size
        return {
            name: {
                "speed_up_over_plain_loop": None if name == ANN else self.speed_up(name),
                "times_the_ann": self.ratio(name, ANN),
                "fraction_of_floor": self.fraction_of_floor(name),
                "steps": self.steps_of(name),
                "images_per_second": images / median(seconds),
                "steps_per_second": self.steps_of(name) / median(seconds),
                "ms_per_image_step": 1e3 * median(seconds) / images / self.steps_of(name),
                "peak_bytes": self.peak_bytes[name],
                "median_seconds": median(seconds),
                "least_seconds": min(seconds),
                "most_seconds": max(seconds),
            }
            for name, seconds in self.seconds.items()
        }

    def record(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "options": asdict(self.options), "coding": asdict(self.coding), "label": coding_label(self.coding),
            "device": self.device, "threads": self.threads, "steps": self.steps,
            "macs_per_image": self.macs_per_image, "neurons_per_image": self.neurons_per_image,
            "rates": asdict(self.rates), "rows": self.rows(), "seconds": self.seconds,
        }  # fmt: skip


def run_benchmark(
    options: BenchmarkOptions | str | Path,
    coding: CodingOptions = CodingOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> BenchmarkRun:
    """Time a simulation, its ANN and a plain loop over the steps in turns, and measure the device and the memory.

    Args:
        options: the network (a checkpoint or a name alone), the size of the run, the device.
        coding: how spikes carry activations. The plain loop is rate coding; without one where rate coding cannot carry
            the network.
        progress: called with the computations done.

    Raises:
        MissingFileError, InputError: as `open_checkpoint` and `mst.create_model`; no such device.
        ConversionError: the coding cannot carry the network.
    """
    if not isinstance(options, BenchmarkOptions):
        options = BenchmarkOptions(str(options))
    check_coding(coding)
    device = choose_device(options.device)
    model, images = _network(options, device)
    threads = choose_threads(model, images.shape[1:], len(images), options.threads)
    with intra_op_threads(threads):
        snn = convert(model, coding.coding, images[:1], burst=coding.burst, schedule=coding.schedule)
        sim = partial(simulate, snn, images, options.time_steps, input_steps=coding.input_steps)
        first = sim(record_operations=False)
        runs = _runs(model, snn, images, options, sim)
        stage = Stage(progress, "timing", (options.rounds + 1) * len(runs), "runs")
        seconds = interleaved(runs, options.rounds, device, stage.advance)
        peaks = {name: peak_memory(run, device) for name, run in runs.items()}
        rates = measure_machine(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return BenchmarkRun(
        options, coding, name, threads, count_macs(model, images.shape[1:]),
        sum(site.num_neurons for site in first.sites.values()), int(first.steps_taken.max()), rates, seconds, peaks,
    )  # fmt: skip


def _runs(
    model: nn.Module,
    snn: SpikingNetwork,
    images: Tensor,
    options: BenchmarkOptions,
    sim: Callable[..., SimulationResult],
) -> dict[str, Callable[[], object]]:
    def ann() -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(images)
        return logits

    runs: dict[str, Callable[[], object]] = {ANN: ann}
    try:
        rate = snn if snn.coding.name == "rate" else convert(model, "rate", images[:1])
    except ConversionError:
        note("rate coding cannot carry this network: there is no plain loop to compare with")
    else:
        if any(neuron.mask is not None for neuron in rate.modules() if isinstance(neuron, SpikingNeuron)):
            note("the plain loop draws no masks")
        runs[PLAIN] = partial(plain_loop, plain_copy(rate), images, options.time_steps)
        if has_spikingjelly():
            runs[SPIKINGJELLY] = partial(plain_loop, plain_copy(rate, SpikingJellyIF), images, options.time_steps)
    runs[UNCOUNTED] = partial(sim, record_operations=False)
    runs[COUNTED] = sim
    return runs


def _network(options: BenchmarkOptions, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The network in evaluation mode on its device, and one batch."""
    if checkpoint_file(options.network).suffix == ".safetensors":
        opened = open_checkpoint(
            CheckpointOptions(
                Path(options.network), options.dataset, options.data_path, max_images=options.batch_size,
                device=options.device, threads=1,
            )
        )  # fmt: skip
        images = torch.stack([opened.images[number][0] for number in range(opened.num_images)])
        if len(images) < options.batch_size:
            images = images.repeat(-(-options.batch_size // len(images)), 1, 1, 1)[: options.batch_size]
        return opened.model.eval(), images.to(device)
    model, images = random_network(options.network, options.batch_size)
    return model.to(device), images.to(device)


def random_network(name: str, num_images: int) -> tuple[nn.Module, Tensor]:
    """A model by name with random weights, whose thresholds suit random images, and such images [num_images, ...]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, num_classes=10).eval()
        images = torch.randn(max(CALIBRATION_IMAGES, num_images), *(image_shape_of(model) or (3, 224, 224)))
    calibrate(model, [images[:CALIBRATION_IMAGES]])
    return model.eval(), images[:num_images]
