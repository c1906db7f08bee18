"""Files of a sweep: the settings that all its cells share, and the results of cells that are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from mst.checkpoints import HUB, checkpoint_file
from mst.data import DataSplits
from mst.distributed import gather_values, is_main_process
from mst.errors import FileConflictError
from mst.files import plain, write_json_once
from mst.options import flatten
from mst.training import FREE_ON_RESUME

from .options import StepOptions
from .sweep_options import SweepOptions
from .sweep_results import SeedRun, SweepCell

SETTINGS_FILE = "sweep.json"
"""Settings that all cells of a sweep share, in its output folder."""

AXES = (
    "masking_ratios", "mask_sites", "num_levels", "spike_penalties", "max_powers", "placements", "codings", "schedules",
    "bursts", "early_exits", "time_steps", "mask_seeds",
)  # fmt: skip
"""Settings that may differ from one call to the next on the same folder: cells are added."""

PLAN_FILE = "shards.json"
"""Number of shards and the axes of a sweep that several jobs share, in its output folder."""


def common_settings(settings: Mapping[str, Any], options: SweepOptions, splits: DataSplits) -> dict[str, Any]:
    """Settings that all cells share."""
    common = {name: value for name, value in settings.items() if name not in (*AXES, "output", "shard")}
    common |= {"dataset": options.dataset, "data_fingerprint": splits.fingerprint}
    checkpoint = options.checkpoint
    if checkpoint is not None and (checkpoint.is_file() or str(checkpoint).startswith(HUB)):
        common["checkpoint_sha256"] = sha256(checkpoint_file(checkpoint).read_bytes()).hexdigest()
    return common


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Note what all cells share, or check that it is the same as before.

    Options that did not exist when the folder was begun must have their default.

    Raises:
        FileConflictError: the folder holds a sweep with other settings, or its settings are damaged.
    """
    free = (*(f"train.{name}" for name in FREE_ON_RESUME), "batch_size", "data_path", "threads")
    now = _flat(json.loads(json.dumps(plain(settings))))
    then = _written_before(path, now)
    if then is None:
        return
    before = _flat(json.loads(json.dumps(plain(flatten(SweepOptions()))))) | then
    changed = [f"{k}: {before.get(k)} -> {now[k]}" for k in now if before.get(k) != now[k] and k not in free]
    changed += [f"{k}: {v} -> None" for k, v in then.items() if k not in now and v is not None and k not in free]
    if changed:
        raise FileConflictError(
            f"{path.parent} holds a sweep with other settings: {'; '.join(changed)}", remedy="choose another output"
        )


def keep_plan(path: Path, options: SweepOptions, count: int) -> None:
    """Note the number of shards and the axes, or check that they are those of the jobs that share the folder.

    Args:
        path: of the plan, in the output folder.
        options: with every default filled in.
        count: number of shards.

    Raises:
        FileConflictError: the folder is shared by another number of jobs, or their axes differ.
    """
    axes = {name: getattr(options, name) for name in AXES}
    now = json.loads(json.dumps(plain({"shards": count, **axes})))
    then = _written_before(path, now)
    changed = [] if then is None else [f"{k}: {then.get(k)} -> {v}" for k, v in now.items() if then.get(k) != v]
    if changed:
        raise FileConflictError(
            f"{path.parent} holds a sweep that is shared otherwise: {'; '.join(changed)}",
            remedy=f"choose another output; or, once none of its jobs is running, delete {path.name} there",
        )


def _written_before(path: Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the file holds; None if it did not exist and has been written with `content`.

    Raises:
        FileConflictError: the file is damaged.
    """
    written = is_main_process() and write_json_once(path, content)
    if gather_values(written)[0]:
        return None
    try:
        then: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileConflictError(f"damaged ({error})", where=str(path), remedy="choose another output folder") from error
    return then


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def read_run(path: Path, cell: SweepCell, steps: StepOptions) -> SeedRun | None:
    """Result that an earlier run of this cell has written, cut or continued to T steps; None if it is missing, or if it
    does not tell what T steps would have given."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        values = {**stored, **lists}
        values.setdefault("mean_steps", tuple(range(1, len(values["accuracy"]) + 1)))  # before there were codings
        run = SeedRun(**{each.name: values[each.name] for each in fields(SeedRun) if each.name in values})
        if SweepCell(**stored["cell"]) != cell:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if steps.early_exit is not None and steps.exit.value is None and run.num_steps != steps.time_steps:
        return None  # the rule would be chosen for another T
    return run.after(steps.time_steps)
