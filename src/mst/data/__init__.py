"""Names and paths come in; images with labels, split and preprocessed, go out."""

from .datasets import (
    DATASETS,
    DatasetInfo,
    DataSplits,
    ImageDataset,
    dataset_info,
    find_fashion_mnist,
    load_dataset,
    nearest_name,
)
from .preprocessing import AugmentConfig, Preprocessing

__all__ = [
    "DATASETS",
    "AugmentConfig",
    "DataSplits",
    "DatasetInfo",
    "ImageDataset",
    "Preprocessing",
    "dataset_info",
    "find_fashion_mnist",
    "load_dataset",
    "nearest_name",
]
