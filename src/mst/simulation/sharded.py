"""One result from those of several processes, each of which has simulated its share of a data set."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace

import torch
from torch import Tensor

from mst.errors import InputError
from mst.operations import OperationCount

from .result import SimulationResult, SiteRecord


def merge_results(parts: list[SimulationResult]) -> SimulationResult:
    """One result from those of disjoint sets of images, in order. Counts are added exactly; the slowest part's
    seconds stand for all.

    Raises:
        InputError: nothing to merge, or runs of different networks, codings, lengths or seeds.
    """
    if not parts:
        raise InputError("there are no results to merge")
    first = parts[0]
    for other in parts[1:]:
        if _kind(first) != _kind(other):
            raise InputError("results of different runs cannot be merged: network, coding, steps, seed or exit differ")
    return replace(
        first,
        num_images=sum(part.num_images for part in parts),
        logits=torch.cat([part.logits for part in parts]),
        step_logits=_concatenate([part.step_logits for part in parts]),
        accuracy=_mean([part.accuracy for part in parts], parts),
        top5_accuracy=_mean([part.top5_accuracy for part in parts], parts),
        sites={name: _add_sites([part.sites[name] for part in parts]) for name in first.sites},
        operations=tuple(_add_operations(list(same)) for same in zip(*(p.operations for p in parts), strict=True)),
        functions=tuple(
            functools.reduce(operator.add, same) for same in zip(*(p.functions for p in parts), strict=True)
        ),
        uncounted=tuple(dict.fromkeys(name for part in parts for name in part.uncounted)),
        seconds=max(part.seconds for part in parts),
        steps_taken=torch.cat([part.steps_taken for part in parts]),
        settled_at=_joined([part.settled_at for part in parts]),
        labels=_joined([part.labels for part in parts]),
    )


def _kind(part: SimulationResult) -> tuple[object, ...]:
    return (part.coding, part.num_steps, part.seed, list(part.sites), part.input_steps, part.early_exit)


def _joined(values: list[Tensor | None]) -> Tensor | None:
    present = [each for each in values if each is not None]
    return torch.cat(present) if len(present) == len(values) else None


def _mean(accuracies: list[Tensor | None], parts: list[SimulationResult]) -> Tensor | None:
    """Accuracy over all images, through the whole numbers of hits."""
    present = [each for each in accuracies if each is not None]
    if len(present) < len(parts):
        return None
    hits = torch.stack([(each * part.num_images).round() for each, part in zip(present, parts, strict=True)])
    return hits.sum(dim=0) / sum(part.num_images for part in parts)


def _concatenate(logits: list[Tensor | None]) -> Tensor | None:
    present = [each for each in logits if each is not None]
    return torch.cat(present, dim=1) if len(present) == len(logits) else None


def _add_sites(same: list[SiteRecord]) -> SiteRecord:
    sent, dropped = (
        torch.stack([getattr(site, name) for site in same]).sum(dim=0) for name in ("sent_per_step", "dropped_per_step")
    )
    return replace(same[0], sent_per_step=sent, dropped_per_step=dropped)


def _add_operations(same: list[OperationCount]) -> OperationCount:
    macs = [count.macs_per_step for count in same if count.macs_per_step is not None]
    by_source = [count.acs_by_source for count in same if count.acs_by_source is not None]
    return replace(
        same[0],
        acs_per_step=torch.stack([count.acs_per_step for count in same]).sum(dim=0),
        macs_per_step=torch.stack(macs).sum(dim=0) if macs else None,
        acs_by_source=tuple(map(sum, zip(*by_source, strict=True))) if len(by_source) == len(same) else None,
    )
