"""`mst datasets`: which data sets there are, and whether their files are here."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from mst.data import DATASETS, DatasetInfo, DataSplits, UnreadableImageError, dataset_info, load_dataset

from .common import console, progress_bar

ANY_SIZE = 224
"""Side in pixels to which images of many sizes are brought when a data set is opened only to be checked."""


def datasets(check: str | None = None, data_path: Path | None = None, decode: bool = False) -> None:
    """List the data sets, where their files must lie and whether they are there; or open one and check it.

    Example: mst datasets --check fashion-mnist --data-path ~/data

    Args:
        check: name of a data set to open and count; folder:PATH for your own images.
        data_path: folder with the files; without it the usual places are looked through.
        decode: with check: decode every image, and name those that are damaged.
    """
    if decode and check is None:
        raise ValueError("--decode checks the images of one data set; name it with --check")
    if check is not None:
        _check(check, data_path, decode)
        return
    table = Table(title="Data sets")
    for heading in ("name", "images\n(train + test)", "size (px)", "classes", "here?", "where from"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, entry in DATASETS.items():
        info, place = entry.info, entry.find(data_path)
        table.add_row(
            name,
            f"{info.num_train:,} + {info.num_test:,}",
            _size(info),
            str(info.num_classes),
            f"yes: {place}" if place else "no",
            info.where,
        )
    table.add_row(
        "folder:PATH",
        "",
        "3 x any",
        "",
        "",
        "your own images: one folder a class, or train/ and val/ with such folders",
    )
    table.add_row("hf:NAME", "", "3 x any", "", "", "a data set of Hugging Face, or a folder in its format")
    console.print(table)


def _size(info: DatasetInfo) -> str:
    size = "any" if info.native_size is None else f"{info.native_size[0]} x {info.native_size[1]}"
    return f"{info.in_chans} x {size}"


def _check(name: str, data_path: Path | None, decode: bool) -> None:
    info = dataset_info(name)
    splits = load_dataset(name, data_path, img_size=None if info.native_size else ANY_SIZE)
    info = splits.info
    console.print(
        f"{name}: {len(splits.train):,} training and {len(splits.test):,} test images of {_size(info)} px, "
        f"{info.num_classes} classes\n"
        f"mean {splits.preprocessing.mean}, std {splits.preprocessing.std}\n"
        f"sha256 {splits.fingerprint}",
        highlight=False,
    )
    expected = DATASETS[name].info if name in DATASETS else info
    if (expected.num_train, expected.num_test) != (len(splits.train), len(splits.test)):
        console.print(
            f"note: the full data set has {expected.num_train:,} and {expected.num_test:,} images in "
            f"{expected.num_classes} classes",
            highlight=False,
        )
    if decode:
        damaged = _decode(splits)
        console.print(f"decoded every image: {len(damaged)} damaged")
        if damaged:
            raise ValueError(f"{len(damaged)} of the images of {name} are damaged: {'; '.join(damaged[:20])}")


def _decode(splits: DataSplits) -> list[str]:
    """Read every image; returns what is wrong with those that cannot be read."""
    damaged = []
    with progress_bar("decoding", len(splits.train) + len(splits.test), "images") as advance:
        for split in (splits.train, splits.test):
            for index in range(len(split)):
                try:
                    split.raw.read(index)
                except UnreadableImageError as error:
                    damaged.append(str(error).partition("; replace")[0])
                advance(1)
    return damaged
