"""Thresholds and BatchNorm statistics set from data, for weights that were trained without them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mst.data import ImageData, image_batches
from mst.errors import InputError
from mst.models import NetworkInput, TokenBatchNorm, ann_of, check_weights, spec_of
from mst.neurons import ALL_SITES, MIN_THRESHOLD, QCFS, find_sites, select_sites
from mst.numbers import real_number

from .fitting import DEFAULT_PERCENTILE, LEAST_VALUES, OPERAND_ROWS, Sample, ThresholdFrom, fit_levels, fit_threshold

logger = logging.getLogger(__name__)


def set_thresholds(
    model: nn.Module,
    batches: ImageData,
    caps: Mapping[str, float] | None = None,
    threshold_from: ThresholdFrom = "least_squares",
    percentile: float = DEFAULT_PERCENTILE,
    per_channel: bool = False,
) -> tuple[tuple[int, ...], int | None]:
    """Set every site's threshold from the values that reach it while all sites act as the ReLU that they replaced.

    Call it on a network that `quantize` or `create_model` made without calibration images, once it has trained weights.

    Args:
        model: an ANN with QCFS sites; its mode and its weights do not change.
        batches: images [N, ...] or (images, labels); batches of either, for example a DataLoader; a data set, of which
            all images are used. See `mst.data.ImageData`.
        caps: site -> largest output of the activation that it replaced, for those that saturate; by default as
            `quantize` noted them.
        threshold_from, percentile, per_channel: see `quantize`.

    Returns:
        The shape of one image, and the length of the output (None if the output is not [B, classes]).

    Raises:
        InputError: an unknown choice, threshold_from for sites at products alone, a percentile outside (0, 100], no
            site, or no images; NaN or infinity in weights or images, or before a site; images that the network does
            not take. Then no threshold has changed.
    """
    _check_rule(threshold_from, percentile)
    model = ann_of(model, "mst.set_thresholds", "set the thresholds of the ANN, then convert it")
    if caps is None:
        spec = spec_of(model)
        caps = {} if spec is None else spec.caps
    sites = select_sites(model, ALL_SITES)
    if threshold_from != "least_squares" and all(site.is_operand for site in sites.values()):
        raise InputError(
            f"threshold_from={threshold_from!r} has no effect on sites at products",
            remedy="leave it out: their levels are fitted by least squares",
        )
    samples, shape, num_classes = _observed(model, batches, caps, sites, per_channel)
    for name, sample in samples.items():
        _check_sample(name, sample)
    for name, site in sites.items():
        if site.is_operand:
            _set_levels(site, name, samples[name])
        else:
            _set_threshold(site, name, samples[name], threshold_from, percentile)
    return shape, num_classes


def _check_rule(threshold_from: str, percentile: float) -> None:
    if threshold_from not in get_args(ThresholdFrom):
        raise InputError(f"threshold_from must be one of {', '.join(get_args(ThresholdFrom))}, got {threshold_from!r}")
    if not 0 < real_number("percentile", percentile) <= 100:
        raise InputError(f"percentile must be in (0, 100], got {percentile}")
    if percentile != DEFAULT_PERCENTILE and threshold_from != "percentile":
        raise InputError(
            f"percentile {percentile} has no effect with threshold_from={threshold_from!r}",
            remedy="give threshold_from='percentile' too, or leave percentile out",
        )


def _observed(
    model: nn.Module, batches: ImageData, caps: Mapping[str, float], sites: Mapping[str, QCFS], per_channel: bool
) -> tuple[dict[str, Sample], tuple[int, ...], int | None]:
    """Samples of what reaches each site; the shape of an image and the length of the output, see `set_thresholds`."""
    samples = {
        name: Sample(
            per_channel and not (site.is_operand and site.scale_axis is None),
            seed,
            OPERAND_ROWS if site.is_operand else 1,
        )
        for seed, (name, site) in enumerate(sites.items())
    }
    last_map: nn.Module | None = None

    def after_map(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal last_map
        last_map = module

    def observe(site: str, values: Tensor) -> None:
        axis = sites[site].scale_axis if sites[site].is_operand else _channel_axis(values, last_map)
        samples[site].add(values, axis if per_channel and axis is not None else 1)

    shape: tuple[int, ...] = ()
    num_classes = None
    intake = NetworkInput(model)
    with torch.no_grad(), in_evaluation(model), acting_as_relu(model, caps, observe), ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, _CHANNEL_MAPS):
                hooks.callback(module.register_forward_hook(after_map).remove)
        for images in image_batches(batches):
            images = intake.take(images)
            with intake.shown(images):
                output = model(images)
            shape = tuple(images.shape[1:])
            num_classes = output.shape[1] if isinstance(output, Tensor) and output.dim() == 2 else None
    if not shape:
        raise InputError("there are no images to calibrate with")
    return samples, shape, num_classes


def _check_sample(site: str, sample: Sample) -> None:
    if sample.largest is not None and not bool(sample.largest.isfinite().all()):
        raise InputError(
            "it receives NaN or infinite values, although images and weights are finite",
            where=f"site {site!r}",
            remedy="look before it for an overflow, a division by 0, or a root or logarithm of numbers below 0",
        )


def _set_threshold(site: QCFS, name: str, sample: Sample, threshold_from: ThresholdFrom, percentile: float) -> None:
    if sample.largest is None:  # for example an auxiliary head, which only training uses
        logger.warning("%s takes no part in the forward pass; its threshold is unchanged", name)
        return
    threshold = sample.threshold(site.num_levels, threshold_from, percentile)
    if bool(threshold.isnan().all()):
        logger.warning("%s receives no value above 0 from the calibration images; its threshold is unchanged", name)
        return
    # A channel that is silent in these images may be active in others; it takes the median of its neighbours.
    threshold = torch.where(threshold.isnan(), threshold.nanmedian(), threshold)
    site.threshold = nn.Parameter(threshold.view(sample.shape).to(site.threshold))


def _set_levels(site: QCFS, name: str, sample: Sample) -> None:
    if sample.largest is None:
        logger.warning("%s takes no part in the forward pass; its levels are unchanged", name)
        return
    num_levels = site.num_levels - site.min_level
    per_channel = sample.per_channel and len(sample.rows) >= LEAST_VALUES
    if per_channel < sample.per_channel:
        logger.warning(
            "%s has %d calibration values for each channel; %d are needed for a threshold of each channel, so it has "
            "one threshold", name, len(sample.rows), LEAST_VALUES,
        )  # fmt: skip
    rows = sample.rows if per_channel else sample.rows.flatten()
    threshold, highest, lowest = fit_levels(rows, num_levels, site.max_powers)
    if bool(threshold.isnan().all()):
        logger.warning("%s receives nothing but 0 from the calibration images; its levels are unchanged", name)
        return
    threshold = torch.where(threshold.isnan(), threshold.nanmedian(), threshold).clamp_min(MIN_THRESHOLD)
    site.num_levels, site.min_level = highest, lowest
    site.threshold = nn.Parameter(threshold.view(sample.shape if per_channel else (1,)).to(site.threshold))


_CHANNEL_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm)


def _channel_axis(values: Tensor, last_map: nn.Module | None) -> int:
    """The axis of the channels that the last map before a site returned, or an axis of that length if they moved."""
    if last_map is None:
        return 1
    axis = values.dim() - 1 if isinstance(last_map, nn.Linear | TokenBatchNorm) else 1
    channels = next(
        int(getattr(last_map, name))
        for name in ("out_features", "out_channels", "num_features")
        if hasattr(last_map, name)
    )
    if values.shape[axis] != channels:
        axis = next((i for i in range(1, values.dim()) if values.shape[i] == channels), axis)
    return axis


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in its former mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def acting_as_relu(
    model: nn.Module, caps: Mapping[str, float], observe: Callable[[str, Tensor], None] | None = None
) -> Iterator[None]:
    """Within the block every site of `model` acts as the ReLU that it replaced, or, at an operand, as the identity.

    Args:
        model: an ANN with QCFS sites.
        caps: site -> largest output, for those that saturate.
        observe: called with (site, its output) at every use.
    """

    def act(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        values = inputs[0]
        if not module.is_operand:
            values = values.clamp(0.0, caps.get(name))
        if observe is not None:
            observe(name, values)
        return values

    with ExitStack() as hooks:
        for name, site in find_sites(model).items():
            hooks.callback(site.register_forward_hook(partial(act, name)).remove)
        yield


def calibrate(model: nn.Module, batches: ImageData) -> None:
    """Set every BatchNorm's statistics and every site's threshold from images, in the order of the forward pass.

    For networks whose sites do not stand in for activations of trained weights, such as an MST with a Swin's weights.
    The first batch fixes the thresholds: each is fitted to the values that reach the site once all sites before it are
    calibrated. Statistics are the mean over all batches. Weights and mode do not change.

    Args:
        model: an ANN with QCFS sites.
        batches: images in any form of `mst.data.ImageData`; the first batch should be large, a few hundred images.

    Raises:
        InputError: no site, no images, or a site that the model has but does not use; NaN or infinity in weights or
            images; images that the network does not take. Then nothing has changed.
    """
    model = ann_of(model, "mst.calibrate", "calibrate the ANN, then convert it")
    sites = select_sites(model, ALL_SITES)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    changing = [site.threshold for site in sites.values()] + [each for norm in norms for each in norm.buffers()]
    before = [each.detach().clone() for each in changing]
    was_training = model.training
    model.eval()
    try:
        _calibrate(model, sites, norms, batches)
    except BaseException:
        with torch.no_grad():
            for each, old in zip(changing, before, strict=True):
                each.copy_(old)
        raise
    finally:
        model.train(was_training)


def _calibrate(
    model: nn.Module, sites: Mapping[str, QCFS], norms: list[nn.modules.batchnorm._BatchNorm], batches: ImageData
) -> None:
    momenta = [norm.momentum for norm in norms]
    intake, seen = NetworkInput(model), set()

    def fit(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, QCFS)
        seen.add(name)
        threshold = fit_threshold(inputs[0].flatten(), module.num_levels)
        if bool(threshold.isnan()):
            logger.warning("%s receives no value above 0 from the calibration images; its threshold is unchanged", name)
        else:
            module.threshold.fill_(float(threshold))

    try:
        with torch.no_grad():
            for number, images in enumerate(image_batches(batches), start=1):
                for norm in norms:
                    norm.train()
                    norm.momentum = 1.0 / number
                images = intake.take(images)
                with ExitStack() as hooks, intake.shown(images):
                    for name, site in sites.items() if number == 1 else ():
                        hooks.callback(site.register_forward_pre_hook(partial(fit, name)).remove)
                    model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if not seen:
        raise InputError("there are no images to calibrate with")
    unused = sorted(sites.keys() - seen)
    if unused:
        raise InputError(f"these sites take no part in the forward pass: {', '.join(unused)}")
    check_weights(model)
