"""Levels that signed neurons start from: those that they usually have, so that spikes carry only what differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mst.data import ImageData, image_batches
from mst.errors import InputError
from mst.models import NetworkInput
from mst.neurons import QCFS, SignedIFNeuron, begin_run, find_sites, running
from mst.neurons.functional import to_levels


def median_levels(model: nn.Module, batches: ImageData, leave_out: Collection[str] = ()) -> dict[str, Tensor]:
    """The median level of every neuron over images.

    Of all constants the median costs the fewest spikes: it minimises Σ|level - constant|. Sites that mask are left out,
    since a different synapse is dropped for each image, and what is behind it could not start from constants.

    Args:
        model: the ANN.
        batches: images in any form of `mst.data.ImageData`, not those that are reported on.
        leave_out: sites that get no levels.

    Returns:
        Site -> whole numbers [k, ...], for the k rows that one image has at that site.

    Raises:
        InputError: no images, NaN or infinity in one, or images that the network does not take.
    """
    intake = NetworkInput(model)
    sites = {name: site for name, site in find_sites(model).items() if name not in leave_out}
    tallies = {name: _Tally(site) for name, site in sites.items() if site.masking_ratio == 0.0}
    handles = [model.get_submodule(name).register_forward_pre_hook(tally) for name, tally in tallies.items()]
    was_training, num_images = model.training, 0
    model.eval()
    try:
        with torch.no_grad():
            for images in image_batches(batches):
                images = intake.take(images, num_images)
                run = begin_run(model, batch_size=len(images), first_image=num_images)
                with running(run), intake.shown(images):
                    for tally in tallies.values():
                        tally.batch_size = run.batch_size
                    model(images)
                num_images += len(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if num_images == 0:
        raise InputError("initial levels need at least one image", where="initial_images")
    return {name: tally.median(num_images) for name, tally in tallies.items() if tally.at_most is not None}


class _Tally:
    """For one site, the number of images that have each neuron at a level of at most n, n + 1, ..., L - 1."""

    def __init__(self, site: QCFS) -> None:
        self._site = site
        self.batch_size = 1
        self.at_most: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        site = self._site
        levels = to_levels(args[0], site.threshold, site.num_levels, site.min_level, site.max_powers)
        by_image = levels.view(self.batch_size, -1, *levels.shape[1:])
        steps = range(site.min_level, site.num_levels)
        counts = torch.stack([(by_image <= level).sum(dim=0) for level in steps]).to(torch.int32)
        self.at_most = counts if self.at_most is None else self.at_most + counts

    def median(self, num_images: int) -> Tensor:
        """The lowest level that at least half of the images do not exceed."""
        assert self.at_most is not None
        return (2 * self.at_most < num_images).sum(dim=0).float() + self._site.min_level


def set_initial_levels(network: nn.Module, levels: Mapping[str, Tensor]) -> None:
    """Let the signed neurons of a converted network start from these levels, by site; the others from 0."""
    for module in network.modules():
        if isinstance(module, SignedIFNeuron):
            given = levels.get(module.site)
            module.initial_levels = None if given is None else given.to(module.threshold.device)
