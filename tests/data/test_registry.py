from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mst.cli.main import main
from mst.data import DATASETS, DatasetEntry, DatasetInfo, OpenedDataset, StoredImages, load_dataset, register_dataset
from mst.errors import InputError


def open_stripes(info: DatasetInfo, data_path: Path | None, in_memory: bool) -> OpenedDataset:
    """Two classes of 4x4 images: horizontal and vertical stripes."""
    rows = torch.arange(4).remainder(2)[:, None].expand(4, 4).float()
    images, labels = torch.stack([rows, rows.T] * 10)[:, None], torch.arange(2).repeat(10)
    return OpenedDataset(info, StoredImages(images[:16], labels[:16]), StoredImages(images[16:], labels[16:]))


def entry(name: str) -> DatasetEntry:
    info = DatasetInfo(name, 2, ("horizontal", "vertical"), 1, (4, 4), 16, 4, "made in memory")
    return DatasetEntry(info, open_stripes, lambda data_path: "memory")


@pytest.fixture
def _registry() -> Iterator[None]:
    before = dict(DATASETS)
    yield
    DATASETS.clear()
    DATASETS.update(before)


@pytest.mark.usefixtures("_registry")
def test_register_dataset_makes_it_known_to_python_and_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    register_dataset(entry("stripes"))
    splits = load_dataset("stripes", img_size=8)
    assert (len(splits.train), len(splits.test), splits.test[0][0].shape) == (16, 4, (1, 8, 8))
    assert main(["datasets"]) == 0
    assert "stripes" in capfd.readouterr().out
    with pytest.raises(InputError, match="unknown data set 'stipes'; did you mean stripes"):
        load_dataset("stipes")


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(("name", "message"), [
    ("digits", "there is a data set 'digits' already; choose another name"),
    ("folder:mine", "'folder:mine' cannot be the name of a data set"),
    ("", "'' cannot be the name"),
])  # fmt: skip
def test_register_dataset_refuses_names_that_are_taken(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register_dataset(entry(name))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 8, 8), torch.zeros(2).long(), r"uint8 or float \[N, C, height, width\], got torch.float32"),
        (torch.zeros(2, 1, 8, 8).int(), torch.zeros(2).long(), "uint8 or float"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3).long(), r"int64 \[N\] for 2 images, got torch.int64 \[3\]"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "labels must be int64"),
        (torch.full((2, 1, 8, 8), 255.0), torch.zeros(2).long(), "from 0 to 1, got 255 to 255; scale them"),
        (torch.full((2, 1, 8, 8), float("nan")), torch.zeros(2).long(), "from 0 to 1, got nan"),
    ],
)
def test_images_in_memory_that_would_be_altered_are_refused(
    images: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StoredImages(images, labels)
