"""`mst sweep`: the cross product of settings, each trained, converted and simulated; one table, and figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from mst.checkpoints import load_checkpoint, read_checkpoint_info
from mst.conversion import convert
from mst.data import AugmentConfig, BadImages, DataSplits, EventAugmentConfig, EventRepresentation, load_dataset
from mst.distributed import gather_values, is_main_process
from mst.files import write_json, write_text
from mst.measure import estimate_energy
from mst.models import MODEL_NAMES, MaskedSpikingTransformer
from mst.neurons import ALL_SITES, mask_spikes, name_sites
from mst.report import (
    SeedRun,
    SweepCell,
    SweepResult,
    run_record,
    sweep_against_ratio,
    sweep_against_time,
    sweep_markdown,
    sweep_pareto,
    sweep_rows,
    write_run_record,
    write_sweep_csv,
)
from mst.training import FREE_ON_RESUME, LAST_CHECKPOINT, TrainConfig, has_training_state

from .common import check_counts, console, open_run, prepare_output, print_files
from .network import QuantizeConfig, build_network, image_size_option
from .spiking_run import CodingOptions, run_both
from .train import train as train_verb

SETTINGS_FILE = "sweep.json"
"""What all cells of a sweep have in common, in its output folder."""

DEFAULT_MODEL, DEFAULT_DATASET = "mst_nano_patch2_window2_8", "digits"

Method = Literal["train", "fine-tune", "evaluate"]


def sweep(
    output: Path = Path("runs/sweep"),
    method: Method = "train",
    checkpoint: Path | None = None,
    pretrained: bool = False,
    calibration_images: int | None = None,
    masking_ratios: tuple[float, ...] = (0.0, 0.5, 0.75),
    mask_sites: tuple[str, ...] | None = None,
    num_levels: tuple[int, ...] | None = None,
    spike_penalties: tuple[float, ...] | None = None,
    time_steps: tuple[int, ...] = (16, 32, 64, 128),
    mask_seeds: tuple[int, ...] = (0, 1, 2),
    model: str = DEFAULT_MODEL,
    model_kwargs: dict[str, Any] | None = None,
    quantize: QuantizeConfig = QuantizeConfig(),  # noqa: B008 (frozen)
    dataset: str | None = None,
    data_path: Path | None = None,
    train_images: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    augment: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
    events: EventRepresentation = EventRepresentation(),  # noqa: B008 (frozen)
    event_augment: EventAugmentConfig = EventAugmentConfig(),  # noqa: B008 (frozen)
    align_chans: int = 0,
    train: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    batch_size: int = 32,
    max_images: int | None = None,
    on_bad_image: BadImages = "fail",
) -> None:
    """Train and simulate every combination of masking ratios, levels, mask sites and spike penalties.

    Writes a folder for each, sweep.csv and sweep.md with mean and standard deviation over mask seeds, and figures:
    accuracy and spikes against the ratio, accuracy against T, accuracy against spikes. The same command again goes on
    where it was cut, and what is finished is kept; ratios, levels, sites, seeds and time steps may be added then.

    Example: mst sweep --config sweep-digits-mst --output runs/sweep
    Example: mst sweep --method evaluate --checkpoint runs/mst/last.safetensors --masking-ratios 0,0.25,0.5

    Args:
        output: folder for everything.
        method: train each combination from scratch; fine-tune each from the checkpoint; or evaluate the checkpoint as
            it is, masks acting at inference only.
        checkpoint: to evaluate; or to fine-tune, and then any weights that mst train --init-from takes.
        pretrained: fine-tune from the weights that timm or torchvision publish under the model's name.
        calibration_images: as for mst train.
        masking_ratios: fractions dropped, in [0, 1).
        mask_sites: where; each entry is a setting of its own, several selections in one are joined by +, as in
            query+key. By default attention for an MST, all for others.
        num_levels: L; 16 by default. A checkpoint that is evaluated has its own.
        spike_penalties: weights of a quantum in the loss, see train.spike_penalty; 0 by default.
        time_steps: T of the rows; one simulation to the largest gives them all.
        mask_seeds: seeds of the masks in evaluation and simulation.
        model: as for mst train.
        model_kwargs: as for mst train.
        quantize: as for mst train.
        dataset: name; by default digits, or the one the checkpoint was trained on.
        data_path: folder with the data set's files.
        train_images: use so many training images only, evenly taken.
        img_size: as for mst train.
        augment: random changes of the training images.
        events: as for mst train.
        event_augment: as for mst train.
        align_chans: as for mst train.
        train: how to train each; its spike_penalty is given by spike_penalties.
        batch_size: images simulated at once.
        max_images: simulate the first so many test images only.
        on_bad_image: at an image file or a recording that cannot be read: fail, or skip it and say so.
    """
    settings = dict(locals())
    check_counts(batch_size=batch_size, max_images=max_images)
    steps = sorted(set(time_steps))
    if not (steps and masking_ratios and mask_seeds) or () in (num_levels, spike_penalties) or steps[0] < 1:
        raise ValueError(
            "a sweep needs at least one entry of each: ratios, levels, penalties, seeds, and time steps from 1"
        )
    _check_method(settings)
    prepare_output(output)
    levels, penalties = num_levels or (16,), spike_penalties or (0.0,)
    preprocessing = None
    if method == "evaluate":
        assert checkpoint is not None
        own_levels, own_penalty, own_dataset = _trained_with(checkpoint)
        levels, penalties = (own_levels,), (own_penalty,)
        preprocessing = read_checkpoint_info(checkpoint).preprocessing
        img_size = None if preprocessing is None else preprocessing.img_size
    elif checkpoint is not None and checkpoint.suffix == ".safetensors" and dataset is None:
        own_dataset, events = _dataset_of(checkpoint), _events_of(checkpoint, events)
    else:
        own_dataset = None
    dataset = dataset or own_dataset or DEFAULT_DATASET
    splits = load_dataset(
        dataset, data_path, preprocessing=preprocessing, img_size=image_size_option(img_size, model_kwargs),
        augment=augment, events=events, event_augment=event_augment, on_bad_image=on_bad_image,
    )  # fmt: skip
    if train_images is not None:
        splits = splits.with_train_images(train_images)
    if mask_sites is None:
        is_mst = model in MODEL_NAMES if method != "evaluate" else _is_mst(checkpoint)
        mask_sites = ("attention",) if is_mst else (ALL_SITES,)
    cells = list(_cells(masking_ratios, mask_sites, levels, penalties))
    networks: dict[str, Any] = {
        "model": model,
        "model_kwargs": model_kwargs,
        "quantize": quantize,
        "align_chans": align_chans,
    }
    for cell in cells:  # mistakes show before any of them has been trained
        replace(train, spike_penalty=cell.spike_penalty)
        _try_cell(cell, splits, checkpoint if method == "evaluate" else None, networks)
    axes = ("masking_ratios", "mask_sites", "num_levels", "spike_penalties", "time_steps", "mask_seeds", "output")
    common = {k: v for k, v in settings.items() if k not in axes}
    common |= {"dataset": dataset, "data_fingerprint": splits.fingerprint}
    if checkpoint is not None and checkpoint.is_file():
        common["checkpoint_sha256"] = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    _keep_settings(output / SETTINGS_FILE, common)
    opening = {
        "dataset": dataset, "data_path": data_path, "batch_size": batch_size, "max_images": max_images,
        "device": train.device, "on_bad_image": on_bad_image,
    }  # fmt: skip
    results = []
    for number, cell in enumerate(cells, start=1):
        console.rule(f"{number} of {len(cells)}: {cell.label}")
        folder = output / cell.name
        weights = checkpoint if method == "evaluate" else folder / LAST_CHECKPOINT
        assert weights is not None
        if method != "evaluate" and not gather_values((folder / "run_record.json").is_file())[0]:
            train_verb(
                output=folder, dataset=dataset, data_path=data_path, pretrained=pretrained,
                init_from=None if checkpoint is None else str(checkpoint), calibration_images=calibration_images,
                masking_ratio=cell.masking_ratio, mask_sites=_selections(cell), num_levels=cell.num_levels,
                train_images=train_images, img_size=img_size, augment=augment, events=events,
                event_augment=event_augment,
                train=replace(train, spike_penalty=cell.spike_penalty), on_bad_image=on_bad_image,
                resume=has_training_state(folder), **networks,
            )  # fmt: skip
        seeds = list(dict.fromkeys(mask_seeds)) if cell.masking_ratio else mask_seeds[:1]
        runs = [_seed_run(folder / f"seed{seed}.json", weights, cell, seed, steps[-1], opening) for seed in seeds]
        results.append(SweepResult(cell, tuple(runs)))
    if is_main_process():
        _report(output, {**settings, "dataset": dataset}, results, steps)


def _check_method(settings: Mapping[str, Any]) -> None:
    """See that the options go with the method.

    Raises:
        ValueError: a start is missing or too many, or options would have no effect.
    """
    method, checkpoint, pretrained = settings["method"], settings["checkpoint"], settings["pretrained"]
    if method == "train" and (checkpoint is not None or pretrained):
        raise ValueError("--method train begins from scratch; with a checkpoint or --pretrained use fine-tune")
    if method != "train" and (checkpoint is None) != pretrained:
        raise ValueError("give a checkpoint to fine-tune or to evaluate; or, to fine-tune, --pretrained alone")
    if settings["train"].spike_penalty:
        raise ValueError("train.spike_penalty has no effect in a sweep; give --spike-penalties")
    if method != "evaluate":
        return
    given = [name for name in ("num_levels", "spike_penalties", "model_kwargs", "train_images", "img_size",
             "calibration_images", "pretrained") if settings[name] not in (None, False)]  # fmt: skip
    given += ["model"] if settings["model"] != DEFAULT_MODEL else []
    given += ["quantize"] if settings["quantize"] != QuantizeConfig() else []
    defaults = {
        "augment": AugmentConfig(), "events": EventRepresentation(), "event_augment": EventAugmentConfig(),
        "align_chans": 0,
    }  # fmt: skip
    given += [name for name, default in defaults.items() if settings[name] != default]
    free = {name: getattr(settings["train"], name) for name in FREE_ON_RESUME}
    given += ["train"] if settings["train"] != TrainConfig(**free) else []
    if given:
        raise ValueError(f"{', '.join(given)} belong to training; --method evaluate takes the checkpoint as it is")


def _try_cell(cell: SweepCell, splits: DataSplits, checkpoint: Path | None, networks: Mapping[str, Any]) -> None:
    """Build, mask and convert the network of a cell, weights aside.

    Raises:
        ValueError: one of these fails.
    """
    selections = _selections(cell)
    if checkpoint is None:
        network = build_network(
            splits=splits, num_levels=cell.num_levels, masking_ratio=cell.masking_ratio, mask_sites=selections,
            **networks,
        )  # fmt: skip
    else:
        network = load_checkpoint(checkpoint)
        mask_spikes(network, cell.masking_ratio, selections or ALL_SITES)
    convert(network, example=splits.test[0][0][None])


def _trained_with(checkpoint: Path) -> tuple[int, float, str | None]:
    """Levels, spike penalty and data set of a checkpoint."""
    levels = {site.num_levels for site in name_sites(load_checkpoint(checkpoint)).values()}
    info = read_checkpoint_info(checkpoint)
    train = info.provenance.get("train")
    penalty = train.get("spike_penalty") if isinstance(train, dict) else None
    return max(levels), float(penalty or 0.0), info.dataset


def _is_mst(checkpoint: Path | None) -> bool:
    return checkpoint is not None and isinstance(load_checkpoint(checkpoint), MaskedSpikingTransformer)


def _dataset_of(checkpoint: Path) -> str | None:
    """The data set that a checkpoint of ours was trained on; None for weights from elsewhere."""
    try:
        return read_checkpoint_info(checkpoint).dataset
    except ValueError:
        return None


def _events_of(checkpoint: Path, given: EventRepresentation) -> EventRepresentation:
    """How recordings become frames: as given, or as the checkpoint that is to be fine-tuned has it."""
    preprocessing = read_checkpoint_info(checkpoint).preprocessing
    if given != EventRepresentation() or preprocessing is None or preprocessing.events is None:
        return given
    return preprocessing.events


def _cells(
    masking_ratios: tuple[float, ...],
    mask_sites: tuple[str, ...],
    num_levels: tuple[int, ...],
    spike_penalties: tuple[float, ...],
) -> Iterator[SweepCell]:
    """Every combination once; where nothing is masked it does not matter where."""
    seen = set()
    for levels, penalty, where, ratio in product(num_levels, spike_penalties, mask_sites, masking_ratios):
        cell = SweepCell(levels, ratio, where if ratio else "", penalty)
        if cell not in seen:
            seen.add(cell)
            yield cell


def _selections(cell: SweepCell) -> tuple[str, ...] | None:
    return tuple(cell.mask_sites.split("+")) if cell.mask_sites else None


def _keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Note what all cells have in common, or see that it is the same as before.

    Raises:
        ValueError: the folder holds a sweep with other settings.
    """
    free = (*(f"train.{name}" for name in FREE_ON_RESUME), "batch_size", "data_path")
    now = _flat(json.loads(json.dumps(_plain(settings))))
    if not gather_values(path.is_file())[0]:
        if is_main_process():
            write_json(path, now)
        return
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another output folder") from error
    changed = [
        f"{k}: {then.get(k)} -> {now.get(k)}" for k in {**then, **now} if then.get(k) != now.get(k) and k not in free
    ]
    if changed:
        raise ValueError(
            f"{path.parent} holds a sweep with other settings: {'; '.join(changed)}; choose another output"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _seed_run(
    path: Path, weights: Path, cell: SweepCell, seed: int, num_steps: int, opening: Mapping[str, Any]
) -> SeedRun:
    """Simulate one cell with masks of one seed, or read what an earlier run has found."""
    found = gather_values(_read_run(path, cell, num_steps))[0]
    if found is not None:
        return found
    opened = open_run(weights, masking_ratio=cell.masking_ratio, mask_sites=_selections(cell), **opening)
    simulated = run_both(opened, num_steps, CodingOptions(), None, seed)
    result, evaluation = simulated.result, simulated.evaluation
    energy = estimate_energy(result)
    assert result.accuracy is not None
    run = SeedRun(
        seed=seed,
        num_images=result.num_images,
        num_neurons=sum(site.num_neurons for site in result.sites.values()),
        accuracy=tuple(result.accuracy.tolist()),
        spikes_per_image=tuple((result.sent_per_step.cumsum(0).double() / result.num_images).tolist()),
        energy_pj=energy.snn_energy_pj_per_step,
        ann_accuracy=evaluation.accuracy,
        ann_energy_pj=energy.ann.energy_pj,
        ann_quanta_per_neuron=evaluation.quanta_per_neuron,
    )
    if is_main_process():
        prepare_output(path.parent)
        write_json(path, asdict(run) | {"checkpoint": weights, "cell": cell, **opened.facts()})
    return run


def _read_run(path: Path, cell: SweepCell, num_steps: int) -> SeedRun | None:
    """What an earlier run of this cell has written, cut to T steps; None if there is nothing, or not as many steps."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        values = {name: stored[name] for name in SeedRun.__dataclass_fields__}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(values["accuracy"]) < num_steps or stored.get("cell") != asdict(cell):
        return None
    whole: dict[str, Any] = {k: tuple(v[:num_steps]) if isinstance(v, list) else v for k, v in values.items()}
    return SeedRun(**whole)


def _report(output: Path, settings: Mapping[str, Any], results: list[SweepResult], steps: list[int]) -> None:
    rows = sweep_rows(results, steps)
    what, where = settings["checkpoint"] or settings["model"], settings["dataset"]
    title = f"{what} on {where}"
    markdown = sweep_markdown(rows, title)
    console.print(markdown, highlight=False, soft_wrap=True)
    written = [
        write_sweep_csv(output / "sweep.csv", rows),
        write_text(output / "sweep.md", markdown),
        sweep_against_time(results, output / "accuracy_vs_time.png", title),
        sweep_pareto(results, output / "accuracy_vs_spikes.png", title),
    ]
    if len({result.cell.masking_ratio for result in results}) > 1:
        written.append(sweep_against_ratio(results, output / "accuracy_and_spikes_vs_ratio.png", title))
    print_files(*written, write_run_record(output, run_record("sweep", settings, {"rows": rows})))
