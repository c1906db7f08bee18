"""`mst measure`: what a spiking network costs, beside the ANN it came from."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.options import CheckpointOptions, CodingOptions, EnergyOptions, StepOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar

SUMMARY = (
    "energy_pj", "num_macs", "num_acs", "energy_ratio", "parts", "firing_rate", "verdict", "alpha_watts", "neurobench",
)  # fmt: skip
"""Figures of measurement.json that the run record repeats."""


def measure(
    checkpoint: CheckpointOptions,
    steps: StepOptions,
    coding: CodingOptions,
    energy: EnergyOptions,
    budget: bool = False,
    output: Path = Path("runs/measure"),
) -> None:
    """Count the operations of a spiking network from its recorded spikes, and price them.

    Prints every operation with what drives it, every function between the sites with how often it is computed, and the
    totals of SNN and ANN. A verdict compares the SNN with its ANN, dense, with zeros skipped and quantised, and with
    published thresholds. Writes measurement.json, energy.png, firing_rates.png and run_record.json.

    Example: mst measure runs/masked/last.safetensors --time-steps 32 --max-images 100

    Args:
        checkpoint: the network and the images.
        steps: how long to simulate.
        coding: how spikes carry activations.
        energy: what an operation costs.
        budget: Show where energy goes: by kind of row and operation, part of the network, site and step, and what masks
            save. Writes budget.png too.
        output: Folder for the results.
    """
    from mst.distributed import is_main_process
    from mst.experiments import measurement_record, run_measurement, run_record, write_run_record
    from mst.files import prepare_folder, write_json
    from mst.report import (
        budget_figure,
        budget_tables,
        energy_bars,
        energy_summary,
        energy_table,
        firing_rates,
        function_table,
        operation_table,
        run_label,
        run_title,
    )

    prepare_folder(output)
    with progress_bar() as progress:
        run = run_measurement(checkpoint, steps, coding, energy, progress=progress)
    if not is_main_process():
        return
    simulation, estimate = run.simulation, run.estimate
    label, result, facts = run_label(simulation), simulation.result, simulation.opened.facts()
    console.print(operation_table(estimate))
    if estimate.functions:
        console.print(function_table(estimate))
    console.print(energy_table({label: estimate}))
    figures = []
    if budget and not estimate.unpriced:
        console.print(*budget_tables(estimate, result))
        figures = [budget_figure(estimate, output / "budget.png", run_title(simulation, with_steps=True))]
    for line in energy_summary(run):
        print_line(line)
    content = measurement_record(estimate, result, run.verdict) | simulation.facts()
    content |= {
        "ann_accuracy": simulation.ann_accuracy,
        "snn_accuracy": simulation.snn_accuracy,
        "neurobench": run.neurobench,
    }
    settings = {**flatten(checkpoint, steps, coding, energy), "budget": budget, "output": output}
    summary = {name: content[name] for name in SUMMARY}
    record = run_record("measure", settings, summary, seed=steps.seed, **facts)
    print_files(
        write_json(output / "measurement.json", content),
        energy_bars({label: estimate}, output / "energy.png", run_title(simulation, with_steps=True)),
        *figures,
        firing_rates(result.firing_rates, result.firing_rate, output / "firing_rates.png"),
        write_run_record(output, record),
    )
