"""Totals over the batches of one simulation.

Letters: T steps, B images of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mst.accuracy import check_labels, count_hits
from mst.conversion import Coding
from mst.errors import InputError
from mst.neurons import RunState, sum_dtype

from .examination import Prepared
from .options import SimulationOptions
from .outcome import BatchOutcome
from .result import SimulationResult, SiteRecord


class Totals:
    """Adds up hits, spikes and outcomes.

    Args:
        coding: of the network.
        options: of the simulation.
        like: a tensor of the network. Hits are added on its device, so that counting never waits for it.
    """

    def __init__(self, coding: Coding, options: SimulationOptions, like: Tensor) -> None:
        self._coding, self._options = coding, options
        self._dtype, device = like.dtype, like.device
        self._device_type = device.type
        self.num_images = self.num_classes = 0
        self._logits: list[Tensor] = []
        self._step_logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._steps_taken: list[Tensor] = []
        self._settled_at: list[Tensor] = []
        self._sites: dict[str, SiteRecord] = {}
        self._hits = {k: torch.zeros(options.num_steps, dtype=torch.int64, device=device) for k in (1, 5)}

    def count_hits(self, start: int, steps: int, readout_TBK: Tensor, labels: Tensor) -> None:
        """Add the hits of `steps` steps; one read-out [1, B, K] may stand for all of them.

        Raises:
            InputError: labels that do not fit the images or the classes, or labels for a network without classes.
        """
        if readout_TBK.dim() != 3:
            raise InputError(
                f"labels are numbers of classes, but the network returns {tuple(readout_TBK.shape[2:])} for an image",
                remedy="simulate without labels, and compare result.logits yourself",
            )
        if start == 0:
            self.num_classes = readout_TBK.shape[2]
            check_labels(labels, readout_TBK.shape[1], self.num_classes)
        top1, top5 = count_hits(readout_TBK, labels)
        self._hits[1][start : start + steps] += top1
        self._hits[5][start : start + steps] += top5

    def snapshot(self) -> Callable[[], None]:
        """A function that takes back all hits counted after this call. It may be called once."""
        before, classes = {k: hits.clone() for k, hits in self._hits.items()}, self.num_classes

        def take_back() -> None:
            self._hits, self.num_classes = before, classes

        return take_back

    def add_outcome(self, batch: BatchOutcome) -> None:
        """Add the outcome of a batch that is done."""
        assert batch.logits is not None
        self.num_images += len(batch.steps_taken)
        self._logits.append(batch.logits.cpu())
        self._steps_taken.append(batch.steps_taken.cpu())
        self._settled_at.append(batch.settled_at.cpu())
        if batch.labels is not None:
            self._labels.append(batch.labels.cpu())
        if batch.step_logits is not None:
            self._step_logits.append(batch.step_logits.cpu())

    def add_spikes(self, run: RunState) -> None:
        """Add the spikes of a run that is done."""
        for name, counts in run.counts.items():
            sent, dropped = (self._padded(each.cpu()) for each in (counts.sent, counts.dropped))
            before = self._sites.get(name)
            if before is not None:
                sent, dropped = sent + before.sent_per_step, dropped + before.dropped_per_step
            threshold = counts.threshold.item() if counts.threshold.numel() == 1 else None
            self._sites[name] = SiteRecord(counts.num_neurons, threshold, sent, dropped)

    def _padded(self, per_step: Tensor) -> Tensor:
        """Nothing is sent in the steps after the last image has left."""
        padded = torch.zeros(self._options.num_steps, dtype=per_step.dtype)
        padded[: len(per_step)] = per_step
        return padded

    def result(self, prepared: Prepared, seconds: float) -> SimulationResult:
        """The result of all batches; there may have been none."""
        is_labelled = sum(map(len, self._labels)) == self.num_images > 0
        operations = () if prepared.counter is None else prepared.counter.counts()
        macs = {count.operation.name: count.macs_per_step for count in operations}
        functions = () if prepared.functions is None else prepared.functions.counts(macs)
        return SimulationResult(
            coding=self._coding.name,
            num_steps=self._options.num_steps,
            num_images=self.num_images,
            seed=self._options.seed,
            logits=_cat(self._logits),
            step_logits=torch.cat(self._step_logits, dim=1) if self._step_logits else None,
            accuracy=self._hits[1].cpu().double() / self.num_images if is_labelled else None,
            top5_accuracy=self._hits[5].cpu().double() / self.num_images if is_labelled else None,
            sites=self._sites,
            operations=operations,
            functions=functions,
            seconds=seconds,
            uncounted=prepared.uncounted + (() if prepared.functions is None else prepared.functions.uncounted),
            steps_taken=_cat(self._steps_taken),
            settled_at=_cat(self._settled_at) if self._coding.settles else None,
            labels=torch.cat(self._labels) if is_labelled else None,
            input_steps=self._options.input_steps,
            early_exit=self._options.early_exit,
            neurons=prepared.neurons,
            input_values=prepared.input_values,
            in_slices=self._options.in_slices,
            dtype=_named(self._dtype) + _autocast(self._device_type),
            sum_dtype=_named(sum_dtype(self._dtype)),
        )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _autocast(device_type: str) -> str:
    """ ", autocast to bfloat16" where autocast is on."""
    is_on = torch.is_autocast_enabled(device_type)
    return f", autocast to {_named(torch.get_autocast_dtype(device_type))}" if is_on else ""


def _cat(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0)
