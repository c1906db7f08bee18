"""Every form of images and labels that the doors take, and the words in which the others are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, StackDataset, TensorDataset

from mst.data import as_dataset, batches_of, image_batches
from mst.errors import InputError

X = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1])
PAIRS = [(X[i], int(Y[i])) for i in range(5)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PAIRS)


def taken(data: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    batches = list(batches_of(data, **options).batches)
    labels = [each for _, each in batches if each is not None]
    assert all(each.dtype == torch.int64 for each in labels)
    return torch.cat([images for images, _ in batches]), torch.cat(labels) if labels else None


LABELLED: dict[str, Any] = {
    "pair": (X, Y),
    "pair of arrays": (X.numpy(), Y.numpy()),
    "labels in a list": (X, Y.tolist()),
    "labels of one column": (X, Y[:, None]),
    "labels in int32": (X, Y.int()),
    "labels in uint8": (X, Y.to(torch.uint8)),
    "whole labels in floating point": (X, Y.double().numpy()),
    "triple": (X, Y, torch.arange(5)),
    "dict": {"img": X, "label": Y},
    "batches": [(X[:3], Y[:3]), (X[3:], Y[3:])],
    "batches that are lists": [[X[:3], Y[:3]], [X[3:], Y[3:]]],
    "batches that are dicts": iter(
        [{"pixel_values": X[:3], "labels": Y[:3]}, {"pixel_values": X[3:], "labels": Y[3:]}]
    ),
    "batches of lists": [([*X], [*Y])],
    "loader": DataLoader(TensorDataset(X, Y), 2),
    "loader of dicts": DataLoader(StackDataset(image=X, label=Y), 2),  # type: ignore[arg-type]
    "data set": TensorDataset(X, Y),
    "data set of dicts": StackDataset(image=X, label=Y),  # type: ignore[arg-type]
    "samples": PAIRS,
    "samples one by one": iter(PAIRS),
    "stream": Stream(),
    "samples with more entries": [(*pair, "a.png", None) for pair in PAIRS],
    "samples of arrays": [(x.numpy(), np.int32(y)) for x, y in PAIRS],
    "samples of lists": [{"image": x.tolist(), "label": y} for x, y in PAIRS],
    "samples with labels of one element": TensorDataset(X, Y[:, None]),
    "samples with labels in floating point": [(x, float(y)) for x, y in PAIRS],
}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_images_are_the_same_in_every_form(name: str) -> None:
    images, labels = taken(LABELLED[name], batch_size=2, needs_labels=True)
    assert torch.equal(images.float(), X)
    assert labels is not None
    assert torch.equal(labels, Y)


UNLABELLED: dict[str, Any] = {
    "tensor": X,
    "tensor without labels": (X, None),
    "array": X.numpy(),
    "array of another byte order": X.numpy().astype(">f4"),
    "array that cannot be written": np.broadcast_to(X.numpy(), X.shape),
    "batches": [X[:2], X[2:]],
    "batches of one entry": DataLoader(TensorDataset(X), 3),
    "dict": {"image": X},
    "data set": TensorDataset(X),
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_images_alone_are_the_same_in_every_form(name: str) -> None:
    images, labels = taken(UNLABELLED[name])
    assert torch.equal(images, X)
    assert labels is None
    assert torch.equal(torch.cat(list(image_batches(UNLABELLED[name]))), X)


@pytest.mark.parametrize("name", ["pair", "data set", "samples", "loader", "dict"])
def test_image_batches_leave_labels_out(name: str) -> None:
    assert torch.equal(torch.cat(list(image_batches(LABELLED[name]))), X)


def test_whole_numbers_are_taken_as_they_are() -> None:
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    images, _ = taken(pixels)
    assert images.dtype == torch.uint8
    assert torch.equal(images.flatten(), torch.arange(32))


def test_batch_size_holds_for_samples_and_for_images_in_memory() -> None:
    for data, form in (((X, Y), "tensors"), (PAIRS, "samples"), (TensorDataset(X, Y), "data set")):
        reading = batches_of(data, 2)
        assert [len(images) for images, _ in reading.batches] == [2, 2, 1]
        assert (reading.form, reading.is_share) == (form, form == "data set")


# ------------------------------------------------------------------------------------------ refusals


def with_value(value: float) -> Tensor:
    images = X.clone()
    images[3, 0, 1, 1] = value
    return images


NAN, INFINITE = with_value(float("nan")), with_value(float("inf"))
PICTURE = Image.new("L", (4, 4))

REFUSED: dict[str, tuple[Any, str]] = {
    "no data": (None, r"the data must be \(images, labels\), .*, got NoneType; of mst.load_dataset.*\.train or \.test"),
    "a name": ("digits", "got str 'digits'; of mst.load_dataset, which opens a data set by name"),
    "images alone": (X, r"a batch is \(images, labels\), got Tensor \[5, 1, 4, 4\] of float32"),
    "other keys": ([{"x": X, "y": Y}], "got dict with the keys 'x', 'y'"),
    "splits": ({"train": PAIRS, "test": PAIRS}, "got dict with the keys 'train', 'test'"),
    "one sample": ((X[0], 1), r"the data is a single sample, .*; put it into a list: \[sample\]"),
    "pictures": ([(PICTURE, 1)], r"sample 0: a sample is .*, got tuple of Image, int 1; convert it"),
    "a batch of pictures": ([([PICTURE], [1])], "a batch is"),
    "names of classes": ((X, list("abcab")), "labels are class numbers, got list of str 'a'"),
    "a class name": ([(X[0], "cat")], "labels are class numbers, got str 'cat'"),
    "labels without a number": ([(X[0], 1), (X[1], None)], r"sample 1: a sample is .* NoneType"),
    "one-hot labels": ((X, torch.eye(5)[:, :3]), r"5 images need 5 labels, .*\(5, 3\); for one-hot labels.*argmax"),
    "one-hot samples": (TensorDataset(X, torch.eye(5)[:, :3]), r"sample 0: .*Tensor \[3\] of float32; for one-hot"),
    "too few labels": ((X, Y[:4]), r"5 images need 5 labels, got labels of shape \(4,\)"),
    "half a class": ((X, Y + 0.5), "image 0: its label 0.5 is not a class number"),
    "NaN for a label": ([(X[:2], Y[:2]), (X[2:], Y[2:] * float("nan"))], "image 2: its label nan is not a class"),
    "infinity for a label": ((X, torch.full((5,), float("inf"))), "image 0: its label inf is not a class number"),
    "NaN in memory": ((NAN, Y), "image 3: it holds NaN; repair it or leave it out"),
    "NaN in a batch": (DataLoader(TensorDataset(NAN, Y), 2), "image 3: it holds NaN"),
    "NaN in a data set": (TensorDataset(NAN, Y), "image 3: it holds NaN"),
    "NaN in an array": ((NAN.double().numpy(), Y), "image 3: it holds NaN"),
    "infinity": ([*zip(INFINITE, Y, strict=True)], "image 3: it holds infinite values"),
    "several shapes": ([(X[0], 0), (X[1, :, 1:], 1)], r"sample 1: its image is \[1, 3, 4\], that of sample 0 "),
    "complex images": ((X.to(torch.complex64), Y), r"got tuple of Tensor \[5, 1, 4, 4\] of complex64"),
    "images without values": ((X.to("meta"), Y), r"Tensor \[5, 1, 4, 4\] of float32 on meta"),
    "objects": ((np.array([object()] * 5)[:, None], Y), "of object"),
    "ragged lists": ([{"image": [[1.0], [1.0, 2.0]], "label": 0}], "sample 0: a sample is"),
    "images without axes": ((X[:, 0, 0, 0], Y.new_zeros(5)), r"images are \[B, \.\.\.\], an axis of images first"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_labelled_images_that_are_not_right_are_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        taken(data, needs_labels=True)
    assert "\n" not in str(caught.value)


def test_batches_with_and_without_labels_are_refused() -> None:
    with pytest.raises(InputError, match="the batch of image 2 has no labels, those before it have; label all batches"):
        taken([(X[:2], Y[:2]), X[2:]])
    with pytest.raises(InputError, match="the batch of image 2 has labels, those before it have none"):
        taken([X[:2], (X[2:], Y[2:])])
    with pytest.raises(InputError, match="samples 0 and 1: some samples have a label and others have none"):
        taken(as_dataset([(X[0], 1), (X[1],)], "data"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number, got 2.0"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
    ],
)
def test_batches_of_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches_of(X, **options)


def test_workers_pass_on_what_is_wrong_with_a_sample() -> None:
    with pytest.raises(InputError, match="image 3: it holds NaN; repair it") as caught:
        taken(TensorDataset(NAN, Y), batch_size=2, num_workers=1)
    assert (caught.value.where, caught.value.what) == ("image 3", "it holds NaN")


def test_as_dataset_takes_what_has_an_index() -> None:
    for data in (PAIRS, (X, Y), TensorDataset(X, Y), {"image": X, "label": Y}):
        dataset: Dataset[Any] = as_dataset(data, "train_data")
        assert len(dataset) == 5  # type: ignore[arg-type]
        image, label = dataset[4]
        assert torch.equal(image, X[4])
        assert int(label) == 1
    for data in (DataLoader(TensorDataset(X, Y)), iter(PAIRS), Stream()):
        with pytest.raises(
            InputError, match=f"train_data: training takes samples by index, .* {type(data).__name__} do"
        ):
            as_dataset(data, "train_data")
    with pytest.raises(InputError, match="test_data: it holds no sample"):
        as_dataset([], "test_data")
