"""`mst import`: released weights in, a checkpoint that describes itself out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mst.data import Preprocessing, dataset_info
from mst.models import CheckpointInfo, import_released, save_checkpoint
from mst.report import run_record, write_json

from .common import console, prepare_output, print_files


def import_weights(
    weights: Path,
    output: Path,
    img_size: int | None = None,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] = ("query", "key", "attention"),
    dataset: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> None:
    """Turn released weights (.pth, or .safetensors without a description) into a checkpoint.

    Sizes are read off the weights. What the released files do not store is given here: levels, masking ratio,
    data set, normalisation. Only tensors and plain values are unpickled; a file that asks for more is refused.

    Example: mst import ckpt.pth cifar10.safetensors --img-size 224 --masking-ratio 0.75

    Args:
        weights: the file to read.
        output: the .safetensors file to write.
        img_size: pixels; needed where the weights hold no table that tells.
        num_levels: L the weights were trained with.
        masking_ratio: fraction dropped the weights were trained with, in [0, 1).
        mask_sites: where they were masked; any of query, key, attention, mlp.
        dataset: name of the data set they were trained on.
        mean: per channel, of pixel values from 0 to 1; ImageNet's for three channels, the data set's otherwise.
        std: per channel, likewise.
    """
    settings = dict(locals())
    prepare_output(output.parent)
    if output.suffix != ".safetensors":
        raise ValueError(f"a checkpoint is a .safetensors file, got {output.name!r}")
    if output.exists():
        raise FileExistsError(f"{output} exists already; choose another name")
    if (mean is None) != (std is None):
        raise ValueError("give both --mean and --std, or neither")
    model = import_released(weights, img_size, num_levels, masking_ratio, tuple(mask_sites))
    config = model.config
    if dataset is not None and dataset_info(dataset).num_classes != model.num_classes:
        raise ValueError(
            f"{dataset} has {dataset_info(dataset).num_classes} classes, {weights} has {model.num_classes}"
        )
    if mean is None and config.in_chans == 3:
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    preprocessing = None
    if mean is not None and std is not None:
        preprocessing = Preprocessing(config.image_shape[0], config.in_chans, tuple(mean), tuple(std))
    names = dataset_info(dataset).class_names if dataset is not None else ()
    info = CheckpointInfo(dataset, names, preprocessing, {"imported_from": weights.name})
    save_checkpoint(model, output, info)
    parameters = sum(p.numel() for p in model.parameters())
    console.print(
        f"{weights.name}: MST with {parameters:,} parameters, {config.image_shape[0]} px, depths {config.depths}, "
        f"{model.num_classes} classes, MLP BatchNorm {'on' if config.mlp_batch_norm else 'off'}, L = {num_levels}, "
        f"masking ratio {masking_ratio:g}",
        highlight=False,
    )
    record = run_record("import", settings, {"config": asdict(config)})
    print_files(output, write_json(output.with_suffix(".run_record.json"), record))
