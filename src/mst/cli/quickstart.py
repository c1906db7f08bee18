"""`mst quickstart`: the whole path on digits, as images or as events, in a few minutes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mst.experiments.options import CheckpointOptions, CodingOptions, StepOptions

from .beside import TrainingBeside, has_idle_core
from .display import console, print_files, progress_bar
from .train import EpochPrinter

if TYPE_CHECKING:
    from mst.experiments import MeasurementRun, TrainingOptions


@dataclass(frozen=True)
class _Run:
    """One row of the quickstart."""

    recipe: str
    """Recipe to train, once for all runs of one recipe."""

    folder: str
    """Name of the folder for this run's files."""

    steps: StepOptions
    """Time steps, slices and seed."""

    coding: CodingOptions = CodingOptions()  # noqa: RUF009  frozen
    """Coding of the simulation."""


def _runs(events: bool, steps: StepOptions) -> dict[str, _Run]:
    """Label -> recipe and kind of simulation."""
    if events:
        recipe, label = "digits-dvs-mst", f"{steps.time_steps} slices over time"
        in_slices = replace(steps, slices=steps.time_steps)
        return {
            "whole recording": _Run(recipe, "whole-recording", steps),
            label: _Run(recipe, label.replace(" ", "-"), in_slices),
        }
    lossless = CodingOptions("lossless", burst=4)
    return {
        "p = 0": _Run("digits-mst", "digits-mst", steps),
        "p = 0, lossless": _Run("digits-mst", "digits-mst-lossless", steps, lossless),
        "p = 0.75": _Run("digits-mst-masked", "digits-mst-masked", steps),
    }


def quickstart(output: Path | None = None, events: bool = False, time_steps: int = 64, seed: int = 0) -> None:
    """Train an MST on digits with masking ratios 0 and 0.75, convert, simulate and measure both; or on events.

    The unmasked one is also run under lossless coding, where the SNN ends at its ANN's own answers. Prints accuracy
    against time steps and energy, and writes figures and records. Nothing is downloaded. The networks are too small for
    several threads: where a second core is free, both are trained at the same time.

    Args:
        output: Folder for everything; by default runs/quickstart, or the next free number of it.
        events: Instead train once on digits-dvs, digits as a simulated event camera sees them, and simulate the
            network on whole recordings and on slices over time.
        time_steps: T.
        seed: Seed of the masks in evaluation and simulation.
    """
    from mst.files import prepare_folder

    output_folder = prepare_folder(output or _free_folder(Path("runs/quickstart")))
    measured: dict[str, MeasurementRun] = {}
    written: list[Path] = []
    runs = _runs(events, StepOptions(time_steps, seed=seed))
    trainings = _Trainings(output_folder, [run.recipe for run in runs.values()])
    with closing(trainings):
        for label, run in runs.items():
            trained = trainings.folder(run.recipe)
            if not trained.exists() or run.recipe in trainings.beside:
                console.rule(f"{run.recipe}: training" + ("" if events else f", {label}"))
                trainings.finish(run.recipe)
            measured[label] = _measure(trained, run)
            written += _write_run(measured[label], output_folder, run.folder, label)
    settings = {"output": output, "events": events, "time_steps": time_steps, "seed": seed}
    first_of = {run.recipe: label for label, run in reversed(runs.items())}  # runs of one network have one ANN
    written += _report(measured, tuple(first_of.values()), output_folder, settings)
    print_files(*written)


class _Trainings:
    """The trainings of a quickstart; where a core is idle, those after the first run beside it.

    Args:
        output: folder of the quickstart; each training has a folder in it.
        recipes: what to train, in the order in which the networks are needed.
    """

    def __init__(self, output: Path, recipes: Sequence[str]) -> None:
        self._output = output
        self.beside: dict[str, TrainingBeside] = {}
        others = [recipe for recipe in dict.fromkeys(recipes) if recipe != recipes[0]]
        if others and has_idle_core():
            self.beside = {recipe: TrainingBeside(_recipe(recipe), self.folder(recipe)) for recipe in others}

    def folder(self, recipe: str) -> Path:
        """Folder of a training."""
        return self._output / recipe

    def finish(self, recipe: str) -> None:
        """Train, or wait for the training that runs beside."""
        from mst.experiments import run_training

        options = _recipe(recipe)
        printer = EpochPrinter(options.train.epochs)
        if recipe in self.beside:
            self.beside[recipe].finish(printer)
            del self.beside[recipe]
            return
        with progress_bar() as progress:
            run_training(options, self.folder(recipe), progress=progress, on_epoch=printer)

    def close(self) -> None:
        """Stop what still runs."""
        for training in self.beside.values():
            training.stop()


def _recipe(name: str) -> TrainingOptions:
    from mst.experiments import TrainingOptions, load_recipe

    options = load_recipe(name)
    assert isinstance(options, TrainingOptions)
    return options


def _measure(trained: Path, run: _Run) -> MeasurementRun:
    from mst.experiments import run_measurement

    checkpoint = CheckpointOptions(trained / "last.safetensors", batch_size=120, device="cpu")
    with progress_bar() as progress:
        return run_measurement(checkpoint, run.steps, run.coding, progress=progress)


def _write_run(run: MeasurementRun, output: Path, name: str, label: str) -> list[Path]:
    """The files of one run."""
    from mst.experiments import first_recording, measurement_record, simulation_record
    from mst.files import prepare_folder, write_json
    from mst.report import draw_recording, firing_rates

    simulation, folder = run.simulation, prepare_folder(output / name)
    result, facts = simulation.result, simulation.opened.facts() | {"slices": simulation.steps.slices}
    recording = first_recording(simulation.opened.data) if simulation.steps.slices is None else None
    return [
        *([] if recording is None else draw_recording(recording, output)),
        write_json(folder / "simulation.json", simulation_record(result, simulation.ann_accuracy, **facts)),
        write_json(folder / "measurement.json", measurement_record(run.estimate, result) | facts),
        firing_rates(
            result.firing_rates, result.firing_rate, folder / "firing_rates.png", f"Firing rate by site, {label}"
        ),
    ]


def _report(
    measured: dict[str, MeasurementRun], networks: tuple[str, ...], output: Path, settings: Mapping[str, object]
) -> list[Path]:
    """The tables and figures of all runs side by side. networks: a label for each network that was trained."""
    from mst.experiments import run_record
    from mst.files import write_json
    from mst.report import accuracy_table, accuracy_vs_time, energy_bars, energy_table

    console.rule("results")
    results = {label: run.simulation.result for label, run in measured.items()}
    accuracies = {label: run.simulation.ann_accuracy for label, run in measured.items()}
    estimates = {label: run.estimate for label, run in measured.items()}
    console.print(accuracy_table(results, accuracies))
    console.print(energy_table(estimates))
    curves = {label: result.accuracy.tolist() for label, result in results.items() if result.accuracy is not None}
    name, steps = ("digits-dvs" if settings["events"] else "digits"), settings["time_steps"]
    title = f"{name}, {next(iter(results.values())).num_images} test images"
    length = f"T = {steps}" if settings["events"] else f"T = {steps}, lossless until settled"
    of_networks = {label: accuracies[label] for label in measured if label in networks}
    figures = {label: _figures(run) for label, run in measured.items()}
    seed = settings["seed"]
    return [
        accuracy_vs_time(curves, of_networks, output / "accuracy_vs_time.png", title),
        energy_bars(estimates, output / "energy.png", f"{name}, {length}"),
        write_json(output / "run_record.json", run_record("quickstart", settings, figures, seed=seed)),
    ]


def _free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3, ... that does not exist."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _figures(run: MeasurementRun) -> dict[str, float]:
    names = ("ann_accuracy", "snn_accuracy", "spikes_per_image", "firing_rate", "mean_steps")
    figures = run.simulation.figures()
    return {name: figures[name] for name in names} | {
        "snn_energy_pj": run.estimate.snn.energy_pj,
        "ann_energy_pj": run.estimate.ann.energy_pj,
    }
