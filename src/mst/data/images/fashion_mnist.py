"""fashion-mnist: four idx files, in Debian's folder, in torchvision's layout, or downloaded."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

from mst.errors import InputError, MissingFileError

from ..entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from ..splits import StoredImages
from .idx import read_idx

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder into which Debian's package `dataset-fashion-mnist` installs the four files."""

_FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find_fashion_mnist(data_path: Path | None) -> Path | None:
    """The folder that holds all four files, plain or .gz; None if there is none.

    It is data_path, its FashionMNIST/raw (torchvision's layout) or its fashion-mnist; without data_path the same below
    `DEFAULT_DATA_PATH`, or Debian's folder.
    """
    roots = [data_path] if data_path is not None else [DEFAULT_DATA_PATH, DEBIAN_FASHION_MNIST]
    for root in roots:
        for folder in (root, root / "FashionMNIST" / "raw", root / "fashion-mnist"):
            if all(_plain_or_gz(folder, name) for names in _FASHION_FILES.values() for name in names):
                return folder
    return None


def find_fashion(data_path: Path | None) -> str | None:
    """`find_fashion_mnist`, for people."""
    found = find_fashion_mnist(data_path)
    return None if found is None else str(found)


def _plain_or_gz(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def open_fashion_mnist(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    """Both splits in memory; downloaded if they are not there.

    Raises:
        MissingFileError: the files are not there, and the download failed.
        InputError: a damaged file, or files that do not belong together.
    """
    del in_memory  # they always are
    folder = find_fashion_mnist(data_path)
    if folder is None:
        folder = _download(data_path or DEFAULT_DATA_PATH)
    splits = []
    for names in _FASHION_FILES.values():
        images_path, labels_path = (_plain_or_gz(folder, name) or folder / name for name in names)
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dim() != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise InputError(
                f"images {tuple(images.shape)} and labels {tuple(labels.shape)} are not Fashion-MNIST's",
                where=str(folder),
            )
        if int(labels.max()) > 9:
            raise InputError(f"label {int(labels.max())}, but there are 10 classes", where=str(labels_path))
        splits.append(StoredImages(images.unsqueeze(1), labels.long()))
    return OpenedDataset(info, splits[0], splits[1])


def _download(root: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root), download=True)
    except (RuntimeError, URLError, OSError) as error:
        raise MissingFileError(
            f"fashion-mnist is not in {root}, and it could not be downloaded",
            remedy="put its four idx files (train-images-idx3-ubyte.gz, ...) into a folder and name it with "
            "--data-path, or install Debian's package dataset-fashion-mnist",
        ) from error
    return root / "FashionMNIST" / "raw"


FASHION_MNIST = DatasetEntry(
    DatasetInfo(
        "fashion-mnist", 10, FASHION_CLASSES, 1, (28, 28), 60_000, 10_000,
        "four idx files in --data-path, or Debian's package dataset-fashion-mnist, or downloaded",
    ),
    open_fashion_mnist,
    find_fashion,
)  # fmt: skip
