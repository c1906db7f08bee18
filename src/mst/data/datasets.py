"""The data sets by name: where their files lie, how they are split, and what a network needs to know of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .cifar import CIFAR10_FORMAT, CIFAR100_FORMAT, CifarFormat, find_cifar, load_cifar
from .fashion_mnist import DEFAULT_DATA_PATH, find_fashion_mnist, load_fashion_mnist
from .image_files import HUGGING_FACE, find_image_splits, open_image_files
from .preprocessing import AugmentConfig, Interpolation, Preprocessing, Transform
from .splits import BadImages, ImageDataset, PartOfSplit, RawSplit, StoredImages, fingerprint

FOLDER = "folder:"
"""Prefix of a data set that is a user's own folder of images."""

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_CROP_RATIO = 224 / 256


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set.

    native_size: (height, width) in pixels; None if the images differ.  num_train, num_test: images.
    mean, std: of pixel values from 0 to 1, per channel; None: of the training images.
    crop_ratio: see `Preprocessing`.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    in_chans: int
    native_size: tuple[int, int] | None
    num_train: int
    num_test: int
    where: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_ratio: float = 1.0


@dataclass(frozen=True)
class DataSplits:
    """A data set ready to use.

    fingerprint: sha256 over images and labels in memory, or over the names of image files.
    """

    info: DatasetInfo
    preprocessing: Preprocessing
    train: ImageDataset
    test: ImageDataset
    fingerprint: str

    def with_train_images(self, count: int) -> DataSplits:
        """The same data set with so many training images, evenly taken, always the same ones.

        Raises:
            ValueError: fewer than 1, or more than there are.
        """
        whole = self.train.raw
        if not 1 <= count <= len(whole):
            raise ValueError(f"train_images must be from 1 to the {len(whole)} that {self.info.name} has, got {count}")
        part = PartOfSplit(whole, [index * len(whole) // count for index in range(count)])
        train = ImageDataset(part, self.train.transform, self.train.on_bad_image, replace_bad=True)
        return replace(self, train=train, fingerprint=fingerprint(part, self.test.raw))

    def without_augmentation(self) -> ImageDataset:
        """The training split as the test split is read."""
        return ImageDataset(self.train.raw, self.test.transform, self.train.on_bad_image, replace_bad=True)


@dataclass(frozen=True)
class _Opened:
    info: DatasetInfo
    train: RawSplit
    test: RawSplit


Opener = Callable[[DatasetInfo, Path | None, bool], _Opened]
"""(what is known, data path, whether image files are to be read into memory) -> both splits."""

Finder = Callable[[Path | None], str | None]


@dataclass(frozen=True)
class DatasetEntry:
    """A data set of the registry. find: where its files are, without opening them; None if they are not there."""

    info: DatasetInfo
    open: Opener
    find: Finder


# ----------------------------------------------------------------------------------------------- sources


def _open_digits(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> _Opened:
    del data_path, in_memory  # it ships with scikit-learn
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return _Opened(info, StoredImages(images[train], labels[train]), StoredImages(images[test], labels[test]))


def _open_fashion_mnist(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> _Opened:
    del in_memory  # it is
    return _Opened(info, *load_fashion_mnist(data_path))


def _find_fashion_mnist(data_path: Path | None) -> str | None:
    found = find_fashion_mnist(data_path)
    return None if found is None else str(found)


def _open_cifar(form: CifarFormat, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> _Opened:
    del in_memory  # it is
    return _Opened(info, *load_cifar(form, data_path or DEFAULT_DATA_PATH))


def _find_cifar(form: CifarFormat, data_path: Path | None) -> str | None:
    found = find_cifar(form, data_path or DEFAULT_DATA_PATH)
    return None if found is None else str(found)


def _open_imagenet(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> _Opened:
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


def _open_folder(info: DatasetInfo, root: Path, in_memory: bool) -> _Opened:
    files = open_image_files(root, info.in_chans, in_memory)
    known = {
        "num_classes": len(files.class_names),
        "class_names": files.class_names,
        "num_train": len(files.train),
        "num_test": len(files.test),
    }
    return _Opened(replace(info, **known), files.train, files.test)  # type: ignore[arg-type]


def _find_own(root: Path, data_path: Path | None) -> str | None:
    return str(root) if data_path is None else None


def _open_own(root: Path, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> _Opened:
    if data_path is not None:
        raise ValueError(f"{info.name} says where its images lie; leave --data-path out")
    return _open_folder(info, root, in_memory)


# ---------------------------------------------------------------------------------------------- registry

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_FILES_PER_CLASS = "train/ and val/ with one folder a class, or .tar, .zip or hf:NAME, in --data-path"

_IMAGE_FOLDER = DatasetInfo(
    "folder:PATH", 0, (), 3, None, 0, 0,
    "your own images: one folder a class, or train/ and val/ with one folder a class in each; also hf:NAME",
    IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_CROP_RATIO,
)  # fmt: skip

DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        DatasetInfo(
            "digits", 10, tuple("0123456789"), 1, (8, 8), 1437, 360,
            "ships with scikit-learn; fixed stratified split, 80 % training",
        ),
        _open_digits,
        lambda data_path: "scikit-learn",
    ),
    "fashion-mnist": DatasetEntry(
        DatasetInfo(
            "fashion-mnist", 10, _FASHION_CLASSES, 1, (28, 28), 60_000, 10_000,
            "four idx files in --data-path, or Debian's package dataset-fashion-mnist, or downloaded",
        ),
        _open_fashion_mnist,
        _find_fashion_mnist,
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


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known ones, if any are near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else "."


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name` without its files; those of folder:PATH and hf:NAME are opened.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: unknown name; suggests the nearest.
    """
    found = _entry(name)
    return found.info if found.info.num_classes else found.open(found.info, None, False).info


def _entry(name: str) -> DatasetEntry:
    for prefix in (FOLDER, HUGGING_FACE):
        if name.startswith(prefix):
            root = Path(name if prefix == HUGGING_FACE else name[len(prefix) :]).expanduser()
            info = replace(_IMAGE_FOLDER, name=name)
            return DatasetEntry(info, partial(_open_own, root), partial(_find_own, root))
    if name not in DATASETS:
        known = sorted(DATASETS)
        raise ValueError(
            f"unknown data set {name!r}{nearest_name(name, known)} Known: {', '.join(known)}; "
            "and folder:PATH and hf:NAME for images of your own"
        )
    return DATASETS[name]


def load_dataset(
    name: str,
    data_path: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    img_size: int | None = None,
    interpolation: Interpolation = "bicubic",
    crop_ratio: float | None = None,
    augment: AugmentConfig | None = None,
    on_bad_image: BadImages = "fail",
    cache_images: bool = False,
) -> DataSplits:
    """Open a data set.

    Args:
        name: a key of `DATASETS`; or folder:PATH, one's own images; or hf:NAME, a data set of Hugging Face.
        data_path: where its files lie; None looks in the usual places.
        preprocessing: what the network expects (from its checkpoint). None takes the data set's mean and standard
            deviation, or measures those of the training images.
        img_size: side in pixels where `preprocessing` is None; None keeps the native size.
        interpolation, crop_ratio: likewise; a ratio of None is the data set's own.
        augment: random changes of the training split; None leaves it as it is.
        on_bad_image: "fail" names an image file that cannot be decoded; "skip" names it in the log and goes on with
            the next (training) or without it (test).

        cache_images: read all image files into memory, still encoded. (Other data sets lie in memory anyway.)

    Raises:
        ValueError: unknown name, damaged files, or another number of channels than the network expects.
        FileNotFoundError: the files are not there.
    """
    entry = _entry(name)
    opened = entry.open(entry.info, data_path, cache_images)
    info, train, test = opened.info, opened.train, opened.test
    if preprocessing is None:
        if img_size is None and info.native_size is None:
            raise ValueError(f"the images of {name} have no common size; say which size the network takes (img_size)")
        mean, std = info.mean, info.std
        if mean is None or std is None:
            assert isinstance(train, StoredImages)
            mean, std = _pixel_statistics(train)
        size = img_size if img_size is not None or info.native_size is None else info.native_size[0]
        assert size is not None
        ratio = info.crop_ratio if crop_ratio is None else crop_ratio
        preprocessing = Preprocessing(size, info.in_chans, mean, std, interpolation, ratio)
    if preprocessing.in_chans != info.in_chans:
        raise ValueError(f"{name} has {info.in_chans} channel(s), the network takes {preprocessing.in_chans}")
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(train, Transform(info.native_size, preprocessing, augment), on_bad_image, replace_bad=True),
        ImageDataset(test, Transform(info.native_size, preprocessing, None), on_bad_image),
        fingerprint(train, test),
    )


def _pixel_statistics(split: StoredImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixel values from 0 to 1."""
    scale = 255.0 if split.images.dtype == torch.uint8 else 1.0
    pixels = split.images.double().div_(scale).transpose(0, 1).flatten(1)
    return (
        tuple(round(v, 6) for v in pixels.mean(dim=1).tolist()),
        tuple(round(v, 6) for v in pixels.std(dim=1).tolist()),
    )
