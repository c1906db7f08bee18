"""The accuracy of an ANN, repeatable also where its masks are random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mst.accuracy import check_labels, count_hits
from mst.data import in_order
from mst.distributed import gather_values, share_of
from mst.neurons import begin_run, running

from .quanta import QuantaCounter


@dataclass(frozen=True)
class Evaluation:
    """accuracy, top5_accuracy: fractions of num_images.  logits: [N, classes] on the CPU.

    quanta_per_neuron: quanta that the sites send, mean over neurons and images.  quanta_per_image: of all neurons; the
    fewest spikes that can carry these activations. 0 for a network without sites.
    """

    accuracy: float
    top5_accuracy: float
    num_images: int
    logits: Tensor
    quanta_per_neuron: float
    quanta_per_image: float


def evaluate_dataset(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, int]],
    batch_size: int = 256,
    *,
    num_workers: int = 0,
    seed: int = 0,
) -> Evaluation:
    """`evaluate` over a data set, each of several processes taking its share; every process gets the whole result.

    Args:
        model, seed: as for `evaluate`.
        dataset: (image, label) pairs.
        batch_size: images at once, for each process.
        num_workers: processes that prepare images, for each process.

    Raises:
        ValueError: as `evaluate`.
    """
    share = share_of(len(dataset))  # type: ignore[arg-type]
    tally = _tally(model, in_order(dataset, share, batch_size, num_workers), seed, share.start)
    return _result([part for part in gather_values(tally) if part is not None])


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
    tally = _tally(model, data, seed, 0)
    return _result([] if tally is None else [tally])


@dataclass(frozen=True)
class _Tally:
    """What one process counted."""

    hits: int
    top5_hits: int
    logits: Tensor
    quanta: float
    neurons: int


def _tally(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], seed: int, first_image: int) -> _Tally | None:
    """Count hits; None if there is no image."""
    like = next(model.parameters())
    was_training = model.training
    model.eval()
    hits = top5_hits = num_images = neurons = 0
    quanta = 0.0
    counter = QuantaCounter(model)
    logits: list[Tensor] = []
    try:
        with torch.no_grad():
            for images, labels in data:
                if len(images) == 0:
                    continue
                run = begin_run(model, seed=seed, batch_size=len(images), first_image=first_image + num_images)
                with running(run), counter.counting():
                    batch_logits = model(images.to(like.device, like.dtype)).cpu()
                check_labels(labels, *batch_logits.shape)
                top1, top5 = count_hits(batch_logits, labels)
                hits, top5_hits = hits + int(top1), top5_hits + int(top5)
                num_images += len(labels)
                quanta, neurons = quanta + float(counter.total), neurons + counter.neurons
                logits.append(batch_logits)
    finally:
        model.train(was_training)
    return _Tally(hits, top5_hits, torch.cat(logits), quanta, neurons) if num_images else None


def _result(parts: list[_Tally]) -> Evaluation:
    if not parts:
        raise ValueError("there are no images to evaluate")
    logits = torch.cat([part.logits for part in parts])
    num_images = len(logits)
    hits, top5_hits = sum(part.hits for part in parts), sum(part.top5_hits for part in parts)
    quanta, neurons = sum(part.quanta for part in parts), sum(part.neurons for part in parts)
    return Evaluation(
        accuracy=hits / num_images,
        top5_accuracy=top5_hits / num_images,
        num_images=num_images,
        logits=logits,
        quanta_per_neuron=quanta / max(1, neurons),
        quanta_per_image=quanta / num_images,
    )
