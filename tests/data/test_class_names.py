from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

import mst
from image_data import encoded, write_folder
from mst.data import DataSplits, load_dataset
from mst.data.class_names import match_classes
from mst.experiments.opening import open_network
from mst.models import class_names_of, note_classes

Log = pytest.LogCaptureFixture


def folder(root: Path, *names: str) -> str:
    content = encoded(0, 0, (6, 6), "PNG")
    files = {f"{split}/{name}/{i}.png": content for split in ("train", "val") for name in names for i in range(2)}
    return f"folder:{write_folder(root, files)}"


def labels(data: DataSplits) -> list[int]:
    return [data.test[index][1] for index in range(len(data.test))]


def network() -> nn.Module:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), nn.Linear(4, 3))
    return mst.quantize(plain, 4, calibration=torch.rand(4, 3, 6, 6)).eval()


def opened(dataset: str, classes: tuple[str, ...], trained_on: str = "folder:elsewhere", chans: int = 3) -> DataSplits:
    model: Any = network()
    if chans == 1:
        plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
        model = mst.quantize(plain, 4, calibration=torch.rand(4, 1, 8, 8)).eval()
    info = mst.CheckpointInfo(trained_on, classes)
    return open_network(model, info, mst.CheckpointOptions(Path("x.safetensors"), dataset, device="cpu")).data


@pytest.mark.parametrize(
    ("names", "trained", "expected"),
    [
        (("a", "b", "c"), ("a", "b", "c"), [0, 0, 1, 1, 2, 2]),
        (("a", "b", "c"), ("c", "a", "b"), [1, 1, 2, 2, 0, 0]),
        (("a", "c"), ("c", "a", "b"), [1, 1, 0, 0]),
        (("a", "b", "c"), (), [0, 0, 1, 1, 2, 2]),
    ],
    ids=["same", "other-order", "some", "unknown"],
)
def test_labels_are_those_of_the_network_by_the_names_of_the_classes(
    names: tuple[str, ...], trained: tuple[str, ...], expected: list[int], tmp_path: Path, caplog: Log
) -> None:
    with caplog.at_level(logging.INFO, "mst.notes"):
        data = opened(folder(tmp_path, *names), trained)
    assert labels(data) == expected
    assert data.info.class_names == (trained or names)
    assert ("labels are taken as they are" in caplog.text) == (trained == ())
    assert ("matched to the network's by the names" in caplog.text) == (trained not in ((), names))
    assert ("it has 2 of the network's 3" in caplog.text) == (len(names) == 2)
    assert [label for _, label in (data.without_augmentation()[i] for i in range(len(expected)))] == expected
    assert data.with_train_images(2).train[0][1] == expected[0]


def test_classes_that_the_network_does_not_have_are_refused_with_the_differences(tmp_path: Path) -> None:
    with pytest.raises(
        mst.InputError, match=r"2 of its 3 classes .*: x_a, x_b; the network's others are a, b"
    ) as caught:
        opened(folder(tmp_path, "x_a", "x_b", "c"), ("a", "b", "c"))
    assert caught.value.where == f"folder:{tmp_path}"
    with pytest.raises(mst.InputError, match=r"the network's others are none"):
        match_classes("x", ("a", "b", "c"), ("a", "b"))
    with pytest.raises(mst.InputError, match="several classes have one name"):
        match_classes("x", ("a", "a", "b"), ("a", "b", "c"))


def test_built_in_data_sets_of_another_family_are_refused() -> None:
    clothes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    with pytest.raises(mst.InputError, match="10 of its 10 classes are not among those .*: 0, 1, 2, 3, 4, ..."):
        opened("digits", clothes, "fashion-mnist", chans=1)
    assert labels(opened("digits", clothes, "digits", chans=1))[:3] == labels(load_dataset("digits"))[:3]


@pytest.mark.parametrize(
    "form", [lambda data: data, lambda data: Subset(data, range(2)), lambda data: DataLoader(data, 2)],
    ids=["data-set", "subset", "loader"],
)  # fmt: skip
def test_evaluate_and_simulate_refuse_labels_of_other_classes(form: Callable[[Any], Any], tmp_path: Path) -> None:
    name = folder(tmp_path / "data", "a", "b", "c")
    mst.save_checkpoint(network(), tmp_path / "x.safetensors", mst.CheckpointInfo("x", ("c", "a", "b")))
    model = mst.load_checkpoint(tmp_path / "x.safetensors", network())
    assert class_names_of(model) == ("c", "a", "b")
    snn, data = mst.convert(model), form(load_dataset(name, img_size=6).test)
    for run in (lambda each: mst.evaluate(model, each), lambda each: mst.simulate(snn, each, 1)):
        with pytest.raises(mst.InputError, match=r"mean other classes \(a, b, c\) than .* \(c, a, b\); open it with"):
            run(data)
        matched = load_dataset(name, img_size=6, class_names=class_names_of(model)).test
        assert run(form(matched)).num_images > 0
    note_classes(model, None)
    assert mst.evaluate(model, data).num_images > 0


def test_training_notes_the_classes_of_its_own_data(tmp_path: Path) -> None:
    model = network()
    note_classes(model, ["x", "y", "z"])
    data = load_dataset(folder(tmp_path / "data", "a", "b", "c"), img_size=6)
    config = mst.TrainConfig(epochs=1, batch_size=2, warmup_epochs=0, device="cpu", trackers=())
    info = mst.CheckpointInfo(data.info.name, data.info.class_names, data.preprocessing)
    mst.train(model, data.train, data.test, tmp_path / "run", config, info)
    assert class_names_of(model) == ("a", "b", "c")
