"""CIFAR-10 and CIFAR-100 in their python form: pickled batches, in a folder or still in the archive they come in."""

from __future__ import annotations

import codecs
import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from ..splits import StoredImages

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class CifarFormat:
    """folder, archive: names as distributed.  label_key: under which a batch holds its labels."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    num_classes: int
    downloader: Callable[..., object]


CIFAR10_FORMAT = CifarFormat(
    "cifar-10-batches-py", "cifar-10-python.tar.gz", tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",),
    "labels", 10, CIFAR10,
)  # fmt: skip
CIFAR100_FORMAT = CifarFormat(
    "cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), "fine_labels", 100, CIFAR100
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
        FileNotFoundError: not there, and the download failed.
        ValueError: a damaged batch, or one that would have to run code to be read; names it.
    """
    place = find_cifar(form, root)
    if place is None:
        for folder in (root / form.folder, root):
            missing = [name for name in (*form.train, *form.test) if not (folder / name).is_file()]
            if len(missing) < len(form.train) + len(form.test):
                raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; unpack {form.archive} anew")
        try:
            form.downloader(str(root), download=True)
        except (RuntimeError, URLError, OSError) as error:
            raise FileNotFoundError(
                f"neither {form.folder}/ nor {form.archive} is in {root}, and it could not be downloaded. Put one of "
                "them into a folder and name the folder with --data-path"
            ) from error
        place = root / form.folder
    train, test = ([*_read_batches(form, place, names)] for names in (form.train, form.test))
    return _join(train), _join(test)


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
        raise ValueError(f"{place} is truncated or is no archive of {form.folder}: {error}") from error
    return batches


def _parse(form: CifarFormat, content: bytes, where: str) -> StoredImages:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{where} is refused or damaged: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{where} is no CIFAR batch, or a damaged one ({type(error).__name__}: {error})") from error
    images, labels = (batch.get("data"), batch.get(form.label_key)) if isinstance(batch, dict) else (None, None)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        raise ValueError(f"{where} holds no CIFAR images (under 'data', bytes of shape [N, {PIXELS}])")
    if not isinstance(labels, list) or len(labels) != len(images):
        raise ValueError(f"{where} holds no {form.label_key!r}, or not one for each of its {len(images)} images")
    if any(not isinstance(label, int) or not 0 <= label < form.num_classes for label in labels):
        raise ValueError(f"{where} holds labels outside 0...{form.num_classes - 1}")
    pixels = torch.from_numpy(images.reshape(-1, 3, 32, 32).copy())
    return StoredImages(pixels, torch.tensor(labels, dtype=torch.int64))


class _ArrayUnpickler(pickle.Unpickler):
    """Plain values and numpy arrays; any other class or function is refused before it could run."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        # numpy has moved this function between versions; an array says where it is now
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
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs; nothing was run")
        return self._ALLOWED[module, name]
