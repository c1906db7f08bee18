"""Inputs that no door may take, with the words that refuse them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError

X = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.3
Y = torch.tensor([0, 1, 2, 0, 1, 2])
NAN, INF = float("nan"), float("inf")


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).eval()


def network() -> nn.Sequential:
    return mst.quantize(plain(), 4, calibration=X)


def broken(name: str = "0.weight", value: float = NAN, of: Callable[[], nn.Module] = network) -> nn.Module:
    model = of()
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] = value
    return model


def changed(value: float) -> Tensor:
    images = X.clone()
    images[4, 0, 0, 0] = value
    return images


def labels(value: float) -> Tensor:
    return torch.where(torch.arange(6) == 4, torch.tensor(value), Y)


IMAGES: dict[str, tuple[Any, str]] = {
    "NaN": (changed(NAN), "image 4: it holds NaN"),
    "infinity": (changed(-INF), "image 4: it holds infinite values"),
    "infinity in an array of float64": (changed(INF).double().numpy(), "image 4: it holds infinite values"),
    "beyond float32": (X.double() * 1e300, "image 0: its largest value is beyond the range of the network's float32"),
    "other size": (
        X[..., :3],
        r"fails on images \[\d, 2, 4, 3\] of float32 on cpu: .*; it takes images \[B, 2, 4, 4\]",
    ),
    "other channels": (X[:, :1], r"fails on images \[\d, 1, 4, 4\] .*; it takes images \[B, 2, 4, 4\]"),
    "an axis less": (X[0], r"takes images \[B, 2, 4, 4\], got \[\d, 4, 4\]; add the axis of images: images\[None\]"),
    "an axis more": (X[None], r"takes images \[B, 2, 4, 4\], got \[1, 6, 2, 4, 4\]"),
    "complex": (X.to(torch.complex64), "got .*of complex64"),
    "meta device": (X.to("meta"), "on meta"),
    "none": (X[:0], "no images? "),
    "text": (["cat.png"], "got str 'cat.png'|got list of str 'cat.png'"),
    "a path": ("images/", r"got str 'images/'; of mst.load_dataset.* \.train or \.test"),
    "a number": (3, "got int 3"),
    "nothing": (None, "got NoneType"),
    "other keys": ([{"pixels": X}], "got dict with the keys 'pixels'"),
}

LABELS: dict[str, tuple[Any, str]] = {
    "below the classes": ((X, labels(-1)), "labels run from -1 to 2, but the network has 3 classes; .* from 0 to 2"),
    "the mark of PyTorch": ((X, labels(-100)), "labels run from -100 to 2, but the network has 3 classes"),
    "beyond the classes": ((X, labels(3)), "labels run from 0 to 3, but the network has 3 classes"),
    "between classes": ((X, labels(0.5)), "image 4: its label 0.5 is not a class number"),
    "NaN": ((X, labels(NAN)), "image 4: its label nan is not a class number"),
    "too few": ((X, Y[:5]), "6 images need 6 labels"),
    "one-hot": ((X, nn.functional.one_hot(Y)), "6 images need 6 labels, .*for one-hot labels"),
    "names": ((X, list("abcabc")), "labels are class numbers, got list of str"),
    "missing in one batch": ([(X, Y), (X,)], "a batch is|the batch of image 6 has no labels"),
    "complex": ((X, Y.to(torch.complex64)), "labels are class numbers, got .*complex64"),
}

WEIGHTS: dict[str, tuple[str, float]] = {
    "NaN in a weight": ("0.weight", NAN),
    "infinity in a bias": ("4.bias", INF),
    "NaN in a mean": ("1.running_mean", NAN),
    "infinity in a variance": ("1.running_var", INF),
}


def refused(message: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
