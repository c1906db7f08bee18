"""The data sets by name: where their files lie, how they are split, and what a network needs to know of them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST

from .idx import read_idx
from .preprocessing import AugmentConfig, Preprocessing, Transform

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` installs the four files."""

DEFAULT_DATA_PATH = Path("data")
"""Where downloads go if no data path is given, relative to the working folder."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without opening it.

    native_size: (height, width) in pixels.  num_train, num_test: images.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    in_chans: int
    native_size: tuple[int, int]
    num_train: int
    num_test: int
    where: str


@dataclass(frozen=True)
class RawSplit:
    """Images as stored [N, C, height, width], uint8 or float from 0 to 1, and labels int64 [N]."""

    images: Tensor
    labels: Tensor


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """One split with its transform: index -> (image float32 [C, height, width], label)."""

    def __init__(self, raw: RawSplit, transform: Transform) -> None:
        self.raw = raw
        self.transform = transform

    def __len__(self) -> int:
        return len(self.raw.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.raw.images[index]), int(self.raw.labels[index])


@dataclass(frozen=True)
class DataSplits:
    """A data set ready to use. fingerprint: sha256 over the stored images and labels of both splits."""

    info: DatasetInfo
    preprocessing: Preprocessing
    train: ImageDataset
    test: ImageDataset
    fingerprint: str


# ----------------------------------------------------------------------------------------------- sources


def _digits(data_path: Path | None) -> tuple[RawSplit, RawSplit]:
    del data_path  # it ships with scikit-learn
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return RawSplit(images[train], labels[train]), RawSplit(images[test], labels[test])


_FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find_fashion_mnist(data_path: Path | None) -> Path | None:
    """The folder that holds all four files, plain or .gz; None if there is none.

    Looked for in data_path (and in its FashionMNIST/raw, torchvision's layout); without data_path in
    `DEFAULT_DATA_PATH` and in Debian's folder.
    """
    roots = [data_path] if data_path is not None else [DEFAULT_DATA_PATH, DEBIAN_FASHION_MNIST]
    for root in roots:
        for folder in (root, root / "FashionMNIST" / "raw", root / "fashion-mnist"):
            if all(_plain_or_gz(folder, name) for names in _FASHION_FILES.values() for name in names):
                return folder
    return None


def _plain_or_gz(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _fashion_mnist(data_path: Path | None) -> tuple[RawSplit, RawSplit]:
    folder = find_fashion_mnist(data_path)
    if folder is None:
        folder = _download_fashion_mnist(data_path or DEFAULT_DATA_PATH)
    splits = []
    for names in _FASHION_FILES.values():
        images_path, labels_path = (_plain_or_gz(folder, name) or folder / name for name in names)
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dim() != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{folder}: images {tuple(images.shape)} and labels {tuple(labels.shape)} are not Fashion-MNIST's"
            )
        if int(labels.max()) > 9:
            raise ValueError(f"{labels_path}: label {int(labels.max())}, but there are 10 classes")
        splits.append(RawSplit(images.unsqueeze(1), labels.long()))
    return splits[0], splits[1]


def _download_fashion_mnist(root: Path) -> Path:
    try:
        FashionMNIST(str(root), download=True)
    except (RuntimeError, URLError, OSError) as error:
        raise FileNotFoundError(
            f"fashion-mnist is not in {root}, and it could not be downloaded. Put its four idx files "
            f"(train-images-idx3-ubyte.gz, ...) into a folder and name it with --data-path, or install Debian's "
            f"package dataset-fashion-mnist"
        ) from error
    return root / "FashionMNIST" / "raw"


# ---------------------------------------------------------------------------------------------- registry

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

Loader = Callable[[Path | None], tuple[RawSplit, RawSplit]]

DATASETS: dict[str, tuple[DatasetInfo, Loader]] = {
    "digits": (
        DatasetInfo(
            "digits", 10, tuple("0123456789"), 1, (8, 8), 1437, 360,
            "ships with scikit-learn; fixed stratified split, 80 % training",
        ),
        _digits,
    ),
    "fashion-mnist": (
        DatasetInfo(
            "fashion-mnist", 10, _FASHION_CLASSES, 1, (28, 28), 60_000, 10_000,
            "four idx files in --data-path, or Debian's package dataset-fashion-mnist, or downloaded",
        ),
        _fashion_mnist,
    ),
}  # fmt: skip


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known ones, if any are near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else "."


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name`.

    Raises:
        ValueError: unknown name; suggests the nearest.
    """
    if name not in DATASETS:
        known = sorted(DATASETS)
        raise ValueError(f"unknown data set {name!r}{nearest_name(name, known)} Known: {', '.join(known)}")
    return DATASETS[name][0]


def load_dataset(
    name: str,
    data_path: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    img_size: int | None = None,
    augment: AugmentConfig | None = None,
) -> DataSplits:
    """Open a data set.

    Args:
        name: a key of `DATASETS`.
        data_path: where its files lie; None looks in the usual places.
        preprocessing: what the network expects (from its checkpoint). None takes mean and standard deviation
            from the training images.
        img_size: side in pixels where `preprocessing` is None; None keeps the native size.
        augment: random changes of the training split; None leaves it as it is.

    Raises:
        ValueError: unknown name, damaged files, or another number of channels than the network expects.
        FileNotFoundError: the files are not there.
    """
    info = dataset_info(name)
    train, test = DATASETS[name][1](data_path)
    if preprocessing is None:
        mean, std = _pixel_statistics(train.images)
        preprocessing = Preprocessing(info.native_size[0] if img_size is None else img_size, info.in_chans, mean, std)
    if preprocessing.in_chans != info.in_chans:
        raise ValueError(f"{name} has {info.in_chans} channel(s), the network takes {preprocessing.in_chans}")
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(train, Transform(info.native_size, preprocessing, augment)),
        ImageDataset(test, Transform(info.native_size, preprocessing, None)),
        _fingerprint(train, test),
    )


def _pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixel values from 0 to 1."""
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    pixels = images.double().div_(scale).transpose(0, 1).flatten(1)
    return (
        tuple(round(v, 6) for v in pixels.mean(dim=1).tolist()),
        tuple(round(v, 6) for v in pixels.std(dim=1).tolist()),
    )


def _fingerprint(*splits: RawSplit) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.contiguous().numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
