"""Sharing of one sweep between jobs: which cells a job computes, and which are still to be computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mst.distributed import gather_values
from mst.text import note

from .sweep_files import PLAN_FILE, keep_plan, read_run
from .sweep_options import SweepOptions, parse_shard
from .sweep_plan import exit_rule
from .sweep_results import SweepCell, SweepResult


def cells_of_shard(options: SweepOptions, cells: Sequence[SweepCell], output: Path) -> list[SweepCell]:
    """The cells that this job computes; all of them where the sweep is not shared.

    A network is trained once, so all ways to simulate it belong to one job; where nothing is trained, each way is on
    its own. Jobs take networks in turn: job I of N takes I, I + N, I + 2N, ... Each is in exactly one shard.

    Args:
        options: with every default filled in.
        cells: of the whole sweep.
        output: folder that the jobs share.

    Raises:
        FileConflictError: the folder is shared by another number of jobs, or their axes differ.
    """
    if options.shard is None:
        if gather_values((output / PLAN_FILE).is_file())[0]:
            note(
                f"several jobs share the sweep in {output}; without --shard this one computes all that is unfinished: "
                "check that none of them is still running"
            )
        return list(cells)
    index, count = parse_shard(options.shard)
    keep_plan(output / PLAN_FILE, options, count)
    units: dict[str, list[SweepCell]] = {}
    for cell in cells:
        unit = f"{cell.name}/{cell.simulation}" if options.method == "evaluate" else cell.name
        units.setdefault(unit, []).append(cell)
    own = [cell for unit in list(units.values())[index - 1 :: count] for cell in unit]
    if not own:
        note(f"shard {options.shard} is empty: the sweep can be divided into {len(units)} shards at most")
    return own


def mask_seeds(options: SweepOptions, cell: SweepCell) -> list[int]:
    """Seeds that a cell is simulated with, each once; without masks one is enough."""
    return list(dict.fromkeys(options.mask_seeds)) if cell.masking_ratio else [options.mask_seeds[0]]


def run_file(folder: Path, cell: SweepCell, seed: int) -> Path:
    """File of a simulation of a cell."""
    return folder / cell.name / f"{cell.simulation}seed{seed}.json"


def finished_results(options: SweepOptions, cells: Sequence[SweepCell], output: Path) -> list[SweepResult]:
    """Results of the cells whose simulations are all in the folder, whichever job has written them."""
    results = []
    for cell in cells:
        seeds, rule = mask_seeds(options, cell), exit_rule(options, cell)
        runs = [read_run(run_file(output, cell, seed), cell, options.steps(seed, rule)) for seed in seeds]
        found = tuple(run for run in runs if run is not None)
        if len(found) == len(seeds):
            results.append(SweepResult(cell, found))
    return gather_values(results)[0]
