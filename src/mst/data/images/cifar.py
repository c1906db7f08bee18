"""cifar10 and cifar100 in their python form: pickled batches, in a folder or still in their archive."""

from __future__ import annotations

import codecs
import io
import pickle
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import numpy as np
import torch

from mst.errors import InputError, MissingFileError
from mst.text import one_line

from ..entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from ..splits import StoredImages

PIXELS = 3 * 32 * 32
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclass(frozen=True)
class CifarFormat:
    """Files of one of the two data sets."""

    folder: str
    """Name of the unpacked folder."""

    archive: str
    """Name of the archive, as distributed."""

    train: tuple[str, ...]
    """Batches of training images."""

    test: tuple[str, ...]
    """Batches of test images."""

    label_key: str
    """Key under which a batch holds its labels."""

    num_classes: int
    """Labels run from 0 to num_classes - 1."""

    torchvision_class: str
    """Class of torchvision.datasets that downloads it."""


CIFAR10_FORMAT = CifarFormat(
    "cifar-10-batches-py", "cifar-10-python.tar.gz", tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",),
    "labels", 10, "CIFAR10",
)  # fmt: skip
CIFAR100_FORMAT = CifarFormat(
    "cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), "fine_labels", 100, "CIFAR100"
)


def find_cifar(form: CifarFormat, root: Path) -> Path | None:
    """The folder with all batches, or the archive; None if neither is in `root`, nor is `root` it."""
    for folder in (root / form.folder, root):
        if all((folder / name).is_file() for name in (*form.train, *form.test)):
            return folder
    for archive in (root / form.archive, root):
        if archive.is_file() and archive.name == form.archive:
            return archive
    return None


def load_cifar(form: CifarFormat, root: Path) -> tuple[StoredImages, StoredImages]:
    """Training and test images, uint8 [N, 3, 32, 32]; downloaded if they are not in `root`.

    Raises:
        MissingFileError: not there, and the download failed.
        InputError: a damaged batch, or one that would have to run code to be read; names it.
    """
    place = find_cifar(form, root) or _download(form, root)
    train, test = ([*_read_batches(form, place, names)] for names in (form.train, form.test))
    return _join(train), _join(test)


def _download(form: CifarFormat, root: Path) -> Path:
    for folder in (root / form.folder, root):
        missing = [name for name in (*form.train, *form.test) if not (folder / name).is_file()]
        if len(missing) < len(form.train) + len(form.test):
            raise MissingFileError(
                f"there is no {', '.join(missing)}", where=str(folder), remedy=f"unpack {form.archive} again"
            )
    from torchvision import datasets

    try:
        getattr(datasets, form.torchvision_class)(str(root), download=True)
    except (RuntimeError, URLError, OSError) as error:
        raise MissingFileError(
            f"neither {form.folder}/ nor {form.archive} is in {root}, and it could not be downloaded",
            remedy="put one of them into a folder and name the folder with --data-path",
        ) from error
    return root / form.folder


def _join(batches: list[StoredImages]) -> StoredImages:
    return StoredImages(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]))


def _read_batches(form: CifarFormat, place: Path, names: tuple[str, ...]) -> list[StoredImages]:
    if place.is_dir():
        return [_parse(form, (place / name).read_bytes(), str(place / name)) for name in names]
    batches = []
    try:
        with tarfile.open(place) as archive:
            for name in names:
                member = archive.extractfile(f"{form.folder}/{name}")
                assert member is not None
                batches.append(_parse(form, member.read(), f"{place}:{form.folder}/{name}"))
    except (tarfile.TarError, EOFError, OSError, KeyError, AssertionError) as error:
        raise InputError(
            f"the archive of {form.folder} is truncated, or another file ({one_line(error)})", where=str(place)
        ) from error
    return batches


def _parse(form: CifarFormat, content: bytes, where: str) -> StoredImages:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise InputError(f"the batch is refused or damaged: {one_line(error)}", where=where) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"not a CIFAR batch, or a damaged one ({type(error).__name__}: {one_line(error)})", where=where
        ) from error
    images, labels = (batch.get("data"), batch.get(form.label_key)) if isinstance(batch, dict) else (None, None)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        raise InputError(f"no CIFAR images in it (under 'data', bytes of shape [N, {PIXELS}])", where=where)
    if not isinstance(labels, list) or len(labels) != len(images):
        raise InputError(f"no {form.label_key!r} in it, or not one for each of its {len(images)} images", where=where)
    if any(not isinstance(label, int) or not 0 <= label < form.num_classes for label in labels):
        raise InputError(f"labels outside 0...{form.num_classes - 1}", where=where)
    pixels = torch.from_numpy(images.reshape(-1, 3, 32, 32).copy())
    return StoredImages(pixels, torch.tensor(labels, dtype=torch.int64))


class _ArrayUnpickler(pickle.Unpickler):
    """Reads plain values and numpy arrays; refuses any other class or function before it could run."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        # numpy has moved this function between versions; an array reports its present place
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that the pickle asks for.

        Raises:
            UnpicklingError: it is not needed for an array.
        """
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR files do not need; nothing was run")
        return self._ALLOWED[module, name]


def _open(form: CifarFormat, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    del in_memory  # it always is
    return OpenedDataset(info, *load_cifar(form, data_path or DEFAULT_DATA_PATH))


def _find(form: CifarFormat, data_path: Path | None) -> str | None:
    found = find_cifar(form, data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _entry(name: str, form: CifarFormat, classes: tuple[str, ...]) -> DatasetEntry:
    info = DatasetInfo(
        name, form.num_classes, classes, 3, (32, 32), 50_000, 10_000,
        f"{form.folder}/ or {form.archive} in --data-path, or downloaded", CIFAR_MEAN, CIFAR_STD,
    )  # fmt: skip
    return DatasetEntry(info, partial(_open, form), partial(_find, form))


CIFAR10 = _entry("cifar10", CIFAR10_FORMAT, CIFAR10_CLASSES)
CIFAR100 = _entry("cifar100", CIFAR100_FORMAT, CIFAR100_CLASSES)
