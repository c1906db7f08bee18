from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from image_data import write_cifar10, write_cifar100
from mst.data import AugmentConfig, load_dataset


@pytest.mark.parametrize("archive", [False, True])
def test_cifar10_is_read_from_folder_and_archive(tmp_path: Path, archive: bool) -> None:
    write_cifar10(tmp_path, 8, archive)
    data = load_dataset("cifar10", tmp_path)
    assert (len(data.train), len(data.test)) == (40, 8)
    raw = write_cifar10(tmp_path / "again", 8) / "cifar-10-batches-py" / "data_batch_2"
    batch = pickle.loads(raw.read_bytes())
    image, label = data.train.raw.read(8)  # the first of the second file
    assert torch.equal(image, torch.from_numpy(batch["data"][0].reshape(3, 32, 32)))
    assert label == batch["labels"][0]
    assert data.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert data.preprocessing.std == (0.2023, 0.1994, 0.2010)


def test_cifar100_takes_the_fine_labels_and_resizes(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    data = load_dataset("cifar100", tmp_path, img_size=224, augment=AugmentConfig(4, 0.0, True))
    assert data.info.num_classes == 100
    assert max(data.train.raw.read(i)[1] for i in range(40)) > 20
    assert data.train[0][0].shape == data.test[0][0].shape == (3, 224, 224)
    assert data.train[0][0].dtype == torch.float32


def test_cifar_missing_files_say_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    write_cifar10(tmp_path / "half")
    (tmp_path / "half" / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(
        FileNotFoundError, match="cifar-10-batches-py: there is no data_batch_3; unpack cifar-10-python.tar.gz again"
    ):
        load_dataset("cifar10", tmp_path / "half")
    with pytest.raises(
        FileNotFoundError, match=r"neither cifar-10-batches-py/ nor .* name the folder with --data-path"
    ):
        load_dataset("cifar10", tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CIFAR batch, or a damaged one"),
        (pickle.dumps({"data": _Evil()}), "asks for (posix|nt).system, which CIFAR files do not need; nothing was run"),
        (pickle.dumps([1, 2]), "no CIFAR images in it"),
        (pickle.dumps({"data": np.zeros((4, 10), np.uint8), "labels": [0] * 4}), "no CIFAR images in it"),
        (pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0]}), "not one for each of its 4 images"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "labels outside 0...9"),
    ],
)
def test_cifar_bad_batch_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_4.*{message}"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_cifar_truncated_archive_is_named(tmp_path: Path) -> None:
    path = write_cifar10(tmp_path, archive=True) / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cifar-10-python.tar.gz: the archive of cifar-10-batches-py is truncated"):
        load_dataset("cifar10", tmp_path)
