"""Costs of a simulation on a CUDA device: against a plain loop over steps and the ANN, in memory, and by part.

    python benchmarks/cuda_simulation.py --checkpoint runs/fashion/last.safetensors --output cuda.json

Without --checkpoint the small network has random weights, as the large one always has; thresholds are then set from
random images. On a CPU it also runs, with sizes such as --batch-size 2 --small-batches 8 --time-steps 2 --rounds 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

import mst
from mst.models import set_submodule
from mst.neurons import IFNeuron, RunState, chunks, full_precision
from mst.operations import OperationCounter
from mst.operations.changes import ChangeCounter
from mst.operations.spikes import SpikeCounter
from mst.quantization import calibrate, calibration
from mst.simulation import SimulationResult

LARGE, SMALL = "mst_tiny_patch4_window7_224", "mst_mini_patch2_window7_28"
MASKED = 0.75
CHUNKS = (1, 2, 4, 8, 16, 32, 64)
LABEL = "mst: "
STEPS = 2
"""That a profile sees."""
WAITS = (
    "aten::item", "aten::_local_scalar_dense", "aten::nonzero", "cudaStreamSynchronize", "cudaDeviceSynchronize",
    "cudaEventSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel",
)  # fmt: skip
PARTS: tuple[tuple[Any, str], ...] = (
    (chunks, "if_run_"),
    (chunks, "count_spikes"),
    (chunks, "drop_spikes"),
    (chunks, "to_levels"),
    (chunks, "spikes_of_weight"),
    (chunks, "free_quanta"),
    (chunks, "count_signed_spikes"),
    (chunks, "unsettled_images"),
    (RunState, "keep_mask"),
    (SpikeCounter, "_observe"),
    (ChangeCounter, "_observe"),
    (OperationCounter, "_observe_spikes"),
)
"""Functions that a profile tells apart from the module that calls them."""


class PlainNeuron(nn.Module):
    """An IF neuron with soft reset as one would write it for a loop over steps."""

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.clone())
        self.v: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        v = (torch.zeros_like(x) + self.threshold / 2 if self.v is None else self.v) + x
        spikes = (v >= self.threshold).to(x.dtype)
        self.v = v - spikes * self.threshold
        return spikes * self.threshold


def plain_copy(snn: mst.SpikingNetwork) -> nn.Module:
    """The same modules with plain neurons."""
    network = copy.deepcopy(snn.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, IFNeuron):
            set_submodule(network, name, PlainNeuron(module.threshold))
    return network


def plain_loop(network: nn.Module, images: Tensor, num_steps: int) -> Tensor:
    """Mean logits after this many passes, each of one step."""
    for module in network.modules():
        if isinstance(module, PlainNeuron):
            module.v = None
    with torch.no_grad():
        total = network(images)
        for _ in range(num_steps - 1):
            total = total + network(images)
    return (total / num_steps).cpu()


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    wait(device)
    began = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - began


def compare(runs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, Any]:
    """Medians of `rounds` rounds in which all take turns, after one that is thrown away; ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            took = seconds(run, device)
            if number:
                times[name].append(took)
    first = next(iter(times.values()))
    return {
        name: {
            "median_s": median(values),
            "from_s": min(values),
            "to_s": max(values),
            "times_the_first": median(a / b for a, b in zip(values, first, strict=True)),
        }
        for name, values in times.items()
    }


# ------------------------------------------------------------------------------------------- ceilings


def ceilings(device: torch.device, size: int, rounds: int) -> dict[str, float]:
    """Measured rates of a matrix product (multiplications and additions) and of a copy (bytes read and written)."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    rates = {}
    for name, tf32, kind in (
        ("float32", False, torch.float32),
        ("tf32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        took = compare({"product": partial(torch.matmul, a.to(kind), b.to(kind))}, rounds, device)["product"][
            "median_s"
        ]
        rates[f"{name}_tflops"] = 2 * size**3 / took / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.randn(size * size * 8, device=device)
    target = torch.empty_like(source)
    took = compare({"copy": partial(target.copy_, source)}, rounds, device)["copy"]["median_s"]
    return {**rates, "copy_gb_per_s": 2 * source.numel() * 4 / took / 1e9}


# ------------------------------------------------------------------------------------------- networks


def random_network(name: str, device: torch.device, images: int) -> tuple[nn.Module, Tensor]:
    """An MST of random weights whose thresholds suit random images, and such images."""
    torch.manual_seed(0)
    model = mst.create_model(name, num_classes=10)
    shape = (model.config.in_chans, *model.config.image_shape)
    data = torch.randn(max(images, 16), *shape)
    model = model.to(device).eval()
    with patch.object(calibration, "SAMPLE", 2**14):  # enough for random weights
        calibrate(model, [data[:16]])
    return model, data[:images].to(device)


def small_network(options: argparse.Namespace, device: torch.device) -> tuple[nn.Module, Tensor]:
    count = max(options.small_batches)
    if options.checkpoint is None:
        return random_network(SMALL, device, count)
    opened = mst.open_checkpoint(
        mst.CheckpointOptions(options.checkpoint, data_path=options.data_path, max_images=count, device="cpu")
    )
    images = torch.stack([opened.images[i][0] for i in range(opened.num_images)])
    return opened.model.to(device).eval(), images.to(device)


def dense_macs(result: SimulationResult) -> int:
    """Multiply-accumulations of the ANN's matrix products and convolutions, per image."""
    kinds = ("linear", "convolution", "product")
    return sum(count.operation.dense_macs for count in result.operations if count.operation.kind in kinds)


# ---------------------------------------------------------------------------------------- large network


def large(options: argparse.Namespace, device: torch.device, product_tflops: float) -> dict[str, Any]:
    """Rate coding of MST-tiny at 224 px: ours against a plain loop over steps, and the ANN's pass."""
    model, images = random_network(LARGE, device, options.batch_size)
    snn = mst.convert(model, "rate")
    masked = mst.convert(mst.mask_spikes(copy.deepcopy(model), MASKED, "attention"), "rate")
    plain, few = plain_copy(snn), 2
    counted = mst.simulate(snn, images, few)  # warm
    expected = plain_loop(plain, images, few)
    per_step = (seconds(partial(plain_loop, plain, images, 2 * few), device)) / (2 * few)
    affordable = int(options.seconds / (6 * per_step * (options.rounds + 1)))
    steps = max(2, min(options.time_steps, affordable))
    ann = compare({"ann": partial(_ann, model, images)}, max(5, options.rounds), device)["ann"]
    flops = 2 * dense_macs(counted) * len(images)
    runs = {
        "plain loop": partial(plain_loop, plain, images, steps),
        "ours, nothing counted": partial(mst.simulate, snn, images, steps, record_operations=False),
        "ours, operations counted": partial(mst.simulate, snn, images, steps),
        f"ours, masks of {MASKED} on attention, nothing counted": partial(
            mst.simulate, masked, images, steps, record_operations=False
        ),
    }
    times = compare(runs, options.rounds, device)
    last = mst.simulate(snn, images, steps, record_operations=False)
    theirs = plain_loop(plain, images, steps)
    return {
        "network": LARGE,
        "batch_size": len(images),
        "time_steps": steps,
        "time_steps_asked": options.time_steps,
        "rounds": options.rounds,
        "neurons_per_image": sum(site.num_neurons for site in last.sites.values()),
        "firing_rate": last.firing_rate,
        "same_answers_as_plain_loop": int((last.logits.argmax(1) == theirs.argmax(1)).sum()),
        "logits_differ_at_most": float((last.logits - theirs).abs().max()),
        "logits_differ_at_most_in_2_steps": float((counted.logits - expected).abs().max()),
        "ann": {
            **ann,
            "macs_per_image": dense_macs(counted),
            "tflops": flops / ann["median_s"] / 1e12,
            "share_of_the_float32_product": flops / ann["median_s"] / 1e12 / product_tflops,
            "images_per_s": len(images) / ann["median_s"],
        },
        "rate": times,
        "ms_per_step": {name: 1e3 * each["median_s"] / steps for name, each in times.items()},
        "ann_passes_per_step": {name: each["median_s"] / steps / ann["median_s"] for name, each in times.items()},
    }


def _ann(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        model(images).cpu()


# ---------------------------------------------------------------------------------------- small network


def small(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Lossless and rate coding of the small MST against its ANN and a plain loop; by batch size and by chunk."""
    model, data = small_network(options, device)
    rate, lossless = mst.convert(model, "rate", data), mst.convert(model, "lossless", data, burst=4)
    plain, steps = plain_copy(rate), options.time_steps
    found: dict[str, Any] = {
        "network": SMALL if options.checkpoint is None else type(model).__name__,
        "checkpoint": options.checkpoint,
        "time_steps_of_rate": steps,
    }
    for batch_size in options.small_batches:
        images = data[:batch_size]
        runs = {
            "ann": partial(_ann, model, images),
            "lossless, burst 4, nothing counted": partial(mst.simulate, lossless, images, 100, record_operations=False),
            "lossless, burst 4, operations counted": partial(mst.simulate, lossless, images, 100),
            "rate, nothing counted": partial(mst.simulate, rate, images, steps, record_operations=False),
            "rate, operations counted": partial(mst.simulate, rate, images, steps),
            "rate, plain loop": partial(plain_loop, plain, images, steps),
        }
        settled = mst.simulate(lossless, images, 100, record_operations=False)
        chunks = {
            f"{chunk} at once": partial(
                mst.simulate, rate, images, steps, steps_per_chunk=chunk, record_operations=False
            )
            for chunk in CHUNKS
            if chunk <= steps
        }
        found[f"batch of {batch_size}"] = {
            "times": compare(runs, options.rounds, device),
            "lossless_steps": int(settled.steps_taken.max()),
            "num_settled": settled.num_settled,
            "firing_rate_of_rate": mst.simulate(rate, images, steps, record_operations=False).firing_rate,
            "rate_by_steps_per_chunk": compare(chunks, max(1, options.rounds // 2), device),
        }
    return found


# ---------------------------------------------------------------------------------------------- memory


def memory(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Most memory in use during a simulation of MST-tiny, by T; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    model, images = random_network(LARGE, device, options.memory_batch)
    found: dict[str, Any] = {"network": LARGE, "batch_size": len(images)}
    for coding, how in (("rate", {}), ("lossless", {"burst": 4})):
        snn = mst.convert(model, coding, images, **how)
        for steps in (16, 256):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            result = mst.simulate(snn, images, steps)
            found[f"{coding}, T = {steps}"] = {
                "before_mib": before / 2**20,
                "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20,
                "reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20,
                "steps": int(result.steps_taken.max()),
                "seconds": result.seconds,
            }
    return found


# ------------------------------------------------------------------------------------------- profiles


@contextmanager
def labelled(network: nn.Module) -> Iterator[None]:
    """Ranges for the profiler: modules without children by their class, and the functions of PARTS."""
    open_ranges: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        open_ranges.append(record_function(LABEL + type(module).__name__))
        open_ranges[-1].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    def marked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with record_function(name):
                return function(*args, **kwargs)

        return run

    with ExitStack() as stack:
        for module in network.modules():
            if next(module.children(), None) is None and not isinstance(module, nn.Identity):
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        for owner, name in PARTS:
            where = getattr(owner, "__name__", "").rpartition(".")[2]
            stack.enter_context(patch.object(owner, name, marked(getattr(owner, name), f"{LABEL}{where}.{name}")))
        yield


Table = dict[str, list[float]]
"""Name -> how often, and microseconds on the device."""


def recorded(
    snn: mst.SpikingNetwork, images: Tensor, num_steps: int, device: torch.device, how: dict[str, Any]
) -> tuple[Table, Table, Table]:
    """Kernels and parts of one batch, and the number of calls of the functions in `WAITS`."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with labelled(snn.network), profile(activities=activities) as seen:
        mst.simulate(snn, images, num_steps, **how)
        wait(device)
    kernels: Table = {}
    parts: Table = {}
    calls: Table = {}

    def add(table: Table, name: str, duration: float) -> None:
        entry = table.setdefault(name, [0, 0.0])
        entry[0] += 1
        entry[1] += duration

    for event in seen.events():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue
        if event.name in WAITS:
            add(calls, event.name, 0.0)
        spent = [(each.name, each.duration) for each in event.kernels if not each.name.startswith(LABEL)]
        if device.type == "cpu" and not event.name.startswith(LABEL):
            spent = [(event.name, event.self_cpu_time_total)]
        owner = event
        while spent and owner is not None and not owner.name.startswith(LABEL):
            owner = owner.cpu_parent
        for name, duration in spent:
            add(kernels, name, duration)
            add(parts, "elsewhere" if owner is None else owner.name[len(LABEL) :], duration)
    return kernels, parts, calls


def profiled(snn: mst.SpikingNetwork, images: Tensor, device: torch.device, **how: Any) -> dict[str, Any]:
    """Cost of a step without the fixed cost of a batch: two runs, one of them `STEPS` longer."""
    runs = {steps: partial(mst.simulate, snn, images, steps, **how) for steps in (1, 1 + 4 * STEPS)}
    short, long = (compare({"run": run}, 5, device)["run"]["median_s"] for run in runs.values())
    step_ms = 1e3 * (long - short) / (4 * STEPS)
    once, more = (recorded(snn, images, steps, device, how) for steps in (1, 1 + STEPS))

    def per_step(which: int) -> Table:
        return {
            name: [(now - before) / STEPS for now, before in zip(spent, once[which].get(name, [0, 0.0]), strict=True)]
            for name, spent in more[which].items()
        }

    kernels, parts, calls = (per_step(which) for which in range(3))
    busy = sum(spent for _, spent in parts.values()) / 1e3

    def ranked(table: Table, most: int) -> list[dict[str, Any]]:
        rows = sorted(table.items(), key=lambda row: -row[1][1])[:most]
        return [
            {"name": name[:160], "calls": count, "ms": spent / 1e3, "share": spent / 1e3 / busy if busy else 0.0}
            for name, (count, spent) in rows
            if count
        ]

    return {
        "batch_size": len(images),
        "ms_per_step": step_ms,
        "ms_per_step_busy": busy,
        "busy_share": busy / step_ms,
        "ms_per_batch_of_one_step": 1e3 * short,
        "kernels_per_step": sum(count for count, _ in parts.values()),
        "waits_per_step": {name: count for name, (count, _) in calls.items() if count},
        "waits_per_batch_of_one_step": {name: count for name, (count, _) in once[2].items()},
        "copies_per_step": {name: count for name, (count, _) in kernels.items() if name.startswith("Mem") and count},
        "by_part_per_step": ranked(parts, 20),
        "by_kernel_per_step": ranked(kernels, 20),
    }


def profiles(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Steps of rate and of lossless coding, in the large and in the small network."""
    found: dict[str, Any] = {}
    model, data = small_network(options, device)
    rate, lossless = mst.convert(model, "rate", data), mst.convert(model, "lossless", data, burst=4)
    for batch_size in options.small_batches:
        images = data[:batch_size]
        found[f"small, rate, batch of {batch_size}"] = profiled(rate, images, device)
        found[f"small, lossless, batch of {batch_size}"] = profiled(lossless, images, device)
    model, images = random_network(LARGE, device, options.batch_size)
    rate, lossless = mst.convert(model, "rate"), mst.convert(model, "lossless", burst=4)
    masked = mst.convert(mst.mask_spikes(model, MASKED, "attention"), "rate")
    found["large, rate"] = profiled(rate, images, device)
    found["large, rate, masked, nothing counted"] = profiled(masked, images, device, record_operations=False)
    found["large, lossless"] = profiled(lossless, images[: max(1, len(images) // 4)], device)
    return found


# -------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint", type=Path, help="of the small network, or any other")
    parser.add_argument("--data-path", type=Path)
    parser.add_argument("--only", nargs="+", choices=("large", "small", "memory", "profiles"))
    parser.add_argument("--batch-size", type=int, default=64, help="of the large network")
    parser.add_argument("--small-batches", type=int, nargs="+", default=[32, 512])
    parser.add_argument("--memory-batch", type=int, default=8)
    parser.add_argument("--time-steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120.0, help="the large network's T is lowered to stay within")
    parser.add_argument("--output", type=Path, default=Path("cuda.json"))
    options = parser.parse_args()
    device = torch.device(options.device)
    on_cuda = device.type == "cuda"
    top = ceilings(device, 8192 if on_cuda else 512, max(5, options.rounds))
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if on_cuda else "CPU",
        "torch": torch.__version__,
        "options": vars(options),
        "ceilings": top,
    }
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "large": lambda: large(options, device, top["float32_tflops"]),
        "small": lambda: small(options, device),
        "memory": lambda: memory(options, device),
        "profiles": lambda: profiles(options, device),
    }
    for name, section in sections.items():
        if options.only is None or name in options.only:
            began = time.perf_counter()
            with full_precision():
                found[name] = section()
            found[name]["seconds_of_this_section"] = time.perf_counter() - began
            options.output.write_text(json.dumps(found, indent=1, default=str))
            print(f"{name}: {found[name]['seconds_of_this_section']:.0f} s", flush=True)
    print(json.dumps(found, indent=1, default=str))


if __name__ == "__main__":
    main()
