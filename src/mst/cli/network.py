"""From options to a network that is ready for training: built, quantised, masked, and started from given weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mst.checkpoints import load_initial_weights
from mst.conversion import ConversionError, convert
from mst.data import DataSplits
from mst.models import MODEL_NAMES, build
from mst.quantization import (
    MaxPool,
    ThresholdFrom,
    check_same,
    create_model,
    in_evaluation,
    note_quantization,
    quantization_of,
)

from .common import CALIBRATION_IMAGES, calibrate_on, remark


@dataclass(frozen=True)
class QuantizeConfig:
    """How a network that is no MST is quantised.

    Args:
        max_pool: keep max-pools, or replace them by average pools.
        also: torch's activations to replace besides those like ReLU, by class name, for example GELU.
        small_stem: let a network made for 224 px keep the resolution of small images: 3x3 first, stride 1, no pool.
        threshold_from: thresholds from calibration images: least_squares, max or percentile.
        percentile: for threshold_from percentile.
        per_channel: a threshold for each channel rather than one for the site.
    """

    max_pool: MaxPool = "keep"
    also: tuple[str, ...] = ()
    small_stem: bool = False
    threshold_from: ThresholdFrom = "least_squares"
    percentile: float = 99.9
    per_channel: bool = False

    @property
    def calibration(self) -> dict[str, Any]:
        """What acts only where thresholds are set from images."""
        return {"threshold_from": self.threshold_from, "percentile": self.percentile, "per_channel": self.per_channel}


def image_size_option(
    img_size: int | tuple[int, int] | None, model_kwargs: Mapping[str, Any] | None
) -> int | tuple[int, int] | None:
    """The image size that the options ask for; None leaves it to the data set.

    Raises:
        ValueError: two sizes.
    """
    size = (model_kwargs or {}).get("img_size")
    size = tuple(size) if isinstance(size, list) else size
    if size is not None and img_size not in (None, size):
        raise ValueError(f"img_size {img_size} and model_kwargs.img_size {size} differ")
    return img_size if size is None else size


def build_network(
    model: str,
    model_kwargs: Mapping[str, Any] | None,
    splits: DataSplits,
    *,
    num_levels: int,
    masking_ratio: float,
    mask_sites: tuple[str, ...] | None,
    quantize: QuantizeConfig,
    pretrained: bool = False,
    align_chans: int = 0,
) -> nn.Module:
    """A network for the images and classes of `splits`, with weights drawn anew or published ones.

    Raises:
        ValueError: options that another option or the data set decides, or that have no effect on this model.
    """
    options = dict(model_kwargs or {})
    taken = {"masking_ratio", "mask_sites", "num_levels", "num_classes", "in_chans", "align_chans"} & options.keys()
    if taken:
        raise ValueError(
            f"model_kwargs may not hold {', '.join(sorted(taken))}: masking_ratio, mask_sites, num_levels and "
            "align_chans are options of their own, num_classes and in_chans follow from the data set"
        )
    images = splits.preprocessing
    is_mst = model in MODEL_NAMES
    if is_mst and quantize != QuantizeConfig():
        raise ValueError(f"the options of quantize have no effect on {model}, which is made of QCFS sites")
    if is_mst or "img_size" in options or model == "vgg16_small":
        options["img_size"] = images.img_size
    network = create_model(
        model,
        num_levels=num_levels,
        masking_ratio=masking_ratio,
        mask_sites=mask_sites,
        max_pool=quantize.max_pool,
        also=quantize.also,
        small_stem=quantize.small_stem,
        pretrained=pretrained,
        align_chans=align_chans,
        num_classes=splits.info.num_classes,
        in_chans=images.in_chans,
        **options,
    )
    if quantization_of(network) is not None:
        shape = (images.in_chans, *images.size)
        note_quantization(network, image_shape=shape, num_classes=splits.info.num_classes)
        _try(network, model, shape, splits.info.num_classes, quantize.also)
        _say_if_it_cannot_be_converted(network, model)
    return network


def _try(network: nn.Module, name: str, shape: tuple[int, int, int], num_classes: int, also: tuple[str, ...]) -> None:
    """See that the network takes the images, gives logits, and is the one of that name, before hours are spent on it.

    Raises:
        ValueError: it does not.
    """
    noted = quantization_of(network)
    assert noted is not None
    assert noted.architecture is not None
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), in_evaluation(network):
            logits = network(images)
    except Exception as error:  # foreign code, which may fail in any way
        raise ValueError(
            f"{name} does not take images of {' x '.join(map(str, shape))}: {error}. If they are too small for it, try "
            "--quantize.small-stem, or a larger --img-size"
        ) from error
    plain = build(noted.architecture)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.endswith(".threshold")}, strict=False)
    if noted.max_pool == "keep":
        check_same(plain, network, images, noted.caps, tuple(getattr(nn, kind) for kind in also))
    if tuple(getattr(logits, "shape", ())) != (2, num_classes):
        raise ValueError(f"{name} gives no logits of shape [B, {num_classes}]")


def _say_if_it_cannot_be_converted(network: nn.Module, name: str) -> None:
    """A network may be wanted as an ANN; but nobody should learn of it after days of training."""
    try:
        convert(network)
    except ConversionError as error:
        first = "; ".join(str(obstacle) for obstacle in error.obstacles[:2])
        places = f"{len(error.obstacles)} places, among them {first}"
        try:
            convert(network, "lossless")
        except ConversionError:
            remark(f"{name} can be trained, but not converted: {places}")
        else:
            remark(f"{name} can be converted under lossless coding, but not under rate coding: {places}")


def start_from(
    network: nn.Module,
    init_from: str | None,
    pretrained: bool,
    splits: DataSplits,
    calibration_images: int | None,
    quantize: QuantizeConfig,
) -> None:
    """Fill `network` with the weights asked for, set thresholds where they brought none, and say what came of it.

    Raises:
        ValueError: weights that do not fit, or options without effect.
    """
    needs_calibration = pretrained
    said = "starting from the published weights"
    if init_from is not None:
        start = load_initial_weights(network, init_from)
        needs_calibration = start.needs_calibration
        said = f"starting from {init_from}" + (
            "" if start.head_kept else "; its head is for other classes, so a new one starts"
        )
    if needs_calibration:
        count = calibrate_on(
            network, splits, CALIBRATION_IMAGES if calibration_images is None else calibration_images,
            **quantize.calibration,
        )  # fmt: skip
        said += f"; thresholds are set from {count} training images"
    elif calibration_images is not None or quantize.calibration != QuantizeConfig().calibration:
        raise ValueError(
            "calibration_images, threshold_from, percentile and per_channel have no effect where thresholds are not "
            "set from images: training from scratch, or from weights that bring their own"
        )
    if init_from is not None or pretrained:
        remark(said)
