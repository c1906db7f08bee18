"""A trained network turned into one with sites, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from mst.checkpoints import read_checkpoint_info, save_checkpoint
from mst.errors import FileConflictError, InputError
from mst.models import MaskedSpikingTransformer
from mst.neurons import find_sites, limit_powers
from mst.quantization import (
    activation_classes,
    allocate_levels,
    correct_biases,
    correct_weights,
    quantization_of,
    quantize,
    set_thresholds,
)
from mst.text import note
from mst.training import Evaluation

from .opening import CALIBRATION_BATCH, OpenedRun, masking_ratio_of, open_checkpoint, training_images
from .options import CheckpointOptions
from .quantizing_options import QuantizingOptions
from .spiking_run import evaluate_opened

QUANTIZED_CHECKPOINT = "quantized.safetensors"
"""The checkpoint that is written, in the output folder."""


@dataclass(frozen=True)
class QuantizingRun:
    """A network that has been quantised."""

    opened: OpenedRun
    """The network as it was trained, and its test images."""

    model: nn.Module
    """The network with sites."""

    plain: Evaluation
    """The network as it was trained, on the test images."""

    evaluation: Evaluation
    """The network with sites on the same images."""

    checkpoint: Path
    """The checkpoint that was written."""

    @property
    def num_sites(self) -> int:
        """Sites of the network."""
        return len(find_sites(self.model))

    @property
    def agreement(self) -> float:
        """Share of the images that both networks give the same class."""
        same = self.plain.logits.argmax(dim=1) == self.evaluation.logits.argmax(dim=1)
        return float(same.double().mean())


def run_quantizing(options: QuantizingOptions, output: str | Path) -> QuantizingRun:
    """Quantise a trained network, evaluate both on the same images, and write a checkpoint.

    Args:
        options: the network (trained in float, or an MST with sites at its activations), the images that set its
            levels, and how.
        output: folder for the checkpoint.

    Raises:
        MissingFileError: the checkpoint or the data set's files do not exist.
        FileConflictError: the folder holds a quantised checkpoint.
        InputError: a network that has sites already; as `open_checkpoint` and `mst.quantize`.
    """
    path = Path(output) / QUANTIZED_CHECKPOINT
    if path.exists():
        raise FileConflictError(f"{path} exists already", remedy="choose another --output")
    opened = open_checkpoint(
        CheckpointOptions(
            options.checkpoint, options.dataset, options.data_path, options.batch_size, options.max_images,
            device=options.device, num_workers=options.num_workers, threads=options.threads,
        )
    )  # fmt: skip
    model = _quantized(opened, options)
    plain = evaluate_opened(opened, seed=0)
    evaluation = evaluate_opened(replace(opened, model=model), seed=0)
    info = read_checkpoint_info(options.checkpoint)
    made = {
        "quantized_from": str(opened.checkpoint), "calibration_images": options.calibration_images,
        "allocate_levels": options.allocate_levels, "bias_correction": options.bias_correction,
        "weight_correction": options.weight_correction,
        "float_accuracy": plain.accuracy, "accuracy": evaluation.accuracy,
    }  # fmt: skip
    save_checkpoint(model, path, replace(info, provenance={**info.provenance, **made}))
    return QuantizingRun(opened, model, plain, evaluation, path)


def _quantized(opened: OpenedRun, options: QuantizingOptions) -> nn.Module:
    """The network of `opened` with sites, their levels set from training images."""
    noted, how = quantization_of(opened.model), options.quantize
    is_mst = isinstance(opened.model, MaskedSpikingTransformer) and noted is None and how.placement == "products"
    if not is_mst and (noted is None or noted.placement != "none"):
        raise InputError(
            "it has sites already",
            where=str(options.checkpoint),
            remedy="train in float, with mst train --quantize.placement none; or change the levels of this network "
            "with mst.set_levels",
        )
    if masking_ratio_of(opened.model):
        note(
            f"{options.checkpoint} masks sites at activations; the network with sites at products has no masks. "
            "--masking-ratio and --mask-sites of the other verbs mask these"
        )
    images = list(torch.split(training_images(opened.data, options.calibration_images), CALIBRATION_BATCH))
    model = quantize(
        opened.model, options.num_levels, images, placement=how.placement, threshold_from=how.threshold_from,
        percentile=how.percentile, per_channel=how.per_channel, max_pool=how.max_pool, image_site=how.image_site,
        also=activation_classes(how.also), architecture=None if noted is None else noted.architecture,
    )  # fmt: skip
    if options.allocate_levels:
        allocate_levels(model, images)
    if options.max_powers is not None:
        limit_powers(model, options.max_powers)
    if options.allocate_levels or options.max_powers is not None:
        set_thresholds(model, images, **how.calibration())
    if options.bias_correction:
        correct_biases(model, images)
    if options.weight_correction:
        correct_weights(model, images)
    return model.eval()
