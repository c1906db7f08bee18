"""The end of a lossless run without the run: one pass in which every neuron is where it settles.

Letters: B images of a batch, N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mst.accuracy import check_labels, count_hits
from mst.conversion import SpikingNetwork
from mst.data import ImageData, batches_of, check_class_names
from mst.distributed import gather_values
from mst.errors import InputError
from mst.models import NetworkInput, check_answers, check_weights, class_names_of, rows_of
from mst.neurons import BEFORE_FIRST_STEP, FiringSchedule, RunState, SignedIFNeuron, begin_run, running
from mst.neurons.chunks import signed_output
from mst.neurons.functional import to_levels
from mst.neurons.powers import count_powers
from mst.numbers import whole_number

from .examination import prepare
from .options import SimulationOptions


@dataclass(frozen=True)
class SettledSite:
    """Activations of one site, and what carries them."""

    num_neurons: int
    """Neurons per image."""

    quanta: int
    """Σ |level - initial level| over all neurons that the mask keeps, summed over images."""

    least_spikes: int
    """No run that settles sends fewer spikes, summed over images."""


@dataclass(frozen=True, repr=False)
class SettledResult:
    """Result of `mst.predict_settled`."""

    num_images: int
    """N."""

    logits: Tensor
    """[N, ...], on the CPU: those of every run in which the image settles, and of the quantised ANN."""

    accuracy: float | None
    """Fraction of the images whose label has the largest logit; None without labels."""

    top5_accuracy: float | None
    """Fraction of the images whose label is among the five largest logits; None without labels."""

    sites: dict[str, SettledSite]
    """Site -> its activations, in the order of the network."""

    @property
    def quanta_per_image(self) -> float:
        """Quanta of all sites, mean over images."""
        return sum(site.quanta for site in self.sites.values()) / self.num_images

    @property
    def least_spikes_per_image(self) -> float:
        """Lower bound on the spikes of all sites, mean over images."""
        return sum(site.least_spikes for site in self.sites.values()) / self.num_images

    def __repr__(self) -> str:
        accuracy = "" if self.accuracy is None else f"{100 * self.accuracy:.2f} %, "
        return (
            f"SettledResult({self.num_images} images, {accuracy}at least {self.least_spikes_per_image:,.0f} spikes per "
            "image)"
        )


def predict_settled(
    snn: SpikingNetwork, data: ImageData, *, batch_size: int | None = None, num_workers: int = 0, seed: int = 0
) -> SettledResult:
    """Answers of a lossless run that has settled, and a lower bound on its spikes, in one pass and without a run.

    A settled neuron has sent its level (docs/maths.md, section 9), so the pass puts every neuron at its level. To get
    there from its initial level, d quanta away, a neuron has to send at least

        |d| spikes                      if each is worth one quantum (plain, staggered)
        ⌈|d| / W⌉ spikes                if each is worth at most W quanta (weighted)
        count_powers(|d|) spikes        if each is worth a power of two (free; weighted, if all weights are powers)

    and any number above, since it may send too early and correct itself. The bound holds for the spikes that the mask
    keeps, whose draw of step 0 is held for the whole run. It says nothing of the number of steps.

    Args:
        snn: result of `mst.convert` with a coding that settles.
        data: images [N, ...] or (images, labels), and all else that `mst.simulate` takes.
        batch_size: images per pass; not for data that comes in batches.
        num_workers: processes that prepare the images of a data set.
        seed: of the spike masks.

    Raises:
        InputError: a network whose coding does not settle, or as `mst.simulate`.
        ConversionError: as `mst.simulate`.

    Limits: images are shown whole in the end; early exit and runs cut short by T answer otherwise.
    """
    _check(snn)
    check_weights(snn)
    check_class_names(class_names_of(snn.network), data)
    seed = whole_number("seed", seed)
    reading = batches_of(data, batch_size, num_workers)
    tally = _Tally(snn, seed, reading.first_image)
    with torch.inference_mode(False), torch.no_grad():
        for images, labels in reading.batches:
            if len(images):
                tally.add_batch(images, labels)
    parts = [part for part in (gather_values(tally.part()) if reading.is_share else [tally.part()]) if part["logits"]]
    if not parts:
        raise InputError("there are no images to predict for")
    result = _result(parts)
    check_answers(result.logits)
    return result


def least_spikes(quanta: Tensor, schedule: FiringSchedule) -> Tensor:
    """Fewest spikes that move a counter by these numbers of quanta, whole numbers >= 0; a new tensor like `quanta`."""
    if schedule.is_free:
        return count_powers(quanta)
    if not schedule.weights:
        return quanta.clone()
    by_size = (quanta / max(schedule.weights)).ceil_()
    are_powers = all(weight & (weight - 1) == 0 for weight in schedule.weights)
    return torch.maximum(by_size, count_powers(quanta)) if are_powers else by_size


def _check(snn: object) -> None:
    if not isinstance(snn, SpikingNetwork):
        raise InputError(
            f"predict_settled takes what mst.convert returns, got {type(snn).__name__}",
            remedy="convert the ANN first, with mst.convert(model, 'lossless')",
        )
    others = [m for m in snn.network.modules() if hasattr(m, "site") and not isinstance(m, SignedIFNeuron)]
    if not snn.coding.settles or others:
        raise InputError(
            f"under {snn.coding.name} coding no run settles, so its accuracy at T steps needs a simulation",
            remedy="call mst.simulate, or convert with the coding 'lossless'",
        )


class _Tally:
    """Adds up the batches of one process."""

    def __init__(self, snn: SpikingNetwork, seed: int, first_image: int) -> None:
        self._snn, self._seed, self._first_image = snn, seed, first_image
        self._intake = NetworkInput(snn.network)
        self._prepared = False
        self._logits: list[Tensor] = []
        self._hits = [0, 0]
        self._labelled = 0
        self._sites: dict[str, list[int]] = {}

    def add_batch(self, images: Tensor, labels: Tensor | None) -> None:
        first_image = self._first_image + sum(map(len, self._logits))
        images = self._intake.take(images, first_image)
        if not self._prepared:
            with self._intake.shown(images[:1]):
                prepare(self._snn, images[:1], SimulationOptions(1, record_operations=False))
            self._prepared = True
        network = self._snn.network
        run = begin_run(network, seed=self._seed, batch_size=len(images), first_image=first_image)
        run.begin_chunk(BEFORE_FIRST_STEP, 1)
        with self._settling(run), running(run), self._intake.shown(images):
            logits = rows_of(self._snn(images), network, len(images)).cpu()
        self._logits.append(logits)
        if labels is not None:
            if logits.dim() != 2:
                raise InputError("labels are numbers of classes, but the network returns maps", remedy="leave them out")
            check_labels(labels, *logits.shape)
            self._labelled += len(labels)
            for number, hits in enumerate(count_hits(logits, labels.cpu())):
                self._hits[number] += int(hits)

    @contextmanager
    def _settling(self, run: RunState) -> Iterator[None]:
        """Within the block the neurons are where they settle, and are counted."""

        def settle(neuron: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            assert isinstance(neuron, SignedIFNeuron)
            (x,) = args
            (initial,) = neuron._state(run, x)
            level = to_levels(x, neuron.threshold, neuron.num_levels, neuron.min_level, neuron.max_powers)
            keep = None if neuron.mask is None else run.held_mask(x, neuron.mask, neuron.site, neuron.layout)
            quanta = (level - initial).abs_()
            quanta = quanta if keep is None else quanta * keep
            numbers = [x.numel() // run.batch_size]
            numbers += [int(each.sum(dtype=torch.float64)) for each in (quanta, least_spikes(quanta, neuron.schedule))]
            before = self._sites.get(neuron.site, [0, 0, 0])
            self._sites[neuron.site] = [numbers[0], before[1] + numbers[1], before[2] + numbers[2]]
            del run.state[neuron.site, neuron.slots[0]]
            return signed_output(level[None].to(x.dtype), neuron._rule_of((0,)), keep).flatten(0, 1)

        neurons = [module for module in self._snn.network.modules() if isinstance(module, SignedIFNeuron)]
        handles = [neuron.register_forward_hook(settle) for neuron in neurons]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def part(self) -> dict[str, Any]:
        """What this process has counted, as plain values."""
        return {"logits": self._logits, "hits": self._hits, "labelled": self._labelled, "sites": self._sites}


def _result(parts: list[dict[str, Any]]) -> SettledResult:
    logits = torch.cat([each for part in parts for each in part["logits"]])
    is_labelled = sum(part["labelled"] for part in parts) == len(logits)
    top1, top5 = (sum(part["hits"][number] for part in parts) / len(logits) for number in (0, 1))
    sites = {
        name: SettledSite(neurons, *(sum(part["sites"][name][number] for part in parts) for number in (1, 2)))
        for name, (neurons, *_) in parts[0]["sites"].items()
    }
    return SettledResult(len(logits), logits, top1 if is_labelled else None, top5 if is_labelled else None, sites)
