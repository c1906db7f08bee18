"""`mst import`: weights from elsewhere in, a checkpoint that describes itself out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mst.checkpoints import (
    CheckpointInfo,
    import_released,
    import_swin,
    is_swin,
    read_state_dict,
    read_swin,
    save_checkpoint,
    strip_prefixes,
)
from mst.data import BadImages, Preprocessing, dataset_info, load_dataset
from mst.files import write_json
from mst.models import MaskedSpikingTransformer
from mst.report import run_record

from .common import CALIBRATION_IMAGES, calibrate_on, console, prepare_output, print_files


def import_weights(
    weights: Path | None = None,
    output: Path | None = None,
    from_timm: str | None = None,
    img_size: int | None = None,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] = ("attention",),
    mlp_batch_norm: bool | None = None,
    dataset: str | None = None,
    data_path: Path | None = None,
    calibration_images: int | None = None,
    on_bad_image: BadImages = "fail",
    seed: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> None:
    """Turn released weights, or those of a Swin Transformer, into a checkpoint.

    Sizes are read off the weights. What files do not store is given here: levels, masking ratio, data set,
    normalisation. Only tensors and plain values are unpickled; a file that asks for more is refused.

    A Swin's weights are a start for training: linear maps and position tables are copied, LayerNorm's scale and shift
    become BatchNorm's, and statistics and thresholds are set from training images of the data set, which must be named.

    Example: mst import ckpt.pth -o cifar10.safetensors --img-size 224 --masking-ratio 0.75
    Example: mst import --from-timm swin_tiny_patch4_window7_224 --dataset cifar10 -o start.safetensors

    Args:
        weights: the file to read, .pth or .safetensors; may come first without --weights.
        output: the .safetensors file to write; -o for short. By default named after the weights, in this folder.
        from_timm: name of a Swin of timm; its published weights are downloaded unless a file is given.
        img_size: pixels; by default what the weights tell, or the smallest that their windows allow.
        num_levels: L: the released weights were trained with 16.
        masking_ratio: fraction dropped: what the weights were trained with, or are to be trained with; in [0, 1).
        mask_sites: where: attention, mlp, all, a role or a glob of site names.
        mlp_batch_norm: for a Swin: give the MLP BatchNorms of its own; it has none by default.
        dataset: name of the data set they were trained on, or are to be trained on.
        data_path: for a Swin: folder with the data set's files.
        calibration_images: for a Swin: training images that set statistics and thresholds; 256 by default.
        on_bad_image: for a Swin: at an image file that cannot be decoded: fail, or skip it and say so.
        seed: for a Swin: of a new head and of the masks that act while thresholds are set.
        mean: per channel, of pixel values from 0 to 1; by default the data set's, or ImageNet's.
        std: per channel, likewise.
    """
    settings = dict(locals())
    if weights is None and from_timm is None:
        raise ValueError("name a file of weights, or a Swin of timm with --from-timm")
    if (mean is None) != (std is None):
        raise ValueError("give both --mean and --std, or neither")
    source = weights.name if weights is not None else str(from_timm)
    output = output or Path(Path(source).with_suffix("").name + ".safetensors")
    if output.suffix != ".safetensors":
        raise ValueError(f"a checkpoint is a .safetensors file, got {output.name!r}")
    if output.exists():
        raise FileExistsError(f"{output} exists already; choose another name")
    if dataset is not None and dataset_info(dataset).sensor is not None:
        raise ValueError(
            f"{dataset} holds recordings of an event camera, and weights that are imported take images; begin a "
            f"training with them: mst train --dataset {dataset} --align-chans 3 --init-from {source}"
        )
    prepare_output(output.parent)
    if from_timm is not None or (weights is not None and is_swin(strip_prefixes(read_state_dict(weights)))):
        if dataset is None:
            raise ValueError(
                f"{source} holds a Swin, whose statistics and thresholds are set from images; name them with --dataset"
            )
        state = read_swin(weights, from_timm)
        size = img_size or _size_of(from_timm, source)
        preprocessing = _preprocessing(size, state["patch_embed.proj.weight"].shape[1], dataset, mean, std)
        data = load_dataset(dataset, data_path, preprocessing=preprocessing, img_size=size, on_bad_image=on_bad_image)
        torch.manual_seed(seed)
        model = import_swin(
            state, size, num_classes=data.info.num_classes, num_levels=num_levels, masking_ratio=masking_ratio,
            mask_sites=tuple(mask_sites), mlp_batch_norm=bool(mlp_batch_norm),
        )  # fmt: skip
        count = calibrate_on(model, data, CALIBRATION_IMAGES if calibration_images is None else calibration_images)
        preprocessing = data.preprocessing
        notes = f", statistics and thresholds set from {count} training images of {dataset}; to be trained before use"
    else:
        assert weights is not None
        _refuse_options_of_a_swin(
            source, mlp_batch_norm=mlp_batch_norm, calibration_images=calibration_images, data_path=data_path
        )
        model, notes = import_released(weights, img_size, num_levels, masking_ratio, tuple(mask_sites)), ""
        preprocessing = _preprocessing(model.config.image_shape[0], model.config.in_chans, dataset, mean, std)
        _check_classes(model, dataset, weights)
    save_checkpoint(
        model, output, CheckpointInfo(dataset, _class_names(dataset), preprocessing, {"imported_from": source})
    )
    config = model.config
    console.print(
        f"{source}: MST with {sum(p.numel() for p in model.parameters()):,} parameters, {config.image_shape[0]} px, "
        f"depths {config.depths}, {model.num_classes} classes, L = {num_levels}, masking ratio {masking_ratio:g}, "
        f"MLP BatchNorm {'on' if config.mlp_batch_norm else 'off'}{notes}",
        highlight=False,
        soft_wrap=True,
    )
    record = run_record("import", settings, {"config": asdict(config)})
    print_files(output, write_json(output.with_suffix(".run_record.json"), record))


def _refuse_options_of_a_swin(source: str, **options: object) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} would have no effect: {source} holds an MST and no Swin")


def _check_classes(model: MaskedSpikingTransformer, dataset: str | None, weights: Path) -> None:
    """A data set of a fixed number of classes must have as many as the weights; of ImageNet there are subsets."""
    known = dataset_info(dataset) if dataset is not None else None
    if known is not None and known.native_size is not None and known.num_classes != model.num_classes:
        raise ValueError(f"{dataset} has {known.num_classes} classes, {weights} has {model.num_classes}")


def _class_names(dataset: str | None) -> tuple[str, ...]:
    return dataset_info(dataset).class_names if dataset is not None else ()


def _size_of(from_timm: str | None, source: str) -> int:
    """The image size that a Swin of timm was made for."""
    config = timm.get_pretrained_cfg(from_timm) if from_timm is not None else None
    if config is None:
        raise ValueError(f"{source} does not say which image size it was made for; give --img-size")
    return int(config.input_size[-1])


def _preprocessing(
    img_size: int,
    in_chans: int,
    dataset: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Preprocessing | None:
    """As given; else the data set's; else ImageNet's for three channels; None leaves it to the data set's images."""
    ratio = 1.0
    if dataset is not None:
        info = dataset_info(dataset)
        ratio = info.crop_ratio
        mean, std = (mean, std) if mean is not None else (info.mean, info.std)
    elif mean is None and in_chans == 3:
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if mean is None or std is None:
        return None
    return Preprocessing(img_size, in_chans, tuple(mean), tuple(std), crop_ratio=ratio)
