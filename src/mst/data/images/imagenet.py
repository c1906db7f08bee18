"""imagenet: photographs of many sizes in folders, archives or on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mst.errors import MissingFileError

from ..entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from .files import HUGGING_FACE, find_image_splits
from .own import PHOTOGRAPH_CROP_RATIO, open_folder


def _open(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    root = data_path or DEFAULT_DATA_PATH / "imagenet"
    if not str(root).startswith(HUGGING_FACE) and find_image_splits(root) is None:
        raise MissingFileError(
            f"imagenet is not in {root}",
            remedy="name with --data-path a folder that holds train/ and val/, each with one folder per class "
            "(ImageNet's validation archive has none: sort its images first), or train.tar and val.tar, or train.zip, "
            "train_map.txt, val.zip and val_map.txt; or give --data-path hf:ILSVRC/imagenet-1k",
        )
    return open_folder(info, root, in_memory)


def _find(data_path: Path | None) -> str | None:
    found = find_image_splits(data_path or DEFAULT_DATA_PATH / "imagenet")
    return None if found is None else f"{found[0]}, {found[1].name}"


IMAGENET = DatasetEntry(
    DatasetInfo(
        "imagenet", 1000, (), 3, None, 1_281_167, 50_000,
        "train/ and val/ with one folder per class, or .tar, .zip or hf:NAME, in --data-path",
        IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PHOTOGRAPH_CROP_RATIO,
    ),
    _open,
    _find,
)  # fmt: skip
