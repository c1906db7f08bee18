"""Fashion-MNIST: four idx files, in Debian's folder, in torchvision's layout, or downloaded."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

from torchvision.datasets import FashionMNIST

from ..splits import StoredImages
from .idx import read_idx

DEFAULT_DATA_PATH = Path("data")
"""Where files are looked for, and downloads go, if no data path is given; relative to the working folder."""

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` installs the four files."""

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


def load_fashion_mnist(data_path: Path | None) -> tuple[StoredImages, StoredImages]:
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
        splits.append(StoredImages(images.unsqueeze(1), labels.long()))
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
