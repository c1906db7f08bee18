"""BatchNorm statistics and thresholds set from data, for weights that were trained without them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mst.neurons import MIN_THRESHOLD, QCFS, name_sites
from mst.neurons.functional import qcfs

logger = logging.getLogger(__name__)

SAMPLE = 2**18
"""Values of a site, drawn at random, at which its threshold is fitted."""


def fit_threshold(x: Tensor, num_levels: int) -> float | None:
    """The threshold that makes QCFS nearest to ReLU on given values, in least squares:

        λ = arg min  Σ (qcfs(x; λ, L) - max(x, 0))²

    Args:
        x: what the site receives, any shape.
        num_levels: L.

    Returns:
        λ in units of x, by search over fractions of the largest value in steps of 0.2 %; None if no value is above 0.
    """
    values = x.detach().flatten()
    if values.numel() > SAMPLE:  # drawn, because a fixed stride would take the same few channels of every token
        drawn = torch.randint(values.numel(), (SAMPLE,), generator=torch.Generator().manual_seed(0))
        values = values[drawn.to(values.device)]
    values = values.double().cpu()
    values = values[values > 0]
    if values.numel() == 0:
        return None
    largest = float(values.max())

    def error(fraction: float) -> float:
        threshold = torch.tensor([fraction * largest], dtype=values.dtype)
        return float((qcfs(values, threshold, num_levels) - values).square().sum())

    fraction = min((0.02 * i for i in range(1, 51)), key=error)
    fraction = min((fraction + 0.002 * i for i in range(-9, 10)), key=error)
    return max(fraction * largest, MIN_THRESHOLD)


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every BatchNorm's statistics and every site's threshold from images, in the order of the forward pass.

    The first batch fixes the thresholds: each site's is fitted to what reaches it once all before it are calibrated.
    Statistics are the mean over all batches. Weights do not change; nor does the model's mode.

    Args:
        model: an ANN with QCFS sites.
        batches: images [B, ...]; the first batch should be large, a few hundred images.

    Raises:
        ValueError: no batches, or a site that the model has but does not use.
    """
    sites = name_sites(model)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    like = next(model.parameters())
    was_training = model.training
    seen: set[str] = set()

    def fit(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, QCFS)
        seen.add(module.site)
        threshold = fit_threshold(inputs[0], module.num_levels)
        if threshold is None:
            logger.warning("%s receives nothing above 0 in the calibration images; its threshold stays", module.site)
        else:
            module.threshold.fill_(threshold)

    model.eval()
    try:
        with torch.no_grad():
            for number, images in enumerate(batches, start=1):
                for norm in norms:
                    norm.train()
                    norm.momentum = 1.0 / number
                with ExitStack() as hooks:
                    for site in sites.values() if number == 1 else ():
                        hooks.callback(site.register_forward_pre_hook(fit).remove)
                    model(images.to(like.device, like.dtype))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    if not seen:
        raise ValueError("there are no images to calibrate with")
    unused = sorted(sites.keys() - seen)
    if unused:
        raise ValueError(f"these sites take no part in the forward pass: {', '.join(unused)}")
