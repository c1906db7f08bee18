"""Samples of a data set in memory, read many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset


def read_batch(
    dataset: Dataset[Any], indices: Sequence[int], seeds: Sequence[int] | None = None
) -> tuple[Tensor, Tensor] | None:
    """The samples at these indices, with the values of reading them one by one.

    Args:
        dataset: one that `load_dataset` opened, a `TensorDataset` or a `Subset` of either; a data set of another class
            can have a method `read_batch` of the same meaning.
        indices: B indices.
        seeds: of each sample's random changes; None draws them from the global generators, sample after sample.

    Returns:
        Images [B, ...] and class numbers int64 [B]; None if the samples must be read one by one.
    """
    kind = type(dataset)
    if kind is Subset:
        return read_batch(dataset.dataset, [dataset.indices[index] for index in indices], seeds)  # type: ignore[attr-defined]
    if kind is TensorDataset:
        return _rows(dataset.tensors, indices)  # type: ignore[attr-defined]
    if "read_batch" in vars(kind):  # not in a class above it, whose samples may be others
        batch: tuple[Tensor, Tensor] | None = dataset.read_batch(indices, seeds)  # type: ignore[attr-defined]
        return batch
    return None


def _rows(tensors: tuple[Tensor, ...], indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    if len(tensors) < 2 or tensors[0].dim() < 2 or tensors[0].layout is not torch.strided:
        return None
    images, labels = tensors[:2]
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        return None
    rows = torch.as_tensor(indices)
    return images[rows], labels[rows].long()
