"""Names and paths come in; images with labels, split and preprocessed, go out."""

from .datasets import (
    DATASETS,
    DatasetEntry,
    DatasetInfo,
    DataSplits,
    dataset_info,
    load_dataset,
    nearest_name,
)
from .fashion_mnist import find_fashion_mnist
from .image_files import find_image_splits
from .preprocessing import AugmentConfig, Interpolation, Preprocessing
from .splits import BadImages, ImageDataset, UnreadableImageError, collate, in_order, leave_signals

__all__ = [
    "DATASETS",
    "AugmentConfig",
    "BadImages",
    "DataSplits",
    "DatasetEntry",
    "DatasetInfo",
    "ImageDataset",
    "Interpolation",
    "Preprocessing",
    "UnreadableImageError",
    "collate",
    "dataset_info",
    "find_fashion_mnist",
    "find_image_splits",
    "in_order",
    "leave_signals",
    "load_dataset",
    "nearest_name",
]
