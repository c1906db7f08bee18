"""The data sets of images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..entry import DatasetEntry, DatasetInfo, Opened
from ..splits import StoredImages
from .cifar import CIFAR10_FORMAT, CIFAR100_FORMAT, CifarFormat, find_cifar, load_cifar
from .fashion_mnist import DEFAULT_DATA_PATH, find_fashion_mnist, load_fashion_mnist
from .files import HUGGING_FACE, find_image_splits, open_image_files

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_CROP_RATIO = 224 / 256


# ----------------------------------------------------------------------------------------------- sources


def open_digits(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    del data_path, in_memory  # it ships with scikit-learn
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return Opened(info, StoredImages(images[train], labels[train]), StoredImages(images[test], labels[test]))


def open_fashion_mnist(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    del in_memory  # it is
    return Opened(info, *load_fashion_mnist(data_path))


def find_fashion(data_path: Path | None) -> str | None:
    found = find_fashion_mnist(data_path)
    return None if found is None else str(found)


def _open_cifar(form: CifarFormat, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    del in_memory  # it is
    return Opened(info, *load_cifar(form, data_path or DEFAULT_DATA_PATH))


def _find_cifar(form: CifarFormat, data_path: Path | None) -> str | None:
    found = find_cifar(form, data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _open_imagenet(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    root = data_path or DEFAULT_DATA_PATH / "imagenet"
    if not str(root).startswith(HUGGING_FACE) and find_image_splits(root) is None:
        raise FileNotFoundError(
            f"imagenet is not in {root}. Name with --data-path a folder that holds train/ and val/, each with one "
            "folder a class (ImageNet's validation archive has none: sort its images first), or train.tar and val.tar, "
            "or train.zip, train_map.txt, val.zip and val_map.txt; or give --data-path hf:ILSVRC/imagenet-1k"
        )
    return _open_folder(info, root, in_memory)


def _find_imagenet(data_path: Path | None) -> str | None:
    found = find_image_splits(data_path or DEFAULT_DATA_PATH / "imagenet")
    return None if found is None else f"{found[0]}, {found[1].name}"


def _open_folder(info: DatasetInfo, root: Path, in_memory: bool) -> Opened:
    files = open_image_files(root, info.in_chans, in_memory)
    known = {
        "num_classes": len(files.class_names),
        "class_names": files.class_names,
        "num_train": len(files.train),
        "num_test": len(files.test),
    }
    return Opened(replace(info, **known), files.train, files.test)  # type: ignore[arg-type]


def find_own(root: Path, data_path: Path | None) -> str | None:
    return str(root) if data_path is None else None


def open_own_images(root: Path, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> Opened:
    if data_path is not None:
        raise ValueError(f"{info.name} says where its images lie; leave --data-path out")
    return _open_folder(info, root, in_memory)


# ---------------------------------------------------------------------------------------------- registry

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_FILES_PER_CLASS = "train/ and val/ with one folder a class, or .tar, .zip or hf:NAME, in --data-path"

IMAGE_FOLDER = DatasetInfo(
    "folder:PATH", 0, (), 3, None, 0, 0,
    "your own images: one folder a class, or train/ and val/ with one folder a class in each; also hf:NAME",
    IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_CROP_RATIO,
)  # fmt: skip

IMAGE_DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        DatasetInfo(
            "digits", 10, tuple("0123456789"), 1, (8, 8), 1437, 360,
            "ships with scikit-learn; fixed stratified split, 80 % training",
        ),
        open_digits,
        lambda data_path: "scikit-learn",
    ),
    "fashion-mnist": DatasetEntry(
        DatasetInfo(
            "fashion-mnist", 10, FASHION_CLASSES, 1, (28, 28), 60_000, 10_000,
            "four idx files in --data-path, or Debian's package dataset-fashion-mnist, or downloaded",
        ),
        open_fashion_mnist,
        find_fashion,
    ),
    "cifar10": DatasetEntry(
        DatasetInfo(
            "cifar10", 10, _CIFAR10_CLASSES, 3, (32, 32), 50_000, 10_000,
            "cifar-10-batches-py/ or cifar-10-python.tar.gz in --data-path, or downloaded", CIFAR_MEAN, CIFAR_STD,
        ),
        partial(_open_cifar, CIFAR10_FORMAT),
        partial(_find_cifar, CIFAR10_FORMAT),
    ),
    "cifar100": DatasetEntry(
        DatasetInfo(
            "cifar100", 100, (), 3, (32, 32), 50_000, 10_000,
            "cifar-100-python/ or cifar-100-python.tar.gz in --data-path, or downloaded", CIFAR_MEAN, CIFAR_STD,
        ),
        partial(_open_cifar, CIFAR100_FORMAT),
        partial(_find_cifar, CIFAR100_FORMAT),
    ),
    "imagenet": DatasetEntry(
        DatasetInfo(
            "imagenet", 1000, (), 3, None, 1_281_167, 50_000, _FILES_PER_CLASS,
            IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_CROP_RATIO,
        ),
        _open_imagenet,
        _find_imagenet,
    ),
}  # fmt: skip
