"""The accuracy of an ANN, repeatable also where its masks are random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mst.neurons import RunState, name_sites, running


@dataclass(frozen=True)
class Evaluation:
    """accuracy, top5_accuracy: fractions of num_images.  logits: [N, classes] on the CPU."""

    accuracy: float
    top5_accuracy: float
    num_images: int
    logits: Tensor


def evaluate(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], *, seed: int = 0) -> Evaluation:
    """Run an ANN over labelled images in evaluation mode; the model's mode is restored afterwards.

    Masks act here as in training, as the paper does it; they depend on
    (seed, site, image) only, so batch size does not change the result.

    Args:
        model: [B, ...] -> logits [B, classes].
        data: pairs (images, labels).
        seed: of the masks.

    Raises:
        ValueError: no images, or labels outside the classes.
    """
    like = next(model.parameters())
    name_sites(model)  # a mask belongs to its site
    was_training = model.training
    model.eval()
    hits = top5_hits = num_images = 0
    logits: list[Tensor] = []
    try:
        with torch.no_grad():
            for images, labels in data:
                with running(RunState(seed, images.shape[0], first_image=num_images)):
                    batch_logits = model(images.to(like.device, like.dtype)).cpu()
                classes = batch_logits.shape[-1]
                if bool((labels < 0).any() or (labels.cpu() >= classes).any()):
                    raise ValueError(f"label {int(labels.max())} is outside the network's {classes} classes")
                ranked = batch_logits.topk(min(5, classes), dim=-1).indices == labels.cpu()[:, None]
                hits += int(ranked[:, 0].sum())
                top5_hits += int(ranked.any(dim=-1).sum())
                num_images += len(labels)
                logits.append(batch_logits)
    finally:
        model.train(was_training)
    if num_images == 0:
        raise ValueError("there are no images to evaluate")
    return Evaluation(hits / num_images, top5_hits / num_images, num_images, torch.cat(logits))
