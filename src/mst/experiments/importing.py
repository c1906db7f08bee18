"""Weights from elsewhere turned into a checkpoint that describes itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mst.checkpoints import (
    ANCHORS,
    CheckpointInfo,
    import_released,
    import_swin,
    is_swin,
    read_state_dict,
    read_swin,
    save_checkpoint,
)
from mst.data import DatasetInfo, DataSplits, Preprocessing, dataset_info, load_dataset
from mst.errors import FileConflictError, InputError
from mst.files import prepare_folder, write_json
from mst.models import MaskedSpikingTransformer
from mst.options import flatten

from .opening import CALIBRATION_IMAGES, calibrate_on
from .options import ImportOptions
from .records import run_record


@dataclass(frozen=True)
class ImportRun:
    """Weights that have been imported."""

    source: str
    """File or timm name that they came from."""

    model: MaskedSpikingTransformer
    """The network."""

    checkpoint: Path
    """The checkpoint that was written."""

    record: Path
    """The run record."""

    calibration_images: int | None
    """Training images that set statistics and thresholds; None where the weights brought them."""


def run_import(options: ImportOptions, output: str | Path | None = None) -> ImportRun:
    """Turn released weights, or those of a Swin Transformer, into a checkpoint.

    Args:
        options: the weights, and what their files do not store.
        output: the .safetensors file to write; by default named after the weights, in the current folder.

    Raises:
        InputError: damaged weights or of another architecture; options that are missing or without effect.
        MissingFileError: no such file.
        FileConflictError: the output exists.
    """
    source = options.weights.name if options.weights is not None else str(options.from_timm)
    path = Path(output) if output is not None else Path(Path(source).with_suffix("").name + ".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"a checkpoint is a .safetensors file, got {path.name!r}")
    if path.exists():
        raise FileConflictError(f"{path} exists already", remedy="choose another name")
    known = None if options.dataset is None else dataset_info(options.dataset)
    if known is not None and known.sensor is not None:
        raise InputError(
            f"{options.dataset} holds recordings of an event camera, and imported weights take images",
            remedy="start a training with them: "
            f"mst train --dataset {options.dataset} --align-chans 3 --init-from {source}",
        )
    prepare_folder(path.parent)
    state = None if options.weights is None else read_state_dict(options.weights, ANCHORS)
    if state is None or is_swin(state):
        model, preprocessing, count = _import_swin(options, source, state, known)
    else:
        model, preprocessing, count = *_import_released(options, source, state, known), None
    names = () if known is None else known.class_names
    save_checkpoint(model, path, CheckpointInfo(options.dataset, names, preprocessing, {"imported_from": source}))
    settings = {"output": path, **flatten(options)}
    record = run_record("import", settings, {"config": asdict(model.config)})
    return ImportRun(source, model, path, write_json(path.with_suffix(".run_record.json"), record), count)


def _import_swin(
    options: ImportOptions, source: str, state: dict[str, Tensor] | None, known: DatasetInfo | None
) -> tuple[MaskedSpikingTransformer, Preprocessing | None, int | None]:
    if options.dataset is None:
        raise InputError(
            f"{source} holds a Swin, whose statistics and thresholds are set from images",
            remedy="name the data set with --dataset",
        )
    state = read_swin(None, options.from_timm) if state is None else state
    size = options.img_size or _size_of(options.from_timm, source)
    preprocessing = _preprocessing(options, known, size, state["patch_embed.proj.weight"].shape[1])
    data: DataSplits = load_dataset(
        options.dataset, options.data_path, preprocessing=preprocessing, img_size=size,
        on_bad_image=options.on_bad_image,
    )  # fmt: skip
    torch.manual_seed(options.seed)
    model = import_swin(
        state, size, num_classes=data.info.num_classes, num_levels=options.num_levels,
        masking_ratio=options.masking_ratio, mask_sites=options.mask_sites, mlp_batch_norm=bool(options.mlp_batch_norm),
    )  # fmt: skip
    wanted = CALIBRATION_IMAGES if options.calibration_images is None else options.calibration_images
    return model, data.preprocessing, calibrate_on(model, data, wanted)


def _import_released(
    options: ImportOptions, source: str, state: dict[str, Tensor], known: DatasetInfo | None
) -> tuple[MaskedSpikingTransformer, Preprocessing | None]:
    of_a_swin: dict[str, Any] = {
        "mlp_batch_norm": options.mlp_batch_norm,
        "calibration_images": options.calibration_images,
        "data_path": options.data_path,
    }
    given = [name for name, value in of_a_swin.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)} would have no effect: {source} holds an MST, not a Swin")
    model = import_released(state, options.img_size, options.num_levels, options.masking_ratio, options.mask_sites)
    _check_classes(model, options, known)
    return model, _preprocessing(options, known, model.config.image_shape[0], model.config.in_chans)


def _check_classes(model: MaskedSpikingTransformer, options: ImportOptions, known: DatasetInfo | None) -> None:
    """A data set of a fixed number of classes must have as many as the weights; of ImageNet there are subsets."""
    if known is not None and known.native_size is not None and known.num_classes != model.num_classes:
        raise InputError(
            f"{options.dataset} has {known.num_classes} classes, {options.weights} has {model.num_classes}"
        )


def _size_of(from_timm: str | None, source: str) -> int:
    """The image size that a Swin of timm was made for."""
    import timm

    config = timm.get_pretrained_cfg(from_timm) if from_timm is not None else None
    if config is None:
        raise InputError(f"{source} does not state the image size that it was made for", remedy="give --img-size")
    return int(config.input_size[-1])


def _preprocessing(
    options: ImportOptions, known: DatasetInfo | None, img_size: int, in_chans: int
) -> Preprocessing | None:
    """As given; else the data set's; else ImageNet's for three channels; None leaves it to the data set's images."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    ratio, mean, std = 1.0, options.mean, options.std
    if known is not None:
        ratio = known.crop_ratio
        mean, std = (mean, std) if mean is not None else (known.mean, known.std)
    elif mean is None and in_chans == 3:
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if mean is None or std is None:
        return None
    return Preprocessing(img_size, in_chans, tuple(mean), tuple(std), crop_ratio=ratio)
