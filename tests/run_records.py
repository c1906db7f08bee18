"""Output folders of verbs, made up by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mst.experiments import (
    CheckpointOptions,
    CodingOptions,
    EnergyOptions,
    RunTraces,
    StepOptions,
    TracedImage,
    write_traces,
)
from mst.experiments.traces import TRACES_FILE
from mst.files import write_json
from mst.options import flatten
from mst.simulation import ImageTrace, SiteTrace

ZOO = Path("zoo:digits-mst")

VERDICT = {
    "text": "Spends 0.28x its fp32 ANN", "spikes_per_neuron": 1.0,
    "baselines": {"fp32 ANN": {"snn_energy_pj": 13e6, "ann_energy_pj": 47e6, "energy_ratio": 0.2766, "note": "dense"}},
    "thresholds": [{"spikes_per_neuron": 0.29, "is_below": False, "source": "Yan", "condition": "T = 5"}],
}  # fmt: skip


def write_run(folder: Path, coding: str = "rate", **changes: Any) -> Path:
    """What `mst simulate` leaves behind, with two sites and four time steps."""
    options = CodingOptions(coding, burst=4) if coding == "lossless" else CodingOptions()  # type: ignore[arg-type]
    settings = flatten(CheckpointOptions(ZOO, max_images=8), StepOptions(time_steps=4), options)
    site = {"firing_rate": 0.25, "spikes": 64, "dropped_spikes": 0, "threshold": 1.5, "num_neurons": 8}
    results = facts() | {
        "options": options, "coding": coding, "num_steps": 4, "num_images": 8, "ann_accuracy": 0.875,
        "accuracy": [0.25, 0.5, 0.875, 0.875], "firing_rate": 0.25, "spikes_per_image": 16.0, "mean_steps": 3.5,
        "early_exit": None, "sites": {"first": site, "second": site | {"threshold": None}},
    }  # fmt: skip
    write_json(folder / "simulation.json", results | changes)
    write_json(folder / "run_record.json", record("simulate", settings | {"settled": False, "output": folder}))
    return folder


def add_traces(folder: Path, sends_changes: bool = False, class_names: tuple[str, ...] = ("bag", "boot")) -> Path:
    """What `mst simulate --trace-sites` adds to the run of `write_run`: two images, one site, one map of attention."""
    sent = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.0 if sends_changes else 1.0, 0.0]])
    site = SiteTrace(torch.tensor([0, 3, 6]), 8, sent, 0.25 + 0.5 * sent)
    maps = torch.arange(16.0).view(2, 2, 2, 2)
    images = [
        TracedImage(
            ImageTrace(index, torch.tensor([[0.0, 1.0], [2.0, 1.0], [3.0, 1.5]]), {"first": site}, {"scores": maps}),
            torch.zeros(4, 4, dtype=torch.uint8), 1 - index, torch.tensor([3.0, 1.25]),
        )
        for index in (0, 1)
    ]  # fmt: skip
    write_traces(folder / TRACES_FILE, RunTraces(tuple(images), class_names, sends_changes, ("Cut.",), 0.125))
    change(folder / "simulation.json", traces={"file": TRACES_FILE})
    return folder


def write_measurement(folder: Path, name: str = "run_record.json", **changes: Any) -> Path:
    """What `mst measure` leaves behind after the run of `write_run`."""
    settings = flatten(
        CheckpointOptions(ZOO, max_images=8), StepOptions(time_steps=4), CodingOptions(), EnergyOptions()
    )
    snn, ann = ({"num_macs": m, "num_acs": a, "energy_pj": e} for m, a, e in ((1.0, 9.0, 12.7e6), (10.0, 0.0, 46e6)))
    results = facts() | {
        "options": CodingOptions(), "coding": "rate", "num_steps": 4, "num_images": 8, "mean_steps": 3.5,
        "energy_pj": {"snn": 12.7e6, "ann": 46e6}, "num_macs": {"snn": 1, "ann": 10}, "num_acs": {"snn": 9, "ann": 0},
        "energy_ratio": 12.7 / 46, "snn_energy_pj_after_step": [3e6, 6e6, 9e6, 12.7e6], "ann_accuracy": 0.875,
        "snn_accuracy": 0.875, "firing_rate": 0.25, "spikes_per_image": 16.0,
        "operations": {"conv": {"kind": "convolution", "driven_by": ["first"], "snn": snn, "ann": ann}},
        "parts": {"whole": {"snn_energy_pj": 13e6, "ann_energy_pj": 47e6, "energy_ratio": 0.2766}},
        "sites": {"first": {"firing_rate": 0.25, "snn": snn, "ann": ann}},
        "constants": {"mac_pj": 4.6, "ac_pj": 0.9, "source": "Horowitz"}, "assumptions": ["Zeros save nothing."],
        "verdict": VERDICT,
    }  # fmt: skip
    write_json(folder / "measurement.json", results | changes)
    write_json(folder / name, record("measure", settings | {"output": folder}))
    return folder


def write_diagnosis(folder: Path) -> Path:
    """What `mst diagnose` leaves behind."""
    site = {
        "site": "first", "own_error": 0.02, "own_effect": 0.01, "lowest_level": 0, "highest_level": 16,
        "lowest_used": 0, "highest_used": 9,
    }  # fmt: skip
    trial = {"change": "levels", "num_levels": 31, "output": {"error": 0.125, "agreement": 1.0}}
    codings = [
        {"coding": "rate", "num_images": 4, "agreement": [0.5, 1.0], "num_settled": None},
        {"coding": "lossless", "refused": ["a norm of all images"]},
    ]
    diagnosis = {"num_images": 4, "reference": "clipped", "sites": [site], "trials": [trial], "codings": codings}
    write_json(folder / "diagnosis.json", facts() | {"diagnosis": diagnosis})
    write_json(folder / "run_record.json", record("diagnose", {"checkpoint": ZOO}))
    return folder


def facts() -> dict[str, Any]:
    """Entries that identify a network and its images."""
    return {"checkpoint": ZOO, "dataset": "digits", "masking_ratio": 0.0, "data_fingerprint": "ab" * 32, "slices": None}


def record(verb: str, settings: dict[str, Any], **results: Any) -> dict[str, Any]:
    """A run record."""
    return facts() | {
        "verb": verb, "settings": settings, "results": results, "seed": 0, "finished": "2026-11-27T12:00:00+00:00",
        "versions": {"python": "3.11.7", "torch": "2.14.1", "numba": "not installed"}, "git_commit": "0123456789" * 4,
    }  # fmt: skip


def change(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    write_json(path, json.loads(path.read_text()) | changes)
