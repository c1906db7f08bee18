"""Hits and labels."""

from __future__ import annotations

from torch import Tensor


def count_hits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How many of B images have their label as the largest logit, and among the five largest.

    Args:
        logits: [..., B, classes].
        labels: int64 [B].

    Returns:
        Two int64 tensors [...].
    """
    ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels.to(logits.device)[:, None]
    return ranked[..., 0].sum(dim=-1), ranked.any(dim=-1).sum(dim=-1)


def check_labels(labels: Tensor, num_images: int, num_classes: int) -> None:
    """See that there is one label an image and that the network has a class for it.

    Raises:
        ValueError: otherwise.
    """
    if labels.shape != (num_images,):
        raise ValueError(f"{num_images} images need {num_images} labels, got labels of shape {tuple(labels.shape)}")
    if bool((labels < 0).any() or (labels >= num_classes).any()):
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but the network has {num_classes} classes"
        )
