"""Images that a network classifies correctly."""

from __future__ import annotations

from torch import Tensor

from mst.errors import InputError


def count_hits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Count the images whose label has the largest logit, and those whose label is among the five largest.

    Args:
        logits: [..., B, classes].
        labels: int64 [B].

    Returns:
        Two int64 tensors [...]: counts of top-1 and of top-5 hits among the B images.
    """
    ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels.to(logits.device)[:, None]
    return ranked[..., 0].sum(dim=-1), ranked.any(dim=-1).sum(dim=-1)


def check_labels(labels: Tensor, num_images: int, num_classes: int, where: str = "") -> None:
    """Check that there is one label per image and that the network has a class for each label.

    Args:
        labels: int64 [B].
        num_images: B.
        num_classes: length of the network's output.
        where: place of the labels, for the error.

    Raises:
        InputError: otherwise.
    """
    if labels.shape != (num_images,):
        raise InputError(f"{num_images} images need {num_images} labels, got labels of shape {tuple(labels.shape)}")
    if bool((labels < 0).any() or (labels >= num_classes).any()):
        least, most = int(labels.min()), int(labels.max())
        raise InputError(
            f"{f'labels run from {least} to {most}' if least < most else f'the label is {least}'}, but the network has "
            f"{num_classes} classes",
            where=where,
            remedy=f"labels are class numbers from 0 to {num_classes - 1}; leave out images that have none",
        )
