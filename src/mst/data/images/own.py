"""folder:PATH and hf:NAME: a user's own images, or a data set of Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mst.errors import InputError

from ..entry import DatasetEntry, DatasetInfo, OpenedDataset
from ..events.representation import EventRepresentation
from .files import open_image_files

FOLDER = "folder:"
"""Prefix of a data set that is a user's own folder of images."""

PHOTOGRAPH_CROP_RATIO = 224 / 256

OWN_IMAGES = DatasetInfo(
    "folder:PATH", 0, (), 3, None, 0, 0,
    "your own images: one folder per class, or train/ and val/ with one folder per class in each",
    IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PHOTOGRAPH_CROP_RATIO,
)  # fmt: skip

HUGGING_FACE_IMAGES = replace(
    OWN_IMAGES, name="hf:NAME", where="a data set of Hugging Face with an image and a class column, or a folder in its "
    "format",
)  # fmt: skip


def open_folder(info: DatasetInfo, root: Path, in_memory: bool) -> OpenedDataset:
    """A folder of images, or hf:NAME, with the facts that it shows."""
    files = open_image_files(root, info.in_chans, in_memory)
    found = replace(
        info, num_classes=len(files.class_names), class_names=files.class_names, num_train=len(files.train),
        num_test=len(files.test),
    )  # fmt: skip
    return OpenedDataset(found, files.train, files.test)


def own_images(name: str, how: EventRepresentation) -> DatasetEntry:
    """Entry for folder:PATH."""
    return _entry(OWN_IMAGES, name, Path(name.removeprefix(FOLDER)).expanduser(), how)


def hugging_face(name: str, how: EventRepresentation) -> DatasetEntry:
    """Entry for hf:NAME."""
    return _entry(HUGGING_FACE_IMAGES, name, Path(name), how)


def _entry(info: DatasetInfo, name: str, root: Path, how: EventRepresentation) -> DatasetEntry:
    del how  # `load_dataset` refuses every option for events
    return DatasetEntry(
        replace(info, name=name), partial(_open, root), lambda data_path: str(root) if data_path is None else None
    )


def _open(root: Path, info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    if data_path is not None:
        raise InputError(f"--data-path has no effect on {info.name}, which names its place", remedy="remove it")
    return open_folder(info, root, in_memory)
