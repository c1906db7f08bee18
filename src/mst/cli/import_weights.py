"""`mst import`: weights from elsewhere in, a checkpoint that describes itself out."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.options import ImportOptions

from .display import print_files, print_line


def import_weights(options: ImportOptions, output: Path | None = None) -> None:
    """Turn released weights, or those of a Swin Transformer, into a checkpoint.

    Sizes are read off the weights. What files do not store is given here: levels, masking ratio, data set,
    normalisation. Only tensors and plain values are unpickled; a file that asks for more is refused.

    A Swin's weights are a start for training: linear maps and position tables are copied, LayerNorm's scale and shift
    become BatchNorm's, and statistics and thresholds are set from training images of the data set, which must be named.

    Example: mst import ckpt.pth -o cifar10.safetensors --img-size 224 --masking-ratio 0.75
    Example: mst import --from-timm swin_tiny_patch4_window7_224 --dataset cifar10 -o start.safetensors

    Args:
        options: the weights, and what their files do not store.
        output: The .safetensors file to write; -o for short. By default named after the weights, in this folder.
    """
    from mst.experiments import run_import

    run = run_import(options, output)
    model, config = run.model, run.model.config
    start = ""
    if run.calibration_images is not None:
        start = (
            f", statistics and thresholds set from {run.calibration_images} training images of {options.dataset}; "
            "to be trained before use"
        )
    parameters = sum(p.numel() for p in model.parameters())
    print_line(
        f"{run.source}: MST with {parameters:,} parameters, {config.image_shape[0]} px, "
        f"depths {config.depths}, {model.num_classes} classes, L = {config.num_levels}, masking ratio "
        f"{config.masking_ratio:g}, MLP BatchNorm {'on' if config.mlp_batch_norm else 'off'}{start}"
    )
    print_files(run.checkpoint, run.record)
