"""Samples in memory, read many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from mst.data import AugmentConfig, ImageDataset, load_dataset
from mst.data.rows import read_batch

INDICES = [3, 0, 3, 7]
IMAGES, LABELS = torch.arange(40.0).view(10, 1, 2, 2), torch.arange(10)


def one_by_one(dataset: Dataset[Any], indices: list[int]) -> tuple[Tensor, list[int]]:
    samples = [dataset[index] for index in indices]
    return torch.stack([sample[0] for sample in samples]), [int(sample[1]) for sample in samples]


def opened(train_images: int | None) -> ImageDataset:
    return load_dataset("digits", augment=AugmentConfig(crop_padding=1), train_images=train_images).train


def test_a_loop_over_a_split_ends() -> None:
    split = opened(3)
    assert [label for _, label in split] == [split[index][1] for index in range(3)]
    with pytest.raises(IndexError, match="no sample 3; there are 3"):
        split[3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: opened(None),
        lambda: opened(20),
        lambda: load_dataset("digits", class_names=tuple("9876543210")).test,
        lambda: Subset(load_dataset("digits").test, range(50, 60)),
        lambda: TensorDataset(IMAGES, LABELS.int()),
        lambda: TensorDataset(IMAGES, LABELS, LABELS),
    ],
)
def test_read_batch_gives_what_reading_one_by_one_gives(make: Callable[[], Dataset[Any]]) -> None:
    dataset = make()
    torch.manual_seed(0)
    batch = read_batch(dataset, INDICES)
    torch.manual_seed(0)
    images, labels = one_by_one(dataset, INDICES)
    assert batch is not None
    assert torch.equal(batch[0], images)
    assert batch[1].dtype is torch.int64
    assert batch[1].tolist() == labels


class _Inverted(ImageDataset):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return -image, label


@pytest.mark.parametrize(
    "make",
    [
        lambda: _Inverted(opened(20).raw, opened(20).transform),
        lambda: load_dataset("digits", augment=AugmentConfig(erasing_probability=0.5)).train,
        lambda: load_dataset("digits-dvs").test,
        lambda: TensorDataset(IMAGES),
        lambda: TensorDataset(IMAGES, LABELS.float()),
        lambda: TensorDataset(IMAGES, torch.eye(10)),
        lambda: Subset(list(zip(IMAGES, LABELS, strict=True)), range(10)),  # type: ignore[arg-type]
    ],
)
def test_read_batch_leaves_other_data_sets_to_be_read_one_by_one(make: Callable[[], Dataset[Any]]) -> None:
    assert read_batch(make(), INDICES) is None


def test_load_dataset_labels_in_batches_are_those_of_the_network() -> None:
    plain, matched = (load_dataset("digits", class_names=names) for names in ((), tuple("9876543210")))
    rows = [read_batch(splits.test, INDICES) for splits in (plain, matched)]
    assert rows[0] is not None
    assert rows[1] is not None
    assert (rows[0][1] + rows[1][1]).tolist() == [9] * 4
