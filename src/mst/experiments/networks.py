"""From options to a network that is ready for training: built, quantised, masked, and given its initial weights."""

from __future__ import annotations

import torch
from torch import nn

from mst.checkpoints import load_initial_weights, read_checkpoint_info
from mst.conversion import ConversionError, convert
from mst.data import DataSplits
from mst.errors import InputError
from mst.models import MODEL_NAMES
from mst.neurons import limit_powers
from mst.quantization import check_same_as_plain, create_model, in_evaluation, note_quantization, quantization_of
from mst.text import note

from .opening import CALIBRATION_IMAGES, calibrate_on
from .options import NetworkOptions, QuantizeOptions

RESERVED = ("masking_ratio", "mask_sites", "mask_rule", "num_levels", "num_classes", "in_chans", "align_chans")
"""Keywords of a model that are options of their own, or follow from the data set."""


def image_size_option(img_size: int | tuple[int, int] | None, options: NetworkOptions) -> int | tuple[int, int] | None:
    """The image size that the options ask for; None leaves it to the data set.

    Raises:
        InputError: two different sizes.
    """
    size = (options.model_kwargs or {}).get("img_size")
    size = tuple(size) if isinstance(size, list) else size
    if size is not None and img_size not in (None, size):
        raise InputError(f"img_size {img_size} and model_kwargs.img_size {size} differ", remedy="give one of them")
    return img_size if size is None else size


def build_network(options: NetworkOptions, splits: DataSplits, download: bool = True) -> nn.Module:
    """A network for the images and classes of `splits`, with random weights or published ones.

    Args:
        options: the network. `init_from` and `calibration_images` are not read here, see `start_from`.
        splits: the data set.
        download: fetch published weights where `options.pretrained` asks for them.

    Raises:
        InputError: options that another option or the data set decides, or that have no effect on this model.
    """
    kwargs = dict(options.model_kwargs or {})
    taken = sorted(set(RESERVED) & kwargs.keys())
    if taken:
        raise InputError(
            f"model_kwargs may not hold {', '.join(taken)}",
            remedy="masking_ratio, mask_sites, mask_rule, num_levels and align_chans are options of their own; "
            "num_classes and in_chans follow from the data set",
        )
    images, quantize = splits.preprocessing, options.quantize
    is_mst = options.model in MODEL_NAMES
    if is_mst and quantize.placement == "activations" and quantize != QuantizeOptions():
        raise InputError(f"the options of quantize have no effect on {options.model}, which is made of QCFS sites")
    if is_mst or "img_size" in kwargs or options.model == "vgg16_small":
        kwargs["img_size"] = images.img_size
    if quantize.placement == "none" and options.num_levels != NetworkOptions().num_levels:
        raise InputError("num_levels has no effect with placement none, which sets no sites")
    example = torch.rand(2, images.in_chans, *images.size, generator=torch.Generator().manual_seed(0))
    network = create_model(
        options.model,
        num_levels=options.num_levels,
        masking_ratio=options.masking_ratio,
        mask_sites=options.mask_sites,
        mask_rule=options.mask_rule,
        placement=quantize.placement,
        image_site=quantize.image_site,
        example=example if quantize.placement == "products" else None,
        max_pool=quantize.max_pool,
        also=quantize.also,
        small_stem=quantize.small_stem,
        pretrained=options.pretrained and download,
        align_chans=options.align_chans,
        num_classes=splits.info.num_classes,
        in_chans=images.in_chans,
        **kwargs,
    )
    if options.max_powers is not None:
        limit_powers(network, options.max_powers)
    if quantization_of(network) is not None:
        shape = (images.in_chans, *images.size)
        note_quantization(network, image_shape=shape, num_classes=splits.info.num_classes)
        _try(network, options, shape, splits.info.num_classes)
        if quantize.placement != "none":
            _report_if_it_cannot_be_converted(network, options.model)
    return network


def _try(network: nn.Module, options: NetworkOptions, shape: tuple[int, int, int], num_classes: int) -> None:
    """Check on two random images that the network takes them, gives logits, and computes what its name promises."""
    name = options.model
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), in_evaluation(network):
            logits = network(images)
    except Exception as error:  # foreign code, which may fail in any way
        raise InputError(
            f"{name} does not take images of {' x '.join(map(str, shape))}: {error}",
            remedy="if they are too small for it, try --quantize.small-stem, or a larger --img-size",
        ) from error
    check_same_as_plain(network, images)
    if tuple(getattr(logits, "shape", ())) != (2, num_classes):
        raise InputError(f"{name} gives no logits of shape [B, {num_classes}]")


def _report_if_it_cannot_be_converted(network: nn.Module, name: str) -> None:
    """The network may be wanted as an ANN; but the user should learn of it before days of training."""
    try:
        convert(network)
    except ConversionError as error:
        first = "; ".join(str(obstacle) for obstacle in error.obstacles[:2])
        places = f"{len(error.obstacles)} places, among them {first}"
        try:
            convert(network, "lossless")
        except ConversionError:
            note(f"{name} can be trained, but not converted: {places}")
        else:
            note(f"{name} can be converted under lossless coding, but not under rate coding: {places}")


def start_from(network: nn.Module, options: NetworkOptions, splits: DataSplits) -> None:
    """Fill `network` with the weights asked for, set thresholds where they brought none, and report the start.

    Raises:
        InputError: weights that do not fit, or options without effect.
    """
    how = options.quantize.calibration()
    placement = options.quantize.placement
    needs_calibration = (options.pretrained and placement != "none") or (
        options.init_from is None and placement == "products"  # its levels come from images
    )
    report = "starting from the published weights"
    if options.init_from is not None:
        start = load_initial_weights(network, options.init_from)
        classes, trained = splits.info.class_names, _classes_of(options.init_from)
        needs_calibration = start.needs_calibration and placement != "none"
        head = "" if start.head_kept else "; its head is for other classes, so a new one is drawn"
        if start.head_kept and classes and trained and classes != trained:
            head = "; its head was trained on other classes"
        report = f"starting from {options.init_from}{head}"
    if needs_calibration:
        wanted = CALIBRATION_IMAGES if options.calibration_images is None else options.calibration_images
        count = calibrate_on(network, splits, wanted, **how)
        report += f"; thresholds are set from {count} training images"
    elif options.calibration_images is not None or how != QuantizeOptions().calibration():
        raise InputError(
            "calibration_images, threshold_from, percentile and per_channel have no effect where thresholds are not "
            "set from images: training from scratch, or from weights that bring their own"
        )
    if options.init_from is not None or options.pretrained:
        note(report)


def _classes_of(source: str) -> tuple[str, ...]:
    """Names of the classes of a checkpoint; empty for weights that do not state them."""
    try:
        return read_checkpoint_info(source).class_names
    except (InputError, FileNotFoundError):
        return ()
