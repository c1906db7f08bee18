"""Batches of a data set, in which samples that cannot be read are skipped or raised by the main process.

PyTorch turns an error of a worker process into one text, traceback included. Here the worker sends the error itself,
as a value.

Letters: B images of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mst.errors import InputError
from mst.signals import SteadyLoader

from .rows import read_batch
from .samples import Batch, as_sample, check_finite, collate
from .unreadable import UnreadableSample, UnreadableSampleError, none_readable

logger = logging.getLogger(__name__)


class _Batch(NamedTuple):
    """Batch as a worker process sends it."""

    images: Tensor
    labels: Tensor | None
    unreadable: tuple[UnreadableSample, ...]
    problem: InputError | None = None


class _Rows(NamedTuple):
    """Samples that were read at once."""

    numbers: list[int]
    images: Tensor
    labels: Tensor


class _Marking(Dataset[tuple[int, Any] | UnreadableSample]):
    """Some samples of a data set with their numbers; unreadable ones are values."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[int, Any] | UnreadableSample:
        number = self.indices[index]
        try:
            return number, self.dataset[number]
        except UnreadableSampleError as error:
            return UnreadableSample(error, error.may_be_skipped)

    def __getitems__(self, indices: list[int]) -> list[tuple[int, Any] | UnreadableSample] | _Rows:
        """Used by PyTorch to read a batch."""
        numbers = [self.indices[index] for index in indices]
        rows = read_batch(self.dataset, numbers)
        return [self[index] for index in indices] if rows is None else _Rows(numbers, *rows)


def _collate(samples: list[tuple[int, Any] | UnreadableSample] | _Rows, needs_labels: bool) -> _Batch:
    nothing = torch.empty(0)
    unreadable: tuple[UnreadableSample, ...] = ()
    try:
        if isinstance(samples, _Rows):
            check_finite(samples.images, samples.numbers)
            return _Batch(samples.images, samples.labels, ())
        readable = [sample for sample in samples if not isinstance(sample, UnreadableSample)]
        unreadable = tuple(sample for sample in samples if isinstance(sample, UnreadableSample))
        if not readable:
            return _Batch(nothing, None, unreadable)
        return _Batch(*collate(readable, needs_labels), unreadable)
    except InputError as error:
        return _Batch(nothing, None, unreadable, error)


class BatchLoader(Iterable[Batch]):
    """Batches (images [B, ...], labels int64 [B]) of a data set.

    A sample that raises `UnreadableSampleError` is left out of its batch and named in the log if its data set was
    opened with on_bad_image="skip"; otherwise the error is raised here, in the main process, with its fields. A batch
    without a readable sample is left out. So is raised what is wrong with a sample, such as NaN, see `collate`.

    Args:
        dataset: (image, label) pairs, or what else `as_sample` takes.
        indices: samples to take; None takes all.
        needs_labels: False for samples that may have no label; the labels of a batch are then None.
        options: of `mst.signals.SteadyLoader`, a `DataLoader`: batch_size, batch_sampler, num_workers, pin_memory, ...
    """

    def __init__(
        self, dataset: Dataset[Any], indices: Sequence[int] | None = None, needs_labels: bool = True, **options: Any
    ) -> None:
        marking = _Marking(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
        collating = partial(_collate, needs_labels=needs_labels)
        self._loader: SteadyLoader[_Batch] = SteadyLoader(marking, collate_fn=collating, **options)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Close the generator to end the worker processes before its last batch."""
        return _readable(iter(self._loader))  # worker processes start now, not at the first batch


def _readable(batches: Iterator[_Batch]) -> Generator[Batch, None, None]:
    for images, labels, unreadable, problem in batches:
        for sample in unreadable:
            if not sample.may_be_skipped:
                del batches  # ends the worker processes, even if someone keeps the error with its traceback
                raise sample.error
            logger.warning("skipped: %s", sample.error.problem)
        if problem is not None:
            del batches
            raise problem
        if len(images):
            yield images, labels


def in_order(
    dataset: Dataset[Any], share: range, batch_size: int, num_workers: int, needs_labels: bool = True
) -> BatchLoader:
    """Batches of some of the images, in order.

    Args:
        dataset: (image, label) pairs, or what else `as_sample` takes.
        share: indices of the images.
        batch_size: B.
        num_workers: processes that prepare images; 0 prepares them in this process.
        needs_labels: see `BatchLoader`.
    """
    return BatchLoader(dataset, share, needs_labels, batch_size=batch_size, num_workers=num_workers)


def first_readable(dataset: Dataset[Any], name: str = "") -> tuple[Tensor, int]:
    """The first sample that can be read, as an example. Leaves random generators alone, unlike a loader.

    Args:
        dataset: (image, label) pairs, or what else `as_sample` takes.
        name: of the data set, for errors.

    Raises:
        UnreadableSampleError: a sample before it cannot be read, and may not be skipped; or none can be read.
        InputError: the sample has another form, or its image holds NaN or infinity.
    """
    first: UnreadableSampleError | None = None
    for index in range(len(dataset)):  # type: ignore[arg-type]
        try:
            called = f"{name}[{{}}]" if name else "sample {}"
            image, label = as_sample(dataset[index], called.format(index))
            check_finite(image[None], [index], called)
            assert label is not None
            return image, label
        except UnreadableSampleError as error:
            if not error.may_be_skipped:
                raise
            first = first or error
    raise none_readable(len(dataset), first)  # type: ignore[arg-type]
