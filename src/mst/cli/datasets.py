"""`mst datasets`: which data sets there are, and whether their files are here."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from mst.data import DATASETS, dataset_info, find_fashion_mnist, load_dataset

from .common import console


def datasets(check: str | None = None, data_path: Path | None = None) -> None:
    """List the data sets, where their files must lie and whether they are there; or open one and check it.

    Example: mst datasets --check fashion-mnist --data-path ~/data

    Args:
        check: name of a data set to open and count.
        data_path: folder with the files; without it the usual places are looked through.
    """
    if check is not None:
        dataset_info(check)
        splits = load_dataset(check, data_path)
        height, width = splits.info.native_size
        console.print(
            f"{check}: {len(splits.train):,} training and {len(splits.test):,} test images of "
            f"{splits.info.in_chans}x{height}x{width} px, {splits.info.num_classes} classes\n"
            f"mean {splits.preprocessing.mean}, std {splits.preprocessing.std} of the training pixels\n"
            f"sha256 {splits.fingerprint}",
            highlight=False,
        )
        return
    table = Table(title="Data sets")
    for heading in ("name", "images\n(train + test)", "size (px)", "classes", "here?", "where from"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, (info, _) in DATASETS.items():
        place = find_fashion_mnist(data_path) if name == "fashion-mnist" else Path("scikit-learn")
        table.add_row(
            name,
            f"{info.num_train:,} + {info.num_test:,}",
            f"{info.in_chans}x{info.native_size[0]}x{info.native_size[1]}",
            str(info.num_classes),
            f"yes: {place}" if place else "no",
            info.where,
        )
    console.print(table)
