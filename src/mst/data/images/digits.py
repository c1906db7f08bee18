"""digits: 8 x 8 images of handwritten digits, part of scikit-learn."""

from __future__ import annotations

from pathlib import Path

import torch

from ..entry import DatasetEntry, DatasetInfo, OpenedDataset
from ..splits import StoredImages


def open_digits(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    """All 1797 images with a fixed stratified split, 80 % for training."""
    del data_path, in_memory  # the images are part of scikit-learn
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return OpenedDataset(info, StoredImages(images[train], labels[train]), StoredImages(images[test], labels[test]))


DIGITS = DatasetEntry(
    DatasetInfo(
        "digits", 10, tuple("0123456789"), 1, (8, 8), 1437, 360,
        "part of scikit-learn; fixed stratified split, 80 % training",
    ),
    open_digits,
    lambda data_path: "scikit-learn",
)  # fmt: skip
