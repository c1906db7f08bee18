"""Examination of an installation: versions, devices, threads, extras, data sets, and a self-check of the numbers."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import mst
from mst.extras import install_command
from mst.threads import VARIABLES, usable_cores

from .dataset_checks import list_datasets
from .self_check import NumberCheck, check_numbers

REQUIRED = {
    "torch": "2.6", "torchvision": "0.21", "timm": "1.0.9", "accelerate": "1.0", "safetensors": "0.4.3",
    "jsonargparse": "4.35", "docstring-parser": "0.15", "scikit-learn": "1.4", "scipy": "1.11", "matplotlib": "3.8",
    "pyyaml": "6.0", "rich": "13.7", "tensorboard": "2.16", "huggingface_hub": "0.34",
}  # fmt: skip
"""Package -> lowest version, as in pyproject.toml."""

LOWEST_PYTHON = (3, 11)

EXTRAS = {
    "events": (("tonic", "aedat"), "augmentation and downloads of event data, .aedat4 files"),
    "hf": (("datasets",), "data sets of Hugging Face (--dataset hf:NAME)"),
    "wandb": (("wandb",), "tracking with --train.trackers wandb"),
    "fast": (("numba",), "compiled neurons on a CPU"),
    "export": (("nir", "h5py", "onnx", "onnxscript", "onnxruntime"), "mst export"),
    "report": (("plotly",), "interactive charts of mst report"),
    "demo": (("gradio",), "mst demo"),
    "benchmark": (("spikingjelly",), "the plain loop of mst benchmark with SpikingJelly's neurons"),
}
"""Extra of pyproject.toml -> its packages, and what they are for."""


@dataclass(frozen=True)
class ExtraFound:
    """An optional extra and its packages."""

    name: str
    """Name of the extra."""

    purpose: str
    """What its packages are for."""

    versions: dict[str, str | None]
    """Package -> installed version; None if it is missing."""

    @property
    def is_complete(self) -> bool:
        """True if all packages are installed."""
        return None not in self.versions.values()

    @property
    def install_command(self) -> str:
        """Command that installs it."""
        return install_command(self.name)


@dataclass(frozen=True)
class Fault:
    """Something about the installation that should be changed."""

    what: str
    """What is wrong, with the value."""

    remedy: str
    """What to do."""


@dataclass(frozen=True)
class HealthReport:
    """Result of `run_doctor`."""

    versions: dict[str, str | None]
    """mst, Python, operating system and each required package -> version; None if it is missing."""

    devices: dict[str, str]
    """Device as --device takes it -> its name."""

    threads: dict[str, int | str | None]
    """Threads of PyTorch, cores on which this process may run, and the environment variables that set threads."""

    extras: tuple[ExtraFound, ...]
    """Optional extras."""

    datasets: dict[str, str | None]
    """Data set -> place of its files; None if they were not found."""

    checks: tuple[NumberCheck, ...]
    """Self-check of the numbers."""

    faults: tuple[Fault, ...]
    """Faults of the installation, the numbers left out."""

    @property
    def numbers_are_right(self) -> bool:
        """True if no check of the numbers has failed."""
        return all(check.passed is not False for check in self.checks)

    def record(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return asdict(self) | {"numbers_are_right": self.numbers_are_right}


def run_doctor(data_path: Path | None = None) -> HealthReport:
    """Examine the installation and check its numbers against results that are known exactly.

    Args:
        data_path: folder in which files of data sets are searched; None searches the usual places.

    Returns:
        What was found, the faults and their remedies. Nothing is downloaded, installed or written, except that compiled
        neurons, if numba is installed, are kept for later runs as always.
    """
    versions = {
        "mst": mst.__version__, "python": platform.python_version(), "system": platform.platform(),
        **{package: _version(package) for package in REQUIRED},
        "torch": torch.__version__,  # with its build, such as +cpu
    }  # fmt: skip
    devices = _devices()
    extras = tuple(
        ExtraFound(name, purpose, {package: _version(package) for package in packages})
        for name, (packages, purpose) in EXTRAS.items()
    )
    threads: dict[str, int | str | None] = {
        "torch": torch.get_num_threads(), "cores": usable_cores(), **{name: os.environ.get(name) for name in VARIABLES},
    }  # fmt: skip
    return HealthReport(
        versions,
        devices,
        threads,
        extras,
        {listed.info.name: listed.place for listed in list_datasets(data_path).datasets},
        check_numbers(tuple(devices)),
        (*_version_faults(versions), *_thread_faults(torch.get_num_threads(), usable_cores())),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    found = {"cpu": platform.processor() or platform.machine()}
    if torch.cuda.is_available():
        found |= {f"cuda:{number}": torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _version_faults(versions: dict[str, str | None]) -> Iterator[Fault]:
    if sys.version_info < LOWEST_PYTHON:
        lowest = ".".join(map(str, LOWEST_PYTHON))
        yield Fault(f"Python {versions['python']} is older than {lowest}", f"make an environment with Python {lowest}")
    for package, lowest in REQUIRED.items():
        found = versions[package]
        if found is None:
            yield Fault(f"{package} is not installed", f'pip install "{package}>={lowest}"')
        elif _release(found) < _release(lowest):
            yield Fault(f"{package} {found} is older than {lowest}", f'pip install "{package}>={lowest}"')


def _release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.14.0+cpu -> (2, 14, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _thread_faults(threads: int, cores: int) -> Iterator[Fault]:
    if threads > cores:
        yield Fault(
            f"PyTorch computes on {threads} threads, but this process may use {cores} cores; threads then wait for "
            "each other",
            f"set OMP_NUM_THREADS={cores}",
        )
