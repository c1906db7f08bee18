"""The cross product of settings, each trained, converted and simulated; finished cells are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from traceback import format_exc
from typing import Any

import torch

from mst.distributed import gather_values, is_main_process, num_processes
from mst.files import prepare_folder, write_json
from mst.measure import estimate_energy
from mst.options import flatten
from mst.progress import ProgressCallback
from mst.simulation import SimulationResult
from mst.text import note, one_line
from mst.training import LAST_CHECKPOINT, EpochRecord, TrainConfig, TrainingStoppedError, has_training_state

from .options import CheckpointOptions, StepOptions, TrainingOptions
from .records import RECORD_FILE, run_record, write_run_record
from .spiking_run import run_simulation
from .sweep_files import SETTINGS_FILE, common_settings, keep_settings, read_run
from .sweep_options import SweepOptions
from .sweep_plan import (
    cells_of,
    check_sweep,
    coding_options,
    exit_rule,
    network_options,
    open_sweep,
    selections,
    try_cells,
)
from .sweep_results import CellFailure, SeedRun, SweepCell, SweepResult, sweep_rows
from .sweep_shards import cells_of_shard, finished_results, mask_seeds, run_file
from .training_run import run_training


@dataclass(frozen=True)
class SweepRun:
    """A sweep whose cells have all been tried, or those of one shard."""

    options: SweepOptions
    """The options, with every default filled in."""

    results: tuple[SweepResult, ...]
    """Each finished cell with its runs, of all shards."""

    rows: tuple[dict[str, Any], ...]
    """The table: one row for each finished cell and T."""

    record: Path | None
    """The run record; None in the other of several processes, and while other shards are unfinished."""

    failures: Mapping[SweepCell, CellFailure] = field(default_factory=dict)
    """Cells that failed in this run."""

    unfinished: tuple[SweepCell, ...] = ()
    """All cells without a result: those that failed, and those of shards that are not finished."""

    @property
    def title(self) -> str:
        """Name of the network and the data set, for tables and figures."""
        return f"{self.options.checkpoint or self.options.model} on {self.options.dataset}"

    def __repr__(self) -> str:
        return f"SweepRun({self.title}, {len(self.results)} cells, {len(self.rows)} rows)"


@dataclass(frozen=True)
class SweepObserver:
    """Callbacks of a sweep."""

    progress: ProgressCallback | None = None
    """Called as training and simulation go along."""

    on_cell: Callable[[int, int, SweepCell], None] | None = None
    """Called before each cell with its number, how many there are, and the cell."""

    on_epoch: Callable[[EpochRecord], None] | None = None
    """Called after each epoch of a training."""


def run_sweep(
    options: SweepOptions,
    output: str | Path,
    *,
    observer: SweepObserver = SweepObserver(),
) -> SweepRun:
    """Train every combination of levels, masks, powers and spike penalties, and simulate it under every coding.

    Writes a folder for each trained network and a run record. The same call again continues where it was cut and keeps
    what is finished; entries of every axis may be added then: ratios, levels, sites, penalties, powers, placements,
    codings, schedules, bursts, early exits, seeds and time steps. A cell that fails is reported, and the others
    continue; the same call again tries it again.

    With `options.shard` "I/N" this call computes part I. N such calls, at the same time or one after the other, on one
    machine or on several that share `output`, compute each cell once. The last that ends writes the record, of all
    parts. A part that was cut is continued by the same call again.

    Args:
        options: the combinations; `mst.load_recipe` returns one for the recipes that begin with sweep-.
        output: folder for everything.
        observer: callbacks.

    Raises:
        InputError: options that do not go with the method, the codings or together; a network that cannot be converted
            or whose operations have no price.
        FileConflictError: the folder holds a sweep with other settings, or one that is shared otherwise.
    """
    check_sweep(options)
    output = prepare_folder(Path(output))
    settings = {"output": output, **flatten(options)}
    options, splits = open_sweep(options)
    cells = list(cells_of(options))
    try_cells(cells, splits, options)  # mistakes show before the first cell is trained
    keep_settings(output / SETTINGS_FILE, common_settings(settings, options, splits))
    failures = _run_cells(options, cells_of_shard(options, cells, output), output, observer)
    results = finished_results(options, cells, output)
    finished = {result.cell for result in results}
    unfinished = tuple(cell for cell in cells if cell not in finished)
    common = {"placement": options.quantize.placement, "early_exit": options.early_exit}
    rows = tuple(sweep_rows(results, sorted(set(options.time_steps)), common))
    record = None
    if is_main_process() and results and (options.shard is None or not unfinished):
        found = {"rows": list(rows)} | ({"unfinished": [cell.label for cell in unfinished]} if unfinished else {})
        record = write_run_record(output, run_record("sweep", {**settings, "dataset": options.dataset}, found))
    return SweepRun(options, tuple(results), rows, record, failures, unfinished)


def _run_cells(
    options: SweepOptions, cells: Sequence[SweepCell], output: Path, observer: SweepObserver
) -> dict[SweepCell, CellFailure]:
    """Train and simulate each cell; returns those that failed."""
    failures: dict[SweepCell, CellFailure] = {}
    not_trained: dict[str, CellFailure] = {}
    for number, cell in enumerate(cells, start=1):
        if observer.on_cell is not None:
            observer.on_cell(number, len(cells), cell)
        if cell.name in not_trained:
            failures[cell] = not_trained[cell.name]
            continue
        try:
            _train_cell(options, output / cell.name, cell, observer)
            _simulate_cell(options, output, cell, observer)
        except TrainingStoppedError:
            raise
        except Exception as error:
            if num_processes() > 1:  # the other processes are still in this cell
                raise
            failures[cell] = CellFailure(one_line(error), format_exc())
            if options.method != "evaluate" and not (output / cell.name / RECORD_FILE).is_file():
                not_trained[cell.name] = failures[cell]
            note(f"{cell.label} failed ({failures[cell].error}); the sweep continues with the next")
    return failures


def _train_cell(options: SweepOptions, folder: Path, cell: SweepCell, observer: SweepObserver) -> None:
    """Train the network of a cell if it is not trained yet."""
    if options.method == "evaluate" or gather_values((folder / RECORD_FILE).is_file())[0]:
        return
    train = replace(options.train, spike_penalty=cell.spike_penalty)
    if not cell.spike_penalty:
        train = replace(train, spike_penalty_on=TrainConfig.spike_penalty_on)
    training = TrainingOptions(network_options(options, cell), options.data, train, options.threads)
    run_training(
        training, folder, resume=has_training_state(folder), progress=observer.progress, on_epoch=observer.on_epoch
    )


def _simulate_cell(options: SweepOptions, output: Path, cell: SweepCell, observer: SweepObserver) -> None:
    """Simulate a cell with masks of each seed that has no result yet."""
    weights = options.checkpoint if options.method == "evaluate" else output / cell.name / LAST_CHECKPOINT
    assert weights is not None
    for seed in mask_seeds(options, cell):
        path, steps = run_file(output, cell, seed), options.steps(seed, exit_rule(options, cell))
        if gather_values(read_run(path, cell, steps))[0] is None:
            _simulate_seed(options, path, weights, cell, steps, observer)


def _simulate_seed(
    options: SweepOptions, path: Path, weights: Path, cell: SweepCell, steps: StepOptions, observer: SweepObserver
) -> None:
    """Simulate one cell with masks of one seed, and write what it found."""
    masked = selections(cell)
    limit = cell.max_powers or None if options.method == "evaluate" else None  # a trained cell stores its own
    opening = CheckpointOptions(
        weights, options.dataset, options.data.data_path, options.batch_size, options.max_images, cell.masking_ratio,
        masked, options.mask_rule if masked else None, limit, options.train.device, threads=options.threads,
        on_bad_image=options.data.on_bad_image,
    )  # fmt: skip
    run = run_simulation(opening, steps, coding_options(options, cell), progress=observer.progress)
    result, energy = run.result, estimate_energy(run.result)
    assert result.accuracy is not None
    found = SeedRun(
        seed=steps.seed,
        num_images=result.num_images,
        num_neurons=sum(site.num_neurons for site in result.sites.values()),
        accuracy=tuple(result.accuracy.tolist()),
        spikes_per_image=tuple((result.sent_per_step.cumsum(0).double() / result.num_images).tolist()),
        energy_pj=energy.snn_energy_pj_per_step,
        ann_accuracy=run.evaluation.accuracy,
        ann_energy_pj=energy.ann.energy_pj,
        ann_quanta_per_neuron=run.evaluation.quanta_per_neuron,
        mean_steps=tuple((result.images_per_step.cumsum(0).double() / result.num_images).tolist()),
        settled=_settled(result),
        whole_energy_pj=energy.whole_energy_pj_per_step,
        ann_whole_energy_pj=energy.whole.ann.energy_pj,
    )
    if is_main_process():
        prepare_folder(path.parent)
        write_json(path, asdict(found) | {"checkpoint": weights, "cell": cell, **run.opened.facts()})


def _settled(result: SimulationResult) -> tuple[float, ...]:
    """Fraction of the images that have settled after each step; empty if the coding does not settle."""
    if result.settled_at is None:
        return ()
    steps = torch.arange(1, result.num_steps + 1)[:, None]
    return tuple(((result.settled_at > 0) & (result.settled_at <= steps)).double().mean(dim=1).tolist())
