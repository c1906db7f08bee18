"""All that is to be known on a CUDA device, in one call that can be cut off and continued."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mst.conversion import convert
from mst.errors import InputError
from mst.files import plain, write_json
from mst.measure.timing import interleaved, measure_machine, peak_memory
from mst.neurons import kernels
from mst.progress import ProgressCallback, Stage
from mst.quantization import create_model
from mst.simulation import SimulationResult, simulate
from mst.text import note, one_line

from .benchmark_options import BenchmarkOptions
from .benchmarking import random_network, run_benchmark
from .options import CheckpointOptions, CodingOptions, TrainingOptions
from .recipes import load_recipe
from .settled_run import run_settled
from .training_run import run_training

BUDGET = 540.0
"""Seconds of one call, the start of the process left out."""

SUITE_FILE = "gpu_suite.json"
"""Results, in the output folder."""

LARGE, SMALL = "mst_tiny_patch4_window7_224", "mst_mini_patch2_window7_28"


@dataclass(frozen=True)
class SuiteContext:
    """What a part of the suite is given."""

    device: torch.device
    """A CUDA device."""

    output: Path
    """Folder of the results."""

    data_path: Path | None
    """Folder with the files of Fashion-MNIST."""

    seconds_left: float
    """Until the call has to end."""


Part = Callable[[SuiteContext], Mapping[str, Any]]


def run_gpu_suite(
    output: str | Path,
    *,
    device: str = "auto",
    data_path: Path | None = None,
    budget: float = BUDGET,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Run the parts that the results in `output` lack, as far as time allows; call again for the rest.

    Args:
        output: folder; gpu_suite.json in it is written after every part.
        device: "auto", "cuda" or "cuda:1".
        data_path: folder with the files of Fashion-MNIST, for the part that trains.
        budget: seconds. No part is begun that is expected to end later.
        progress: called with the parts done.

    Returns:
        Part -> its results; {"error": ...} where it failed (it is tried again by the next call).

    Raises:
        InputError: no CUDA device, or results of another device in `output`.
    """
    began, output = time.monotonic(), Path(output)
    cuda = _cuda(device)
    name, path = torch.cuda.get_device_name(cuda), output / SUITE_FILE
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"device": name, "parts": {}}
    if content["device"] != name:
        raise InputError(
            f"its results are of {content['device']}, this device is {name}", where=str(path),
            remedy="give another output",
        )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = content["parts"]
    stage = Stage(progress, "GPU suite", len(PARTS), "parts")
    for title, (part, expected) in PARTS.items():
        left = budget - (time.monotonic() - began)
        if title not in parts or "error" in parts[title]:
            if expected > left:
                note(f"{title}: not begun, as it may take {expected} s and {left:.0f} s are left; call again")
                continue
            parts[title] = _outcome(part, SuiteContext(cuda, output, data_path, left))
            write_json(path, content | {"versions": {"torch": torch.__version__, "cuda": torch.version.cuda}})
        stage.advance(detail=title)
    return parts


def _cuda(device: str) -> torch.device:
    if not torch.cuda.is_available():
        raise InputError(
            "the GPU suite needs a CUDA device, and PyTorch finds none here",
            remedy="run it where there is one; mst benchmark without --gpu-suite runs on a CPU",
        )
    chosen = torch.device("cuda" if device == "auto" else device)
    if chosen.type != "cuda":
        raise InputError(f"the GPU suite needs a CUDA device, got {device!r}", remedy="leave --device out")
    return chosen


def _outcome(part: Part, context: SuiteContext) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found = plain(dict(part(context)))
    except Exception as error:  # the other parts are still wanted, whatever stops this one
        found = {"error": f"{type(error).__name__}: {one_line(error)}"}
    torch.cuda.empty_cache()
    return {**found, "took_seconds": round(time.monotonic() - began, 1)}


# ------------------------------------------------------------------------------------------------- parts


def _rates(context: SuiteContext) -> Mapping[str, Any]:
    """Rates of products, also in TF32 and bfloat16, and of a copy."""
    a, b = (torch.randn(4096, 4096, device=context.device) for _ in range(2))
    a16, b16 = a.bfloat16(), b.bfloat16()
    seconds = interleaved({"float32": lambda: a @ b, "bfloat16": lambda: a16 @ b16}, 5, context.device)
    rates = {name: 4096**3 / sorted(each)[2] for name, each in seconds.items()}
    return {**asdict(measure_machine(context.device)), "macs_per_second_by_type": rates}


def _tests(context: SuiteContext) -> Mapping[str, Any]:
    """The tests marked gpu, where the sources are at hand."""
    if not Path("tests/conftest.py").is_file():
        return {"skipped": "no tests in the working directory; run the suite in a checkout"}
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "-p", "no:cacheprovider"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=max(30.0, context.seconds_left), check=False)
    return {"exit_code": done.returncode, "output": done.stdout[-3000:]}


def _benchmark(network: str, coding: CodingOptions, steps: int, batch: int, context: SuiteContext) -> Mapping[str, Any]:
    options = BenchmarkOptions(network, time_steps=steps, batch_size=batch, device=str(context.device))
    return run_benchmark(options, coding).record()


def _neurons(context: SuiteContext) -> Mapping[str, Any]:
    """Both codings with neurons by Triton and by operations of torch, in turns; equal spikes and logits."""
    model, images = random_network(SMALL, 256)
    model, images = model.to(context.device), images.to(context.device)
    found: dict[str, Any] = {"network": SMALL, "batch_size": len(images), "triton": find_spec("triton") is not None}
    for coding, options in (("rate", {}), ("lossless", {"burst": 4})):
        snn = convert(model, coding, images[:1], **options)  # type: ignore[arg-type]
        run = partial(simulate, snn, images, 16, record_operations=False)

        def by_torch(run: Callable[[], SimulationResult] = run) -> SimulationResult:
            with kernels.without_kernels():
                return run()

        one, other = run(), by_torch()
        found[coding] = {
            "equal": torch.equal(one.logits, other.logits) and one.spikes_per_image == other.spikes_per_image,
            "seconds": interleaved({"triton": run, "torch": by_torch}, 5, context.device),
        }
    return found


def _memory(context: SuiteContext) -> Mapping[str, Any]:
    """Peak memory of MST-tiny at 224 px by T."""
    model, images = random_network(LARGE, 8)
    model, images = model.to(context.device), images.to(context.device)
    found: dict[str, Any] = {"network": LARGE, "batch_size": len(images)}
    for coding, options in (("rate", {}), ("lossless", {"burst": 4})):
        snn = convert(model, coding, images[:1], **options)  # type: ignore[arg-type]
        for steps in (16, 256):
            spread = {"input_steps": steps} if coding == "lossless" else {}
            run = partial(simulate, snn, images, steps, record_operations=False, **spread)  # type: ignore[arg-type]
            found[f"{coding}, T = {steps}"] = peak_memory(run, context.device)
    return found


def _training_step(context: SuiteContext) -> Mapping[str, Any]:
    """A training step in float32 and in bfloat16 autocast, in turns."""
    torch.manual_seed(0)
    model = create_model(SMALL, num_classes=10).to(context.device).train()
    images = torch.randn(128, 1, 28, 28, device=context.device)
    labels = torch.randint(0, 10, (128,), device=context.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step(is_half: bool) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=is_half):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    seconds = interleaved({"float32": lambda: step(False), "bfloat16": lambda: step(True)}, 10, context.device)
    return {"network": SMALL, "batch_size": 128, "seconds": seconds, "last_loss": float(step(False))}


def _recipe(context: SuiteContext) -> Mapping[str, Any]:
    """One epoch of the Fashion-MNIST recipe, in bfloat16, and the trained network under both codings."""
    if context.data_path is None:
        return {"skipped": "give --data-path, the folder with the files of Fashion-MNIST"}
    changes = {
        "train.epochs": 1, "train.mixed_precision": "bf16", "train.device": str(context.device),
        "data_path": context.data_path,
    }  # fmt: skip
    recipe = load_recipe("fashion-mnist-mst", changes)
    assert isinstance(recipe, TrainingOptions)
    run = run_training(recipe, context.output / "fashion-mnist", resume=(context.output / "fashion-mnist").exists())
    network = BenchmarkOptions(
        str(run.result.last_checkpoint), data_path=context.data_path, time_steps=64, batch_size=500,
        device=str(context.device),
    )  # fmt: skip
    lossless = CodingOptions("lossless", burst=4)
    checkpoint = CheckpointOptions(run.result.last_checkpoint, data_path=context.data_path, batch_size=500)
    return {
        "accuracy": run.result.history[-1].accuracy,
        "settled": run_settled(checkpoint, coding=lossless).figures(),
        "lossless": run_benchmark(network, lossless).record(),
        "rate": run_benchmark(network).record(),
    }


PARTS: dict[str, tuple[Part, int]] = {
    "rates of the device": (_rates, 20),
    "tests marked gpu": (_tests, 90),
    "rate, MST-tiny at 224 px": (partial(_benchmark, LARGE, CodingOptions(), 64, 64), 150),
    "lossless, MST at 28 px": (partial(_benchmark, SMALL, CodingOptions("lossless", burst=4), 100, 256), 90),
    "neurons by Triton and by torch": (_neurons, 60),
    "peak memory by T": (_memory, 90),
    "training step": (_training_step, 30),
    "Fashion-MNIST recipe": (_recipe, 200),
}
"""Part -> its function, and the seconds that it is expected to take at most."""
