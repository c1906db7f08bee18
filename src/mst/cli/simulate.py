"""`mst simulate`: a checkpoint as a spiking network, accuracy at every time step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst.errors import InputError
from mst.experiments.options import CheckpointOptions, CodingOptions, StepOptions
from mst.experiments.trace_options import TraceOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar

if TYPE_CHECKING:
    from mst.experiments import SettledRun, SimulationRun


def simulate(
    checkpoint: CheckpointOptions,
    steps: StepOptions,
    coding: CodingOptions,
    traces: TraceOptions,
    settled: bool = False,
    output: Path = Path("runs/simulate"),
) -> None:
    """Convert a checkpoint to a spiking network and run it on test images.

    Prints accuracy against time steps and the firing rate of every site. Writes simulation.json, accuracy_vs_time.png,
    firing_rates.png and run_record.json; of event data also a recording as frames, in space and time, and as an
    animation; with --trace-sites or --trace-images also traces.safetensors, which `mst report` draws. With --coding
    lossless the SNN's answer becomes the ANN's after some steps, and the run ends there. `mst compare` puts both
    codings side by side. On several devices: torchrun --nproc_per_node 8 -m mst simulate ...

    Example: mst simulate runs/masked/last.safetensors --time-steps 128
    Example: mst simulate runs/masked/last.safetensors --coding lossless --burst 4
    Example: mst simulate runs/masked/last.safetensors --coding lossless --settled
    Example: mst simulate runs/masked/last.safetensors --trace-sites attention --trace-images 0,1

    Args:
        checkpoint: the network and the images.
        steps: how long to simulate.
        coding: how spikes carry activations.
        traces: what to record for mst report.
        settled: Lossless: predict the final accuracy and the fewest spikes of each site in one pass, without a
            simulation. Writes settled.json and run_record.json alone.
        output: Folder for the results.
    """
    from mst.experiments import run_settled, run_simulation
    from mst.files import prepare_folder

    prepare_folder(output)
    if settled and traces.is_on:
        raise InputError("--settled simulates nothing that could be traced", remedy="leave one of the two out")
    settings = {**flatten(checkpoint, steps, coding, traces), "settled": settled, "output": output}
    with progress_bar() as progress:
        if settled:
            predicted = run_settled(checkpoint, steps, coding, progress=progress)
        else:
            run = run_simulation(checkpoint, steps, coding, progress=progress, tracing=traces)
    if settled:
        report_settled(predicted, output, settings)
    else:
        report_simulation(run, output, settings)


def report_settled(run: SettledRun, output: Path, settings: Mapping[str, Any]) -> None:
    """Print the table and write the files. Of several processes the first does."""
    from mst.distributed import is_main_process
    from mst.experiments import run_record, write_run_record
    from mst.files import write_json
    from mst.report import settled_summary, settled_table

    if not is_main_process():
        return
    console.print(settled_table(run.result))
    for line in settled_summary(run):
        print_line(line)
    record = run_record("simulate", settings, run.figures(), seed=settings["seed"], **run.opened.facts())
    print_files(write_json(output / "settled.json", run.record()), write_run_record(output, record))


def report_simulation(run: SimulationRun, output: Path, settings: Mapping[str, Any]) -> None:
    """Print the tables and write the files. Of several processes the first does."""
    from mst.distributed import is_main_process
    from mst.experiments import first_recording, run_record, simulation_record, write_run_record
    from mst.experiments.traces import TRACES_FILE, write_traces
    from mst.files import write_json
    from mst.report import (
        accuracy_table,
        accuracy_vs_time,
        draw_recording,
        firing_rates,
        run_label,
        run_title,
        simulation_summary,
        site_table,
    )

    if not is_main_process():
        return
    result, label = run.result, run_label(run)
    console.print(accuracy_table({label: result}, {label: run.ann_accuracy}))
    console.print(site_table(result))
    for line in simulation_summary(run):
        print_line(line)
    assert result.accuracy is not None
    record = simulation_record(result, run.ann_accuracy, quanta_per_image=run.quanta_per_image, **run.facts())
    if run.traces is not None:
        record["traces"] = {"file": TRACES_FILE, "score_difference": run.traces.score_difference}
        write_traces(output / TRACES_FILE, run.traces)
    curves, levels = {label: result.accuracy.tolist()}, {label: run.ann_accuracy}
    recording = first_recording(run.opened.data)
    written = [
        write_json(output / "simulation.json", record),
        accuracy_vs_time(curves, levels, output / "accuracy_vs_time.png", run_title(run)),
        firing_rates(result.firing_rates, result.firing_rate, output / "firing_rates.png"),
        *([] if recording is None else draw_recording(recording, output)),
        *([] if run.traces is None else [output / TRACES_FILE]),
    ]
    of_run = run_record("simulate", settings, run.figures(), seed=run.steps.seed, **run.opened.facts())
    print_files(*written, write_run_record(output, of_run))
