"""Bad samples are refused before a training does any work, in an error of one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import mst
from bad_input import IMAGES, INF, NAN, X, Y, changed, labels, network, refused

QUICK = mst.TrainConfig(epochs=1, batch_size=3, warmup_epochs=0, trackers=(), device="cpu")


class Counted:
    """Notes the steps of a training."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, progress: mst.Progress) -> None:
        self.steps = progress.done


def train(output: Path, train_data: Any, test_data: Any = (X, Y), **options: Any) -> tuple[int, Any]:
    counted = Counted()
    config = dataclasses.replace(QUICK, **options)
    observer = mst.TrainingObserver(counted)
    result = mst.train(
        network(), train_data, test_data, output / "run", config, mst.CheckpointInfo(), observer=observer
    )
    return counted.steps, result


@pytest.mark.parametrize("bad", [name for name in IMAGES if name not in ("none", "beyond float32")])
@pytest.mark.parametrize("split", ["train_data", "test_data"])
def test_train_bad_images_are_refused_before_any_work(tmp_path: Path, split: str, bad: str) -> None:
    images, message = IMAGES[bad]
    if isinstance(images, Tensor | np.ndarray):
        images = (
            (images[4:5], Y[: len(images[4:5])]) if bad not in ("an axis less", "an axis more") else (images, Y[:1])
        )
        message = message.replace("image 4", "image 0")
    if bad == "an axis less":
        images, message = [(X[0, 0], 1)], r"takes images \[B, 2, 4, 4\], got \[1, 4, 4\]"
    message = f"{split}.*({message}|training takes samples by index)"
    refused(message, train, tmp_path, **{"train_data": (X, Y), split: images})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            [(X[0], torch.tensor([0.0, 1.0, 0.0]))],
            r"sample is \(image, class number\), got tuple of Tensor \[2, 4, 4\] .*argmax",
        ),
        ([(X[0], -100)], "the label is -100, but the network has 3 classes; labels are class numbers from 0 to 2"),
        ([(X[0], 3)], "the label is 3, but the network has 3 classes"),
        ([(X[0], 0.5)], r"a sample is \(image, class number\), got tuple of .*, float 0.5"),
        ([(X[0], "cat")], "str 'cat'"),
        ([X[0]], r"a sample is \(image, class number\), got Tensor \[2, 4, 4\]"),
        ([(1, X[0])], "a sample is .*got tuple of int 1, Tensor"),
        ([(X, Y)], r"a sample is .*got tuple of Tensor \[6, 2, 4, 4\] of float32, Tensor \[6\]"),
        ([{"x": X[0], "y": 1}], "a sample is .*got dict with the keys 'x', 'y'"),
        ([], "it holds no sample"),
        (DataLoader(TensorDataset(X, Y)), r"training takes samples by index, .*DataLoader does not allow; .*`dataset`"),
        (iter([(X[0], 1)]), "training takes samples by index, which this list_iterator does not allow"),
    ],
    ids=range(12),
)
def test_train_first_sample_is_looked_at_before_any_work(tmp_path: Path, samples: Any, message: str) -> None:
    refused(f"^train_data.*{message}", train, tmp_path, samples)
    refused(f"^test_data.*{message}", train, tmp_path, (X, Y), samples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TensorDataset(X, labels(-100)), r"labels run from -100 to \d, but the network has 3 classes"),
        (TensorDataset(X, labels(3)), r"labels run from \d to 3, but the network has 3 classes"),
        (TensorDataset(changed(NAN), Y), "image 4: it holds NaN"),
        ([*zip(X, [*Y[:4], 0.5, 2], strict=True)], r"sample 4: a sample is \(image, class number\), .* float 0.5"),
    ],
    ids=["ignored", "beyond", "NaN", "float"],
)
def test_train_bad_sample_is_refused_when_it_comes(tmp_path: Path, data: Any, message: str) -> None:
    refused(message, train, tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        (X.double().numpy(), Y.numpy()),
        [(x.double(), np.int32(y), "file") for x, y in zip(X, Y, strict=True)],
        [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)],
        TensorDataset((X * 255).clamp(0, 255).byte(), Y[:, None].float()),
    ],
    ids=["arrays", "triples", "dicts", "uint8"],
)
def test_train_takes_the_forms_of_every_door(tmp_path: Path, data: Any) -> None:
    steps, result = train(tmp_path, data, data)
    assert steps == 2
    assert result.history[0].loss > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"batch_size": "8"}, "batch_size must be a whole number, got '8'"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"learning_rate": NAN}, "learning_rate must be a number, got nan"),
        ({"learning_rate": INF}, "learning_rate must be finite, got inf"),
        ({"weight_decay": NAN}, "weight_decay must be a number, got nan"),
        ({"spike_penalty": "high"}, "spike_penalty must be a number, got 'high'"),
        ({"label_smoothing": -0.1}, "label_smoothing must not be negative, got -0.1"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
    ],
    ids=str,
)
def test_train_config_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    refused(message, dataclasses.replace, QUICK, **options)


def test_train_config_and_info_of_another_type_are_refused(tmp_path: Path) -> None:
    info = mst.CheckpointInfo()
    refused("output must be the path of a folder, got int", mst.train, network(), (X, Y), (X, Y), 3, QUICK, info)
    refused("config must be a TrainConfig, got dict", mst.train, network(), (X, Y), (X, Y), tmp_path, {}, info)
    refused("info must be a CheckpointInfo, got str", mst.train, network(), (X, Y), (X, Y), tmp_path, QUICK, "own")
