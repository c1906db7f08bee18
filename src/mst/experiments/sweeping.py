"""The cross product of settings, each trained, converted and simulated; finished cells are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from mst.checkpoints import load_checkpoint, read_checkpoint_info
from mst.conversion import convert
from mst.data import DataSplits, EventRepresentation, first_readable, load_dataset
from mst.distributed import gather_values, is_main_process
from mst.errors import FileConflictError, InputError
from mst.files import plain, prepare_folder, write_json
from mst.measure import estimate_energy
from mst.models import MODEL_NAMES, spec_of
from mst.neurons import ALL_SITES, find_sites, mask_spikes
from mst.options import flatten
from mst.progress import ProgressCallback
from mst.training import FREE_ON_RESUME, LAST_CHECKPOINT, EpochRecord, TrainConfig, has_training_state

from .networks import build_network, image_size_option
from .options import (
    CheckpointOptions,
    NetworkOptions,
    StepOptions,
    SweepOptions,
    TrainingOptions,
    check_counts,
)
from .records import RECORD_FILE, run_record, write_run_record
from .spiking_run import run_simulation
from .sweep_results import SeedRun, SweepCell, SweepResult, sweep_rows
from .training_run import run_training

SETTINGS_FILE = "sweep.json"
"""Settings that all cells of a sweep share, in its output folder."""

DEFAULT_DATASET = "digits"

AXES = ("masking_ratios", "mask_sites", "num_levels", "spike_penalties", "time_steps", "mask_seeds", "output")
"""Settings that may differ from one call to the next on the same folder: cells are added."""


@dataclass(frozen=True)
class SweepRun:
    """A finished sweep."""

    options: SweepOptions
    """The options, with every default filled in."""

    results: tuple[SweepResult, ...]
    """Each cell with its runs."""

    rows: tuple[dict[str, Any], ...]
    """The table: one row for each cell and T."""

    record: Path | None
    """The run record; None in the other of several processes."""

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
    """Train and simulate every combination of masking ratios, levels, mask sites and spike penalties.

    Writes a folder for each combination and a run record. The same call again continues where it was cut and keeps
    what is finished; ratios, levels, sites, penalties, seeds and time steps may be added then.

    Args:
        options: the combinations; `mst.load_recipe` returns one for the recipes that begin with sweep-.
        output: folder for everything.
        observer: callbacks.

    Raises:
        InputError: an empty axis; options that do not go with the method or together; a network that cannot be
            converted.
        FileConflictError: the folder holds a sweep with other settings.
    """
    check_counts(batch_size=options.batch_size, max_images=options.max_images)
    steps = sorted(set(options.time_steps))
    axes = (options.num_levels, options.spike_penalties)
    if not (steps and options.masking_ratios and options.mask_seeds) or () in axes or steps[0] < 1:
        raise InputError(
            "a sweep needs at least one entry of each: ratios, levels, penalties, seeds, and time steps from 1"
        )
    _check_method(options)
    output = prepare_folder(Path(output))
    settings = {"output": output, **flatten(options)}
    options, splits = _open(options)
    cells = list(_cells(options))
    for cell in cells:  # mistakes show before the first cell is trained
        replace(options.train, spike_penalty=cell.spike_penalty)
        _try_cell(cell, splits, options)
    _keep_settings(output / SETTINGS_FILE, _common(settings, options, splits))
    results = []
    for number, cell in enumerate(cells, start=1):
        if observer.on_cell is not None:
            observer.on_cell(number, len(cells), cell)
        results.append(_run_cell(options, output / cell.name, cell, steps[-1], observer))
    rows = tuple(sweep_rows(results, steps))
    record = None
    if is_main_process():
        record = write_run_record(
            output, run_record("sweep", {**settings, "dataset": options.dataset}, {"rows": list(rows)})
        )
    return SweepRun(options, tuple(results), rows, record)


def _open(options: SweepOptions) -> tuple[SweepOptions, DataSplits]:
    """The data set, and the options with what the checkpoint decides filled in."""
    checkpoint, data = options.checkpoint, options.data
    levels, penalties, dataset = options.num_levels or (16,), options.spike_penalties or (0.0,), options.dataset
    preprocessing = None
    if options.method == "evaluate":
        assert checkpoint is not None
        own_levels, own_penalty, own_dataset = _trained_with(checkpoint)
        levels, penalties, dataset = (own_levels,), (own_penalty,), dataset or own_dataset
        preprocessing = read_checkpoint_info(checkpoint).preprocessing
        data = replace(data, img_size=None if preprocessing is None else preprocessing.img_size)
    elif checkpoint is not None and checkpoint.suffix == ".safetensors" and dataset is None:
        dataset = _dataset_of(checkpoint)
        data = replace(data, events=_events_of(checkpoint, data.events))
    dataset = dataset or DEFAULT_DATASET
    network = NetworkOptions(model_kwargs=options.model_kwargs)
    data = replace(data, dataset=dataset, img_size=image_size_option(data.img_size, network))
    splits = load_dataset(data, preprocessing=preprocessing)
    sites = options.mask_sites
    if sites is None:
        sites = ("attention",) if options.model in MODEL_NAMES else (ALL_SITES,)
        if options.method == "evaluate":
            assert checkpoint is not None
            spec = spec_of(load_checkpoint(checkpoint))
            sites = (ALL_SITES,) if spec is None else spec.default_mask_sites
    options = replace(
        options, num_levels=levels, spike_penalties=penalties, dataset=dataset, data=data, mask_sites=sites
    )
    return options, splits


def _common(settings: Mapping[str, Any], options: SweepOptions, splits: DataSplits) -> dict[str, Any]:
    """Settings that all cells share."""
    common = {name: value for name, value in settings.items() if name not in AXES}
    common |= {"dataset": options.dataset, "data_fingerprint": splits.fingerprint}
    if options.checkpoint is not None and options.checkpoint.is_file():
        common["checkpoint_sha256"] = sha256(options.checkpoint.read_bytes()).hexdigest()
    return common


def _check_method(options: SweepOptions) -> None:
    """Check that the options go with the method.

    Raises:
        InputError: a start is missing or there are two, or options would have no effect.
    """
    method, checkpoint, pretrained = options.method, options.checkpoint, options.pretrained
    if method == "train" and (checkpoint is not None or pretrained):
        raise InputError(
            "--method train starts from scratch", remedy="with a checkpoint or --pretrained use --method fine-tune"
        )
    if method != "train" and (checkpoint is None) != pretrained:
        raise InputError(
            f"--method {method} needs one start", remedy="give a checkpoint; or, to fine-tune, --pretrained alone"
        )
    if options.train.spike_penalty:
        raise InputError("train.spike_penalty has no effect in a sweep", remedy="give --spike-penalties")
    if method == "evaluate":
        _check_evaluation(options)
    elif options.train.distillation and checkpoint is None:
        raise InputError(
            "distillation needs a teacher", remedy="fine-tune from a checkpoint, which is then the teacher"
        )


def _check_evaluation(options: SweepOptions) -> None:
    """A checkpoint that is evaluated as it is leaves no choice of how to build and train."""
    plain_options, settings = flatten(SweepOptions()), flatten(options)
    of_training = (
        "num_levels", "spike_penalties", "model_kwargs", "train_images", "img_size", "calibration_images", "pretrained",
        "model", "quantize", "augment", "events", "event_augment", "align_chans",
    )  # fmt: skip
    given = [name for name in of_training if settings.get(name) != plain_options.get(name)]
    free = {name: getattr(options.train, name) for name in FREE_ON_RESUME}
    given += ["train"] if options.train != TrainConfig(**free) else []
    if given:
        raise InputError(f"{', '.join(given)} belong to training; --method evaluate takes the checkpoint as it is")


def _network_options(options: SweepOptions, cell: SweepCell) -> NetworkOptions:
    return NetworkOptions(
        model=options.model, model_kwargs=options.model_kwargs, pretrained=options.pretrained,
        init_from=None if options.checkpoint is None else str(options.checkpoint),
        calibration_images=options.calibration_images, masking_ratio=cell.masking_ratio, mask_sites=_selections(cell),
        mask_rule=options.mask_rule, num_levels=cell.num_levels, quantize=options.quantize,
        align_chans=options.align_chans,
    )  # fmt: skip


def _try_cell(cell: SweepCell, splits: DataSplits, options: SweepOptions) -> None:
    """Build, mask and convert the network of a cell, weights aside.

    Raises:
        InputError: one of these fails.
    """
    if options.method == "evaluate":
        assert options.checkpoint is not None
        network = load_checkpoint(options.checkpoint)
        mask_spikes(network, cell.masking_ratio, _selections(cell) or ALL_SITES, options.mask_rule)
    else:
        network = build_network(_network_options(options, cell), splits, download=False)
    if any(site.min_level < 0 for site in find_sites(network).values()):
        raise InputError(
            "a sweep simulates under rate coding, which does not carry the levels below 0 of sites at products",
            remedy="sweep with --quantize.placement activations; or train each setting, and mst compare --rate false",
        )
    convert(network, example=first_readable(splits.test)[0][None])


def _trained_with(checkpoint: Path) -> tuple[int, float, str | None]:
    """Levels, spike penalty and data set of a checkpoint."""
    levels = {site.num_levels for site in find_sites(load_checkpoint(checkpoint)).values()}
    info = read_checkpoint_info(checkpoint)
    train = info.provenance.get("train")
    penalty = train.get("spike_penalty") if isinstance(train, dict) else None
    return max(levels), float(penalty or 0.0), info.dataset


def _dataset_of(checkpoint: Path) -> str | None:
    """The data set that a checkpoint of ours was trained on; None for weights from elsewhere."""
    try:
        return read_checkpoint_info(checkpoint).dataset
    except ValueError:
        return None


def _events_of(checkpoint: Path, given: EventRepresentation) -> EventRepresentation:
    """The representation of recordings: as given, or as the checkpoint that is to be fine-tuned has it."""
    preprocessing = read_checkpoint_info(checkpoint).preprocessing
    if given != EventRepresentation() or preprocessing is None or preprocessing.events is None:
        return given
    return preprocessing.events


def _cells(options: SweepOptions) -> Iterator[SweepCell]:
    """Every combination once; where nothing is masked the sites make no difference."""
    seen = set()
    axes = (options.num_levels or (), options.spike_penalties or (), options.mask_sites or (), options.masking_ratios)
    for levels, penalty, where, ratio in product(*axes):
        cell = SweepCell(levels, ratio, where if ratio else "", penalty)
        if cell not in seen:
            seen.add(cell)
            yield cell


def _selections(cell: SweepCell) -> tuple[str, ...] | None:
    return tuple(cell.mask_sites.split("+")) if cell.mask_sites else None


def _run_cell(
    options: SweepOptions, folder: Path, cell: SweepCell, num_steps: int, observer: SweepObserver
) -> SweepResult:
    """Train a cell if it is not trained yet, and simulate it with masks of each seed."""
    weights = options.checkpoint if options.method == "evaluate" else folder / LAST_CHECKPOINT
    assert weights is not None
    if options.method != "evaluate" and not gather_values((folder / RECORD_FILE).is_file())[0]:
        training = TrainingOptions(
            _network_options(options, cell), options.data, replace(options.train, spike_penalty=cell.spike_penalty),
            options.threads,
        )  # fmt: skip
        run_training(
            training, folder, resume=has_training_state(folder), progress=observer.progress, on_epoch=observer.on_epoch
        )
    seeds = list(dict.fromkeys(options.mask_seeds)) if cell.masking_ratio else options.mask_seeds[:1]
    runs = []
    for seed in seeds:
        path = folder / f"seed{seed}.json"
        found = gather_values(_read_run(path, cell, num_steps))[0]
        runs.append(found or _seed_run(options, path, weights, cell, StepOptions(num_steps, seed=seed), observer))
    return SweepResult(cell, tuple(runs))


def _seed_run(
    options: SweepOptions, path: Path, weights: Path, cell: SweepCell, steps: StepOptions, observer: SweepObserver
) -> SeedRun:
    """Simulate one cell with masks of one seed, and write what it found."""
    selections = _selections(cell)
    opening = CheckpointOptions(
        weights, options.dataset, options.data.data_path, options.batch_size, options.max_images, cell.masking_ratio,
        selections, options.mask_rule if selections else None, device=options.train.device, threads=options.threads,
        on_bad_image=options.data.on_bad_image,
    )  # fmt: skip
    run = run_simulation(opening, steps, progress=observer.progress)
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
    )
    if is_main_process():
        prepare_folder(path.parent)
        write_json(path, asdict(found) | {"checkpoint": weights, "cell": cell, **run.opened.facts()})
    return found


def _read_run(path: Path, cell: SweepCell, num_steps: int) -> SeedRun | None:
    """Result that an earlier run of this cell has written, cut to T steps; None if it has fewer steps or is missing."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        values = {name: stored[name] for name in SeedRun.__dataclass_fields__}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(values["accuracy"]) < num_steps or stored.get("cell") != asdict(cell):
        return None
    whole: dict[str, Any] = {k: tuple(v[:num_steps]) if isinstance(v, list) else v for k, v in values.items()}
    return SeedRun(**whole)


def _keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Note what all cells share, or check that it is the same as before.

    Options that did not exist when the folder was begun must have their default.

    Raises:
        FileConflictError: the folder holds a sweep with other settings, or its settings are damaged.
    """
    free = (*(f"train.{name}" for name in FREE_ON_RESUME), "batch_size", "data_path", "threads")
    now = _flat(json.loads(json.dumps(plain(settings))))
    if not gather_values(path.is_file())[0]:
        if is_main_process():
            write_json(path, now)
        return
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileConflictError(f"damaged ({error})", where=str(path), remedy="choose another output folder") from error
    before = _flat(json.loads(json.dumps(plain(flatten(SweepOptions()))))) | then
    changed = [f"{k}: {before.get(k)} -> {now[k]}" for k in now if before.get(k) != now[k] and k not in free]
    changed += [f"{k}: {v} -> None" for k, v in then.items() if k not in now and v is not None and k not in free]
    if changed:
        raise FileConflictError(
            f"{path.parent} holds a sweep with other settings: {'; '.join(changed)}", remedy="choose another output"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
