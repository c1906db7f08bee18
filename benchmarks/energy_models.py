"""One simulation of each network and coding, priced by every cost model: the SNN beside its ANNs.

    python benchmarks/energy_models.py --data-path FOLDER --images 1000 [CHECKPOINT ...] [--output FOLDER]
    python benchmarks/energy_models.py CHECKPOINT --rate-steps 0 --schedules free weighted --bursts 1 4

Prints Markdown; --output also writes energy_models.json, which holds accuracy and spikes at every step too. The 22 nm
models have no MAC; of them the table gives the energy of a MAC above which the SNN spends less than its dense ANN of
8 bits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mst.errors import InputError
from mst.experiments import (
    CheckpointOptions,
    CodingOptions,
    OpenedRun,
    SimulationRun,
    StepOptions,
    coding_label,
    run_simulation,
)
from mst.experiments.opening import open_checkpoint
from mst.experiments.records import run_record
from mst.files import write_json
from mst.measure import (
    ALPHA_WATTS,
    COST_MODELS,
    MAC,
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
    """Measure the networks named, or those above, under each coding."""
    options = parse()
    found: list[dict[str, Any]] = []
    for checkpoint in options.checkpoints:
        found += measured(checkpoint, options)
    if options.output is not None:
        settings = {"images": options.images, "batch_size": options.batch_size, "seed": 0}
        record = run_record("energy_models", settings, {"runs": found})
        write_json(options.output / "energy_models.json", record)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=NETWORKS)
    parser.add_argument("--data-path", type=Path, help="folder with the data set's files")
    parser.add_argument("--images", type=int, default=200, help="number of test images, the first ones")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rate-steps", type=int, default=64, help="T of rate coding; 0 leaves it out")
    parser.add_argument("--schedules", nargs="*", default=["free"], help="of lossless coding")
    parser.add_argument("--bursts", nargs="*", type=int, default=[4], help="a lossless run for each schedule and burst")
    parser.add_argument("--output", type=Path, help="folder for the record")
    return parser.parse_args()


def variants(options: argparse.Namespace) -> Iterator[tuple[CodingOptions, StepOptions]]:
    """The codings to run; lossless runs end when all images have settled."""
    if options.rate_steps:
        yield CodingOptions(), StepOptions(options.rate_steps)
    for schedule in options.schedules:
        for burst in options.bursts:
            yield CodingOptions("lossless", burst, schedule), StepOptions(400)


def measured(checkpoint: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A network under each coding, printed as soon as it is known."""
    size = CheckpointOptions(
        checkpoint, data_path=options.data_path, max_images=options.images, device="cpu", batch_size=options.batch_size
    )
    opened = open_checkpoint(size)
    effective: Mapping[str, float] | None = None
    for coding, steps in variants(options):
        try:
            run = run_simulation(opened, steps, coding)
        except InputError as error:
            print(f"\n### {checkpoint}, {coding_label(coding)}\n\nnot converted: {error.problem.splitlines()[0]}")
            continue
        if effective is None:
            operations = [count.operation for count in run.result.operations]
            effective = count_effective_macs(opened.model, operations, opened.images, batch_size=options.batch_size)
        head(checkpoint, coding_label(run.coding), run.result, run.ann_accuracy, run.snn_accuracy)
        prices = {name: price(name, run.result, effective) for name in MODELS}
        for name, found in prices.items():
            print(line(name, found), flush=True)
        yield facts(checkpoint, opened, run) | {"cost_models": prices}


def facts(checkpoint: str, opened: OpenedRun, run: SimulationRun) -> dict[str, Any]:
    """What the run is, and its accuracy, steps and spikes."""
    result = run.result
    assert result.accuracy is not None
    same = (result.logits.argmax(1) == run.evaluation.logits.argmax(1)).sum()
    last = int(result.steps_taken.max())
    kinds = budget_by(estimate_energy(result).budget, "kind")
    return {
        "checkpoint": checkpoint,
        "dataset": opened.facts()["dataset"],
        "label": coding_label(run.coding),
        **{name: value for name, value in asdict(run.coding).items() if name in ("coding", "burst", "schedule")},
        "num_parameters": sum(parameter.numel() for parameter in opened.model.parameters()),
        "num_neurons": sum(site.num_neurons for site in result.sites.values()),
        "num_images": result.num_images,
        "num_steps": result.num_steps,
        "mean_steps": result.mean_steps,
        "settled_images": result.num_settled,
        "ann_accuracy": run.ann_accuracy,
        "snn_accuracy": run.snn_accuracy,
        "same_answers": int(same),
        "largest_difference": float((result.logits - run.evaluation.logits).abs().max()),
        "quanta_per_image": run.quanta_per_image,
        "spikes_per_image": result.spikes_per_image,
        "spikes_per_neuron": result.spikes_per_neuron,
        "spikes_per_synapse": verdict_on(estimate_energy(result), result).spikes_per_synapse,
        "alpha_watts": ALPHA_WATTS.price(result),
        "snn_energy_pj_by_kind": {kind: ours for kind, (ours, _) in kinds.items()},
        "accuracy_at_step": result.accuracy.tolist()[:last],
        "spikes_at_step": result.spikes_per_image_after_step.tolist()[:last],
    }


def head(checkpoint: Path | str, coding: str, result: SimulationResult, ann: float, snn: float) -> None:
    """Print the heading of a table of cost models."""
    verdict = verdict_on(estimate_energy(result), result)
    print(
        f"\n### {checkpoint}, {coding}\n\n{result.num_images} images, {result.mean_steps:.1f} steps, ANN {ann:.1%}, "
        f"SNN {snn:.1%}; {result.spikes_per_neuron:.2f} spikes per neuron, {verdict.spikes_per_synapse:.2f} per "
        f"synapse; {ALPHA_WATTS.price(result) / 1e6:.3g} M alpha W\n\n"
        f"| cost model | SNN | {' | '.join(f'x {name}' for name in COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}"
    )


def price(name: str, result: SimulationResult, effective: Mapping[str, float]) -> dict[str, Any]:
    """The SNN's energy and its multiples of its ANNs by a cost model; where it has no MAC, the energy of one above
    which the SNN spends less (null: it never does); or why the model refuses."""
    model = COST_MODELS[name]
    try:
        if model.knows(MAC):
            estimate = estimate_energy(result, model)
            ratios = [each.ratio for each in verdict_on(estimate, result, effective).baselines]
            return {"snn_energy_pj": estimate.everything.snn.energy_pj, "ratios": ratios}
        estimate = estimate_energy(result, model.with_constants({MAC: 1.0}))
    except InputError as error:
        return {"refused": error.what.split(", only for")[0]}
    return {"break_even_mac_pj": break_even_mac(estimate)}


def line(name: str, found: Mapping[str, Any]) -> str:
    """A row of the table below `head`."""
    if "ratios" in found:
        cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in found["ratios"]]
        cells += [""] * (len(COLUMNS) - len(cells))
        return f"| {name} | {found['snn_energy_pj'] * 1e-6:.1f} µJ | {' | '.join(cells)} |"
    if "refused" in found:
        return f"| {name} | refused: {found['refused']} | | | | |"
    even = found["break_even_mac_pj"]
    words = "never less than its ANN" if even is None else f"less than its ANN if a MAC costs more than {even:.3g} pJ"
    return f"| {name} | {words} | | | | |"


def row(name: str, result: SimulationResult, effective: Mapping[str, float]) -> str:
    """A row of the table below `head`, of a result."""
    return line(name, price(name, result, effective))


if __name__ == "__main__":
    main()
