"""The accuracy of an ANN, repeatable even if its masks are random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mst.accuracy import check_labels, count_hits
from mst.data import ImageData, batches_of, check_class_names
from mst.data.samples import Batch
from mst.distributed import gather_values
from mst.errors import InputError
from mst.models import NetworkInput, ann_of, check_answers, class_names_of, logits_of
from mst.neurons import begin_run, running
from mst.numbers import whole_number

from .quanta import QuantaCounter


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Result of running an ANN over labelled images."""

    accuracy: float
    """Fraction of the images whose label has the largest logit."""

    top5_accuracy: float
    """Fraction of the images whose label is among the five largest logits."""

    num_images: int
    """Images evaluated, by all processes together."""

    logits: Tensor
    """[num_images, classes], on the CPU, in the order of the images."""

    quanta_per_neuron: float
    """Quanta that the sites send, mean over neurons and images, 0...L. 0 for a network without sites."""

    quanta_per_image: float
    """Quanta of all neurons, mean over images: the fewest spikes that can carry these activations."""

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.num_images} images, {100 * self.accuracy:.2f} %, "
            f"top-5 {100 * self.top5_accuracy:.2f} %, {self.quanta_per_neuron:.3g} quanta per neuron)"
        )


def evaluate(
    model: nn.Module, data: ImageData, *, batch_size: int = 256, num_workers: int = 0, seed: int = 0
) -> Evaluation:
    """Run an ANN over labelled images in evaluation mode; the model's mode is restored afterwards.

    Masks act as they do in training, as in the paper. They are functions of (seed, site, image), so the batch size does
    not change them. In processes that torchrun or accelerate launch started, a data set is divided among them and every
    process returns the result of all images; any other data is evaluated whole by each process.

    Args:
        model: [B, ...] -> logits [B, classes]; wrappers of torch around it are left out (see `mst.models.unwrapped`). A
            spiking network answers over time steps, see `mst.simulate`.
        data: labelled images: (images, labels); batches of such pairs, for example a DataLoader; a data set or a list
            of (image, class number); dicts with the keys of a Hugging Face data set. See `mst.data.ImageData`.
        batch_size: images per forward pass of each process; not used for data that comes in batches.
        num_workers: processes that prepare the images of a data set, for each process.
        seed: of the masks.

    Raises:
        InputError: a spiking network; weights, images or logits with NaN; weights or images with infinity; no images;
            labels missing, outside the classes, not class numbers, or of other classes than the checkpoint's; images
            that the network does not take; an output that is not logits [B, classes]; a batch size below 1.

    Source: Masked Spiking Transformer (ICCV 2023), for the masks.
    """
    model = ann_of(
        model, "mst.evaluate", "for the accuracy after each time step call mst.simulate(snn, data, num_steps)"
    )
    check_class_names(class_names_of(model), data)
    seed = whole_number("seed", seed)
    evaluation = evaluate_checked(model, NetworkInput(model), data, batch_size, num_workers, seed)
    check_answers(evaluation.logits)
    return evaluation


def evaluate_checked(
    model: nn.Module, intake: NetworkInput, data: ImageData, batch_size: int, num_workers: int, seed: int
) -> Evaluation:
    """`evaluate` without a look at the weights and the logits, which may be NaN.

    Args:
        model, data, batch_size, num_workers, seed: as for `evaluate`.
        intake: of the model.

    Raises:
        InputError: as `evaluate`.
    """
    reading = batches_of(data, batch_size, num_workers, needs_labels=True)
    tally = _tally(model, intake, reading.batches, seed, reading.first_image)
    return _result([part for part in (gather_values(tally) if reading.is_share else [tally]) if part is not None])


@dataclass(frozen=True)
class _Tally:
    """Counts of one process."""

    hits: int
    top5_hits: int
    logits: Tensor
    quanta: float
    neurons: int


def _tally(
    model: nn.Module, intake: NetworkInput, batches: Iterable[Batch], seed: int, first_image: int
) -> _Tally | None:
    """Count hits; None if there is no image."""
    was_training = model.training
    model.eval()
    hits = top5_hits = num_images = neurons = 0
    quanta = 0.0
    counter = QuantaCounter(model)
    logits: list[Tensor] = []
    try:
        with torch.no_grad():
            for images, labels in batches:
                if len(images) == 0:
                    continue
                assert labels is not None
                shown = intake.take(images, first_image + num_images)
                run = begin_run(model, seed=seed, batch_size=len(images), first_image=first_image + num_images)
                with running(run), counter.counting(), intake.shown(shown):
                    batch_logits = logits_of(model(shown), model, len(images)).cpu()
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
        raise InputError("there are no images to evaluate")
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
