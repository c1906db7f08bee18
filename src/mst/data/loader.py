"""Batches of a data set, in which samples that cannot be read are skipped or raised by the main process.

PyTorch turns an error of a worker process into one text, traceback included. Here the worker sends the error itself,
as a value.

Letters: B images of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate

from mst.signals import SteadyLoader

from .unreadable import UnreadableSample, UnreadableSampleError, none_readable

logger = logging.getLogger(__name__)


class _Batch(NamedTuple):
    """Batch as a worker process sends it."""

    images: Tensor
    labels: Tensor
    unreadable: tuple[UnreadableSample, ...]


class _Marking(Dataset[tuple[Tensor, int] | UnreadableSample]):
    """A data set whose unreadable samples are values."""

    def __init__(self, dataset: Dataset[tuple[Tensor, int]]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int] | UnreadableSample:
        try:
            return self.dataset[index]
        except UnreadableSampleError as error:
            return UnreadableSample(error, error.may_be_skipped)


def _collate(samples: list[tuple[Tensor, int] | UnreadableSample]) -> _Batch:
    readable = [sample for sample in samples if not isinstance(sample, UnreadableSample)]
    unreadable = tuple(sample for sample in samples if isinstance(sample, UnreadableSample))
    images, labels = default_collate(readable) if readable else (torch.empty(0), torch.empty(0, dtype=torch.int64))
    return _Batch(images, labels, unreadable)


class BatchLoader(Iterable[tuple[Tensor, Tensor]]):
    """Batches (images [B, ...], labels int64 [B]) of a data set.

    A sample that raises `UnreadableSampleError` is left out of its batch and named in the log if its data set was
    opened with on_bad_image="skip"; otherwise the error is raised here, in the main process, with its fields. A batch
    without a readable sample is left out.

    Args:
        dataset: (image, label) pairs.
        options: of `mst.signals.SteadyLoader`, a `DataLoader`: batch_size, batch_sampler, num_workers, pin_memory, ...
    """

    def __init__(self, dataset: Dataset[tuple[Tensor, int]], **options: Any) -> None:
        self._loader: SteadyLoader[_Batch] = SteadyLoader(_Marking(dataset), collate_fn=_collate, **options)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Close the generator to end the worker processes before its last batch."""
        return _readable(iter(self._loader))  # worker processes start now, not at the first batch


def _readable(batches: Iterator[_Batch]) -> Generator[tuple[Tensor, Tensor], None, None]:
    for images, labels, unreadable in batches:
        for sample in unreadable:
            if not sample.may_be_skipped:
                del batches  # ends the worker processes, even if someone keeps the error with its traceback
                raise sample.error
            logger.warning("skipped: %s", sample.error.problem)
        if len(labels):
            yield images, labels


def in_order(dataset: Dataset[tuple[Tensor, int]], share: range, batch_size: int, num_workers: int) -> BatchLoader:
    """Batches of some of the images, in order.

    Args:
        dataset: (image, label) pairs.
        share: indices of the images.
        batch_size: B.
        num_workers: processes that prepare images; 0 prepares them in this process.
    """
    return BatchLoader(Subset(dataset, share), batch_size=batch_size, num_workers=num_workers)


def first_readable(dataset: Dataset[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """The first sample that can be read, as an example. Leaves random generators alone, unlike a loader.

    Raises:
        UnreadableSampleError: a sample before it cannot be read, and may not be skipped; or none can be read.
    """
    first: UnreadableSampleError | None = None
    for index in range(len(dataset)):  # type: ignore[arg-type]
        try:
            return dataset[index]
        except UnreadableSampleError as error:
            if not error.may_be_skipped:
                raise
            first = first or error
    raise none_readable(len(dataset), first)  # type: ignore[arg-type]
