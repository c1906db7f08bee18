"""One simulation of each network and coding, priced by every cost model: the SNN beside its ANNs.

    python benchmarks/energy_models.py --data-path FOLDER --images 200 [CHECKPOINT ...]
    python benchmarks/energy_models.py CHECKPOINT --data-path FOLDER --schedules free weighted --bursts 1 4

The second form compares lossless codings, one line each.

Prints Markdown. The 22 nm models have no MAC; of them the table gives the energy of a MAC above which the SNN spends
less than its dense ANN of 8 bits.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from mst.errors import InputError
from mst.experiments import CheckpointOptions, CodingOptions, OpenedRun, StepOptions, coding_label, run_simulation
from mst.experiments.opening import open_checkpoint
from mst.measure import (
    ALPHA_WATTS,
    COST_MODELS,
    MAC,
    EnergyEstimate,
    Verdict,
    break_even_mac,
    budget_by,
    count_effective_macs,
    estimate_energy,
    verdict_on,
)
from mst.simulation import SimulationResult

NETWORKS = tuple(f"zoo:fashion-mnist-{name}" for name in ("mst", "mst-masked", "mst-4-bits", "resnet18", "vit-6-bits"))
MODELS = (
    "45nm-fp32", "45nm-fp32-tables", "45nm-fp16", "45nm-int8", "45nm-memory", "45nm-memory-int8", "45nm-sram",
    "45nm-sram-int8", "22nm-sparse", "22nm-dense",
)  # fmt: skip
COLUMNS = ("ANN", "zeros skipped", "quantised ANN (int8)", "both with 8-bit weights")


def main() -> None:
    """Measure the networks named, or those above, under both codings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=NETWORKS)
    parser.add_argument("--data-path", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rate-steps", type=int, default=64)
    parser.add_argument("--schedules", nargs="+", default=[])
    parser.add_argument("--bursts", nargs="+", type=int, default=[4])
    options = parser.parse_args()
    if options.schedules:
        compare_schedules(options)
        return
    codings = (
        (CodingOptions(), StepOptions(options.rate_steps)),
        (CodingOptions("lossless", burst=4, schedule="free"), StepOptions(100)),
    )
    for checkpoint in options.checkpoints:
        opened = opened_at(checkpoint, options)
        effective: Mapping[str, float] | None = None
        for coding, steps in codings:
            try:
                run = run_simulation(opened, steps, coding)
            except InputError as error:
                print(f"\n### {checkpoint}, {coding_label(coding)}\n\nnot converted: {error.problem.splitlines()[0]}")
                continue
            operations = [count.operation for count in run.result.operations]
            if effective is None:
                effective = count_effective_macs(opened.model, operations, opened.images, batch_size=50)
            head(checkpoint, coding_label(run.coding), run.result, run.ann_accuracy, run.snn_accuracy)
            for name in MODELS:
                print(row(name, run.result, effective), flush=True)


def opened_at(checkpoint: str, options: argparse.Namespace) -> OpenedRun:
    """A network and its images."""
    size = CheckpointOptions(
        checkpoint, data_path=options.data_path, max_images=options.images, device="cpu", batch_size=50
    )
    return open_checkpoint(size)


def compare_schedules(options: argparse.Namespace) -> None:
    """A line for each schedule and burst: steps, spikes, updates, and energy as a multiple of the dense ANN's."""
    models = ("45nm-fp32", "45nm-memory", "45nm-sram")
    for checkpoint in options.checkpoints:
        opened = opened_at(checkpoint, options)
        print(f"\n### {checkpoint}\n\n| schedule | burst | steps | spikes per neuron | neurons, arithmetic |", end="")
        print(f" {' | '.join(models)} |\n|{'---|' * (5 + len(models))}")
        for schedule in options.schedules:
            for burst in options.bursts:
                result = run_simulation(opened, StepOptions(400), CodingOptions("lossless", burst, schedule)).result
                estimates = [estimate_energy(result, name) for name in models]
                neurons = budget_by(estimates[0].budget, "kind")["neurons"][0] / estimates[0].everything.snn.energy_pj
                ratios = " | ".join(f"{each.everything.ratio:.2f}" for each in estimates)
                counts = f"{result.mean_steps:.1f} | {result.spikes_per_neuron:.2f} | {neurons:.0%}"
                print(f"| {schedule} | {burst} | {counts} | {ratios} |", flush=True)


def head(checkpoint: Path | str, coding: str, result: SimulationResult, ann: float, snn: float) -> None:
    verdict = verdict_on(estimate_energy(result), result)
    print(
        f"\n### {checkpoint}, {coding}\n\n{result.num_images} images, {result.mean_steps:.1f} steps, ANN {ann:.1%}, "
        f"SNN {snn:.1%}; {result.spikes_per_neuron:.2f} spikes per neuron, {verdict.spikes_per_synapse:.2f} per "
        f"synapse; {ALPHA_WATTS.price(result) / 1e6:.3g} M alpha W\n\n"
        f"| cost model | SNN | {' | '.join(f'x {name}' for name in COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}"
    )


def row(name: str, result: SimulationResult, effective: Mapping[str, float]) -> str:
    model = COST_MODELS[name]
    try:
        if model.knows(MAC):
            estimate = estimate_energy(result, model)
            return _priced(name, estimate, verdict_on(estimate, result, effective))
        estimate = estimate_energy(result, model.with_constants({MAC: 1.0}))
    except InputError as error:
        return f"| {name} | refused: {error.what.split(', only for')[0]} | | | | |"
    even = break_even_mac(estimate)
    words = "never less than its ANN" if even is None else f"less than its ANN if a MAC costs more than {even:.3g} pJ"
    return f"| {name} | {words} | | | | |"


def _priced(name: str, estimate: EnergyEstimate, verdict: Verdict) -> str:
    ratios = [each.ratio for each in verdict.baselines]
    cells = [f"{ratio:.2f}" if ratio is not None else "" for ratio in ratios]
    cells += [""] * (len(COLUMNS) - len(cells))
    return f"| {name} | {estimate.everything.snn.energy_pj * 1e-6:.1f} µJ | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
