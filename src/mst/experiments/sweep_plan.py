"""Plan of a sweep: its options with every default filled in, its cells, and what is refused before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from torch import nn

from mst.checkpoints import load_checkpoint, read_checkpoint_info
from mst.checkpoints.references import checkpoint_file
from mst.conversion import CODINGS, coding_of, convert
from mst.data import DataSplits, EventRepresentation, first_readable, load_dataset
from mst.errors import InputError
from mst.measure import check_can_be_priced
from mst.models import MODEL_NAMES, spec_of
from mst.neurons import ALL_SITES, DEFAULT_SCHEDULE, find_sites, limit_powers, mask_spikes
from mst.options import flatten
from mst.training import FREE_ON_RESUME, TrainConfig

from .networks import build_network, image_size_option
from .options import CodingOptions, ExitRule, NetworkOptions, Placement, ScheduleName
from .spiking_run import check_effects, check_enough_images, fixed_rule
from .sweep_options import SweepOptions
from .sweep_results import SweepCell

DEFAULT_DATASET = "digits"


def open_sweep(options: SweepOptions) -> tuple[SweepOptions, DataSplits]:
    """The data set, and the options with what the checkpoint decides filled in."""
    checkpoint, data = options.checkpoint, options.data
    levels, penalties, dataset = options.num_levels or (16,), options.spike_penalties or (0.0,), options.dataset
    limits, quantize = options.max_powers, options.quantize
    preprocessing = None
    if options.method == "evaluate":
        assert checkpoint is not None
        network = load_checkpoint(checkpoint)
        own_levels, own_penalty, own_dataset = _trained_with(checkpoint, network)
        levels, penalties, dataset = (own_levels,), (own_penalty,), dataset or own_dataset
        limits = limits or tuple({site.max_powers for site in find_sites(network).values() if site.max_powers}) or None
        quantize = replace(quantize, placement=_placement_of(network))
        preprocessing = read_checkpoint_info(checkpoint).preprocessing
        data = replace(data, img_size=None if preprocessing is None else preprocessing.img_size)
    elif checkpoint is not None and checkpoint_file(checkpoint).suffix == ".safetensors" and dataset is None:
        dataset = _dataset_of(checkpoint)
        data = replace(data, events=_events_of(checkpoint, data.events))
    dataset = dataset or DEFAULT_DATASET
    size = image_size_option(data.img_size, NetworkOptions(model_kwargs=options.model_kwargs))
    data = replace(data, dataset=dataset, img_size=size)
    splits = load_dataset(data, preprocessing=preprocessing)
    sites = options.mask_sites
    if sites is None:
        sites = ("attention",) if options.model in MODEL_NAMES else (ALL_SITES,)
        if options.method == "evaluate":
            spec = spec_of(network)
            sites = (ALL_SITES,) if spec is None else spec.default_mask_sites
    schedules = options.schedules
    if schedules is None and options.placements is None:
        schedules = (_usual_schedule(quantize.placement),)
    options = replace(
        options, num_levels=levels, spike_penalties=penalties, max_powers=limits, dataset=dataset, data=data,
        mask_sites=sites, quantize=quantize, schedules=schedules,
    )  # fmt: skip
    return options, splits


def _placement_of(network: nn.Module) -> Placement:
    """Where the sites of a network are."""
    return "products" if any(site.is_operand for site in find_sites(network).values()) else "activations"


def _trained_with(checkpoint: Path, network: nn.Module) -> tuple[int, float, str | None]:
    """Levels, spike penalty and data set of a checkpoint."""
    levels = {site.num_levels - site.min_level for site in find_sites(network).values()}
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


def check_sweep(options: SweepOptions) -> None:
    """Check that the options go with the method, and that those of a coding go with one that is swept.

    Raises:
        InputError: a start is missing or there are two, or options would have no effect; an unknown coding.
    """
    given = {"schedules": options.schedules, "bursts": options.bursts != (1,),
             "resting_images": options.resting_images, "input_steps": options.input_steps != 1}  # fmt: skip
    check_effects([name for name, is_given in given.items() if is_given], [coding_of(name) for name in options.codings])
    for rule in options.exit_rules:
        fixed_rule(options.steps(seed=0, rule=rule))
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
        "model", "quantize", "placements", "augment", "events", "event_augment", "align_chans",
    )  # fmt: skip
    given = [name for name in of_training if settings.get(name) != plain_options.get(name)]
    free = {name: getattr(options.train, name) for name in FREE_ON_RESUME}
    given += ["train"] if options.train != TrainConfig(**free) else []
    if given:
        raise InputError(f"{', '.join(given)} belong to training; --method evaluate takes the checkpoint as it is")


def cells_of(options: SweepOptions) -> Iterator[SweepCell]:
    """Every combination once; where nothing is masked the sites make no difference, and without a schedule the burst
    makes none. Of several placements, those that a coding does not carry are left out."""
    seen, usual = set(), options.quantize.placement
    axes = (
        options.num_levels or (), options.spike_penalties or (), options.max_powers or (0,),
        options.placements or (usual,), options.mask_sites or (), options.masking_ratios, options.codings,
        options.schedules or (None,), options.bursts, options.exit_rules,
    )  # fmt: skip
    for levels, penalty, limit, placement, where, ratio, coding, schedule, burst, rule in product(*axes):
        if len(axes[3]) > 1 and placement == "products" and not CODINGS[coding].carries_negative_levels:
            continue
        cell = SweepCell(
            levels, ratio, where if ratio else "", penalty, limit, coding,
            placement=None if placement == usual else placement, early_exit=rule if options.early_exits else None,
        )  # fmt: skip
        if CODINGS[coding].has_schedule:
            cell = replace(cell, schedule=schedule or _usual_schedule(placement), burst=burst)
        if cell not in seen:
            seen.add(cell)
            yield cell


def _usual_schedule(placement: Placement) -> ScheduleName:
    return "free" if placement == "products" else DEFAULT_SCHEDULE


def exit_rule(options: SweepOptions, cell: SweepCell) -> ExitRule | None:
    """Rule of early exit of a cell."""
    return cell.early_exit or options.early_exit


def coding_options(options: SweepOptions, cell: SweepCell) -> CodingOptions:
    """Options of the simulation of a cell."""
    coding = CODINGS[cell.coding]
    return CodingOptions(
        cell.coding,
        cell.burst,
        cell.schedule,
        options.resting_images if coding.takes_initial_levels else 0,
        options.input_steps if coding.sends_changes else 1,
    )


def selections(cell: SweepCell) -> tuple[str, ...] | None:
    return tuple(cell.mask_sites.split("+")) if cell.mask_sites else None


def network_options(options: SweepOptions, cell: SweepCell) -> NetworkOptions:
    return NetworkOptions(
        model=options.model, model_kwargs=options.model_kwargs, pretrained=options.pretrained,
        init_from=None if options.checkpoint is None else str(options.checkpoint),
        calibration_images=options.calibration_images, masking_ratio=cell.masking_ratio, mask_sites=selections(cell),
        mask_rule=options.mask_rule, num_levels=cell.num_levels, max_powers=cell.max_powers or None,
        quantize=replace(options.quantize, placement=cell.placement or options.quantize.placement),
        align_chans=options.align_chans,
    )  # fmt: skip


def try_cells(cells: Sequence[SweepCell], splits: DataSplits, options: SweepOptions) -> None:
    """Build, mask and convert the network of each cell, weights aside, once for each coding.

    Raises:
        InputError: one of these fails; operations without a price; early exit that the test images cannot show.
    """
    if any(options.exit_rules) and options.exit.value is None:
        check_enough_images(len(splits.test), options.exit)
    image = first_readable(splits.test)[0][None]
    codings: dict[str, dict[str, SweepCell]] = {}
    for cell in cells:
        codings.setdefault(cell.name, {})[cell.coding] = cell
    for of_network in codings.values():
        network = _try_network(next(iter(of_network.values())), splits, options)
        for coding, cell in of_network.items():
            if not CODINGS[coding].carries_negative_levels and _has_negative_levels(network):
                raise InputError(
                    f"{coding} coding does not carry the levels below 0 of sites at products",
                    remedy="sweep with --codings lossless, or with --quantize.placement activations",
                )
            snn = convert(network, coding, image, burst=cell.burst, schedule=cell.schedule)
            check_can_be_priced(snn, image)


def _has_negative_levels(network: nn.Module) -> bool:
    return any(site.min_level < 0 for site in find_sites(network).values())


def _try_network(cell: SweepCell, splits: DataSplits, options: SweepOptions) -> nn.Module:
    """The network of a cell as it will be simulated, with random weights where it is to be trained."""
    if options.method != "evaluate":
        replace(options.train, spike_penalty=cell.spike_penalty)  # refuses a wrong one
        return build_network(network_options(options, cell), splits, download=False)
    assert options.checkpoint is not None
    network = load_checkpoint(options.checkpoint)
    mask_spikes(network, cell.masking_ratio, selections(cell) or ALL_SITES, options.mask_rule)
    if cell.max_powers:
        limit_powers(network, cell.max_powers)
    return network
