"""Records of runs: JSON files that state the settings, the data and the results."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mst.checkpoints import HUB, pinned_reference
from mst.files import write_json
from mst.measure import (
    ALPHA_WATTS,
    AXES,
    BudgetRow,
    Cost,
    EnergyEstimate,
    Part,
    Verdict,
    budget_by,
    budget_by_step,
    mask_savings,
)
from mst.neurons import kernels
from mst.simulation import SimulationResult

PACKAGES = (
    "masked-spiking-transformer",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "numpy",
    "safetensors",
    "numba",
)


REFERENCES = ("checkpoint", "network", "init_from", "teacher")
"""Options that name a checkpoint."""

RECORD_FILE = "run_record.json"
"""The record of a run, in its output folder."""


def run_record(verb: str, settings: Mapping[str, Any], results: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """The record of one command: its resolved settings, the versions it ran with, and its results.

    Args:
        verb: of the command line.
        settings: every option, defaults included. A checkpoint on the hub is recorded with the commit that was read.
        results: figures.
        facts: further entries (seed, device, data fingerprint).
    """
    return {
        "verb": verb,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": _with_commits(settings),
        "results": results,
        "threads": torch.get_num_threads(),
        "neurons_on_cpu": kernels.description(),
        **facts,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "machine": platform.machine(),
    }


def _with_commits(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: pinned_reference(Path(value)) if name in REFERENCES and str(value).startswith(HUB) else value
        for name, value in settings.items()
    }


def write_run_record(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write `run_record.json`, or `<verb>_run_record.json` where another verb has left its own in `folder`."""
    path = folder / RECORD_FILE
    try:
        other = json.loads(path.read_text(encoding="utf-8")).get("verb") != record["verb"]
    except (OSError, ValueError, AttributeError):
        other = False
    return write_json(folder / f"{record['verb']}_run_record.json" if other else path, record)


def simulation_record(result: SimulationResult, ann_accuracy: float | None, **facts: Any) -> dict[str, Any]:
    """`simulation.json`: accuracy at every step, spikes and firing rate per site. Accuracies are fractions.

    Args:
        result: of the simulation.
        ann_accuracy: of the ANN on the same images.
        facts: further entries (checkpoint, data set, masking ratio).
    """
    rates, counts, dropped = result.firing_rates, result.spike_counts, result.dropped_counts
    return {
        **facts,
        "coding": result.coding,
        "num_steps": result.num_steps,
        "num_images": result.num_images,
        "dtype": result.dtype,
        "sum_dtype": result.sum_dtype,
        "seed": result.seed,
        "ann_accuracy": ann_accuracy,
        "accuracy": None if result.accuracy is None else result.accuracy.tolist(),
        "top5_accuracy": None if result.top5_accuracy is None else result.top5_accuracy.tolist(),
        "firing_rate": result.firing_rate,
        "spikes_per_image": result.spikes_per_image,
        "spikes_per_image_after_step": result.spikes_per_image_after_step.tolist(),
        "mean_steps": result.mean_steps,
        "settled": None if result.settled_at is None else _settling(result),
        "early_exit": result.early_exit,
        "seconds": result.seconds,
        "sites": {
            name: {
                "firing_rate": rates[name],
                "spikes": counts[name],
                "dropped_spikes": dropped[name],
                "threshold": site.threshold,
                "num_neurons": site.num_neurons,
            }
            for name, site in result.sites.items()
        },
    }


def _settling(result: SimulationResult) -> dict[str, Any]:
    """Number of images that settled, and their steps."""
    assert result.settled_at is not None
    settled = result.settled_at[result.settled_at > 0]
    mean, last = (settled.double().mean().item(), int(settled.max())) if len(settled) else (None, None)
    return {"images": len(settled), "mean_steps": mean, "most_steps": last}


def measurement_record(
    estimate: EnergyEstimate, result: SimulationResult, verdict: Verdict | None = None
) -> dict[str, Any]:
    """`measurement.json`: operations and energy per image, for SNN and ANN, per operation, per site and total.

    docs/energy.md describes its fields.

    Args:
        estimate: of the SNN.
        result: of its simulation.
        verdict: on it, if there is one.
    """
    rates = result.firing_rates
    return {
        "unit": {"energy_pj": "pJ per image", "num_macs": "per image", "num_acs": "per image"},
        "num_steps": result.num_steps,
        "num_images": result.num_images,
        "energy_pj": {"snn": estimate.snn.energy_pj, "ann": estimate.ann.energy_pj},
        "num_macs": {"snn": estimate.snn.num_macs, "ann": estimate.ann.num_macs},
        "num_acs": {"snn": estimate.snn.num_acs, "ann": estimate.ann.num_acs},
        "energy_ratio": estimate.ratio,
        "firing_rate": result.firing_rate,
        "spikes_per_image": result.spikes_per_image,
        "coding": result.coding,
        "mean_steps": result.mean_steps,
        "early_exit": result.early_exit,
        "snn_energy_pj_after_step": estimate.snn_energy_pj_per_step,
        "whole_energy_pj_after_step": estimate.whole_energy_pj_per_step,
        "operations": {
            row.name: {
                "kind": row.kind,
                "driven_by": row.sources,
                "by_events": row.by_events,
                "by_changes": row.by_changes,
                "snn": _cost(row.snn),
                "ann": _cost(row.ann),
            }
            for row in estimate.operations
        },
        "functions": {
            row.name: {
                "kind": row.kind,
                "function": row.function,
                "operation": row.operation or None,
                "evaluations": row.evaluations,
                "snn": _elementary(row.snn),
                "ann": _elementary(row.ann),
            }
            for row in estimate.functions
        },
        "parts": {
            "maps_and_products": _part(estimate.maps_and_products),
            "functions": _part(estimate.all_functions),
            "whole": _part(estimate.whole),
        },
        "sites": {
            name: {"firing_rate": rates.get(name), "snn": _cost(cost.snn), "ann": _cost(cost.ann)}
            for name, cost in estimate.sites.items()
        },
        "spikes_per_neuron": result.spikes_per_neuron,
        "alpha_watts": ALPHA_WATTS.price(result),
        "verdict": None if verdict is None else verdict_record(verdict),
        "budget": None if estimate.unpriced else budget_record(estimate, result),
        "unpriced": estimate.unpriced,
        "constants": estimate.cost_model.to_dict(),
        "assumptions": estimate.assumptions,
    }


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values: energies of baselines and ratios, thresholds, and the sentence."""
    return {
        "text": str(verdict),
        "baselines": {
            each.name: {
                "snn_energy_pj": each.snn_energy_pj,
                "ann_energy_pj": each.ann_energy_pj,
                "energy_ratio": each.ratio,
                "note": each.note,
            }
            for each in verdict.baselines
        },
        "spikes_per_neuron": verdict.spikes_per_neuron,
        "spikes_per_synapse": verdict.spikes_per_synapse,
        "thresholds": [
            {
                "spikes_per_neuron": each.spikes_per_neuron,
                "is_below": each in verdict.below,
                "source": each.source,
                "condition": each.condition,
            }
            for each in verdict.thresholds
        ],
        "depends_on": verdict.depends_on,
    }


def budget_record(estimate: EnergyEstimate, result: SimulationResult) -> dict[str, Any]:
    """Where energy goes: every row with its counts, and sums along each axis, in pJ per image."""
    rows, images = estimate.budget, result.num_images
    sent = {
        name: (int(each.sent_per_step.sum()) / images, int(each.dropped_per_step.sum()) / images)
        for name, each in result.sites.items()
    }
    axes = {f"by_{axis}": budget_by(rows, axis) for axis in AXES}
    return {
        "total": _part(estimate.everything),
        **{
            name: {label: {"snn_energy_pj": ours, "ann_energy_pj": theirs} for label, (ours, theirs) in sums.items()}
            for name, sums in axes.items()
        },
        "snn_energy_pj_by_step": budget_by_step(rows, "kind"),
        "masks": [asdict(each) for each in mask_savings(rows, sent)],
        "rows": [_budget_row(row) for row in rows],
    }


def _budget_row(row: BudgetRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.counted.kind,
        "stage": row.counted.stage,
        "sources": dict(row.counted.sources),
        "snn": _elementary(row.snn),
        "ann": _elementary(row.ann),
    }


def _cost(cost: Cost) -> dict[str, float]:
    return {"num_macs": cost.num_macs, "num_acs": cost.num_acs, "energy_pj": cost.energy_pj}


def _elementary(cost: Cost) -> dict[str, Any]:
    return {"numbers": dict(cost.operations.counts), "energy_pj": cost.energy_pj}


def _part(part: Part) -> dict[str, float | None]:
    ratio = part.ratio if part.ann.energy_pj else None
    return {"snn_energy_pj": part.snn.energy_pj, "ann_energy_pj": part.ann.energy_pj, "energy_ratio": ratio}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    """Commit of the checkout this package runs from, "+" if it has been changed since; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        subprocess.run(  # is it this package's checkout, or does a virtual environment lie inside another project's?
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=folder, capture_output=True, timeout=10, check=True,
        )  # fmt: skip
        head = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() or None
