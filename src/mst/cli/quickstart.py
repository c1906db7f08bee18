"""`mst quickstart`: the whole path on digits, as images or as events, in a few minutes on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mst.files import write_json
from mst.measure import EnergyEstimate, estimate_energy
from mst.report import (
    accuracy_table,
    accuracy_vs_time,
    energy_bars,
    energy_table,
    firing_rates,
    measurement_record,
    run_record,
    simulation_record,
)
from mst.simulation import SimulationResult

from .common import console, open_run, prepare_output, print_files
from .parser import run_verb
from .recordings import draw_first_recording
from .spiking_run import CodingOptions, run_both
from .train import train


@dataclass(frozen=True)
class _Run:
    """recipe: what is trained, once.  folder: of this run's files.  slices, options: as for `mst simulate`."""

    recipe: str
    folder: str
    slices: int | None = None
    options: CodingOptions = CodingOptions()  # noqa: RUF009  frozen


def _runs(events: bool, time_steps: int) -> dict[str, _Run]:
    """Label -> what is trained and how it is simulated."""
    if events:
        recipe, label = "digits-dvs-mst", f"{time_steps} slices over time"
        return {
            "whole recording": _Run(recipe, "whole-recording"),
            label: _Run(recipe, label.replace(" ", "-"), time_steps),
        }
    lossless = CodingOptions("lossless", burst=4)
    return {
        "p = 0": _Run("digits-mst", "digits-mst"),
        "p = 0, lossless": _Run("digits-mst", "digits-mst-lossless", options=lossless),
        "p = 0.75": _Run("digits-mst-masked", "digits-mst-masked"),
    }


def quickstart(output: Path | None = None, events: bool = False, time_steps: int = 64, seed: int = 0) -> None:
    """Train an MST on digits with masking ratios 0 and 0.75, convert, simulate and measure both; or on events.

    The unmasked one is also run under lossless coding, where the SNN ends at its ANN's very answers.

    Prints accuracy against time steps and energy, and writes figures and records. Nothing is downloaded.

    Args:
        output: folder for everything; without it runs/quickstart, or the next free number of it.
        events: instead train once on digits-dvs, digits as a simulated event camera sees them, and simulate the network
            on whole recordings and on slices over time.
        time_steps: T.
        seed: of the masks in evaluation and simulation.
    """
    runs = _runs(events, time_steps)
    settings = {"output": output, "events": events, "time_steps": time_steps, "seed": seed}
    output = prepare_output(output or _free_folder(Path("runs/quickstart")))
    results: dict[str, SimulationResult] = {}
    ann_accuracies: dict[str, float] = {}
    estimates: dict[str, EnergyEstimate] = {}
    written: list[Path] = []
    for label, run in runs.items():
        trained = output / run.recipe
        folder = output / run.folder
        if not trained.exists():
            console.rule(f"{run.recipe}: training" + ("" if events else f", {label}"))
            run_verb({"train": train}, ["train", "--config", run.recipe, "--output", str(trained)])
        opened = open_run(trained / "last.safetensors", None, None, 120, None, None, "cpu")
        simulated = run_both(opened, time_steps, run.options, None, seed, run.slices)
        prepare_output(folder)
        facts = opened.facts() | {"slices": run.slices}
        if run.slices is None:
            written += draw_first_recording(opened.data, output)
        result = results[label] = simulated.result
        ann_accuracies[label] = simulated.ann_accuracy
        estimates[label] = estimate_energy(result)
        written += [
            write_json(folder / "simulation.json", simulation_record(result, simulated.ann_accuracy, **facts)),
            write_json(folder / "measurement.json", measurement_record(estimates[label], result) | facts),
            firing_rates(
                result.firing_rates,
                result.firing_rate,
                folder / "firing_rates.png",
                f"Firing rate by site, {label}",
            ),
        ]
    console.rule("results")
    console.print(accuracy_table(results, ann_accuracies))
    console.print(energy_table(estimates))
    figures = {label: _figures(results[label], ann_accuracies[label], estimates[label]) for label in runs}
    curves = {label: result.accuracy.tolist() for label, result in results.items() if result.accuracy is not None}
    name = "digits-dvs" if events else "digits"
    title = f"{name}, {next(iter(results.values())).num_images} test images"
    length = f"T = {time_steps}" if events else f"T = {time_steps}, lossless until settled"
    first_of = {run.recipe: label for label, run in reversed(runs.items())}  # runs of one network have one ANN
    of_each_network = {label: ann_accuracies[label] for label in runs if label in first_of.values()}
    written += [
        accuracy_vs_time(curves, of_each_network, output / "accuracy_vs_time.png", title),
        energy_bars(estimates, output / "energy.png", f"{name}, {length}"),
        write_json(
            output / "run_record.json",
            run_record("quickstart", settings, figures, seed=seed),
        ),
    ]
    print_files(*written)


def _free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3, ... that does not exist."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _figures(result: SimulationResult, ann_accuracy: float, estimate: EnergyEstimate) -> dict[str, float]:
    assert result.accuracy is not None
    return {
        "ann_accuracy": ann_accuracy,
        "snn_accuracy": float(result.accuracy[-1]),
        "spikes_per_image": result.spikes_per_image,
        "firing_rate": result.firing_rate,
        "mean_steps": result.mean_steps,
        "snn_energy_pj": estimate.snn.energy_pj,
        "ann_energy_pj": estimate.ann.energy_pj,
    }
