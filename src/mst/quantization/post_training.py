"""Common start of the corrections that a quantised network gets without training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.data import ImageData, image_batches
from mst.errors import InputError
from mst.models import NetworkInput

from .site_errors import Diagnoser, beside_reference


def beside_float(model: nn.Module, images: ImageData, most_images: int, purpose: str) -> tuple[Diagnoser, Tensor]:
    """The network beside its float reference, and one batch of images [B, ...].

    Args:
        model: an ANN with QCFS sites, in evaluation mode.
        images: images in any form of `mst.data.ImageData`.
        most_images: B at most; of more, evenly spaced ones are taken.
        purpose: what the images are for, in errors.

    Raises:
        InputError: no images; a network that was trained with quantisation.
    """
    batches = list(image_batches(images))
    if not batches:
        raise InputError(f"there are no images to {purpose} with")
    together = torch.cat(batches)
    count = min(len(together), most_images)
    batch = NetworkInput(model).take(together[[index * len(together) // count for index in range(count)]])
    diagnoser, _ = beside_reference(model, [(batch, None)])
    if diagnoser.reference == "clipped":
        raise InputError(
            f"{type(model).__name__} was trained with quantisation, and its weights and biases are fitted to its "
            "levels",
            remedy=f"{purpose} of a network that was quantised from images and not trained since",
        )
    return diagnoser, batch
