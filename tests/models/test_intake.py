"""Networks and their images, looked at before anything is computed."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.models import NetworkInput, ann_of, check_answers, check_weights, logits_of

X = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
NAN, INF = float("nan"), float("inf")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)]
    return mst.quantize(nn.Sequential(*layers), 4, calibration=X).eval()


@pytest.mark.parametrize("value", [NAN, INF], ids=str)
@pytest.mark.parametrize("name", ["0.weight", "1.weight", "1.running_mean", "1.running_var", "2.threshold", "4.bias"])
def test_check_weights_names_what_is_not_finite(name: str, value: float) -> None:
    model = network()
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] = value
    what = "NaN" if value != value else "infinite values"
    with pytest.raises(InputError, match=f"^{name}: it holds {what}; load weights that are finite"):
        check_weights(model)


def test_check_weights_allows_what_may_be_meant() -> None:
    model = network()
    model.register_buffer("mask", torch.tensor([0.0, -INF]))
    model.register_buffer("index", torch.arange(3))
    model.append(nn.LazyLinear(2))
    check_weights(model)
    model.register_buffer("table", torch.tensor([NAN]))
    with pytest.raises(InputError, match="table: it holds NaN"):
        check_weights(model)


def test_check_weights_refuses_variances_below_zero_and_weights_without_values() -> None:
    model = network()
    model[1].running_var[0] = -1.0
    with pytest.raises(InputError, match="1.running_var: it holds a variance below 0"):
        check_weights(model)
    with pytest.raises(InputError, match="0.weight: it is on the meta device, without values; load the weights first"):
        check_weights(network().to("meta"))


def test_ann_of_refuses_what_is_not_an_ann() -> None:
    model = network()
    assert ann_of(model, "f", "g") is model
    for other, message in (
        (mst.convert(model), "f takes an ANN, got a spiking network; g"),
        (mst.convert(model).network, "f takes an ANN, got a spiking network; g"),
        (model.state_dict(), "f takes a network, an nn.Module, got OrderedDict; mst.create_model"),
        (None, "got NoneType"),
        ("net.pth", "got str"),
        (type(model), "got type"),
    ):
        with pytest.raises(InputError, match=message):
            ann_of(other, "f", "g")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.int64, torch.bool])
def test_network_input_has_the_format_of_the_network(dtype: torch.dtype) -> None:
    images = (X * 2).to(dtype)
    assert torch.equal(NetworkInput(network()).take(images), images.float())
    assert NetworkInput(network().double()).take(images).dtype is torch.float64


def test_network_input_beyond_the_format_of_the_network_is_refused() -> None:
    images = X.clone()
    images[1, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match="image 8: its largest value is beyond the range of the network's float16"):
        NetworkInput(network().half()).take(images, first_image=7)


def test_network_input_warns_of_the_range_of_uint8_once(caplog: pytest.LogCaptureFixture) -> None:
    intake = NetworkInput(network())
    with caplog.at_level(logging.WARNING):
        intake.take(X)
        assert not caplog.records
        for _ in range(2):
            intake.take(X.to(torch.uint8))
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "the images are uint8 and are taken as they are, from 0 to 255"
    ]


def test_network_input_of_another_number_of_axes_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"takes images \[B, 2, 4, 4\], got \[2, 4, 4\]; add the axis of images: images\["
    ):
        NetworkInput(network()).take(X[0])
    with pytest.raises(InputError, match=r"takes images \[B, 2, 4, 4\], got \[1, 3, 2, 4, 4\]"):
        NetworkInput(network()).take(X[None])


def test_shown_names_the_shape_that_a_network_does_not_take() -> None:
    for model, remedy in (
        (network(), r"it takes images \[B, 2, 4, 4\]"),
        (nn.Linear(3, 2), "check their size, channels"),
    ):
        intake = NetworkInput(model)
        with (
            pytest.raises(
                InputError, match=rf"fails on images \[3, 2, 5, 5\] of float32 on cpu: .*; {remedy}"
            ) as caught,
            intake.shown(images := torch.zeros(3, 2, 5, 5)),
        ):
            model(images)
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_shown_passes_on_errors_that_are_not_about_images() -> None:
    intake = NetworkInput(network())
    for error in (InputError("mine"), torch.OutOfMemoryError("full"), KeyError("a bug")):
        with pytest.raises(type(error)) as caught, intake.shown(X):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"logits": X}, "Identity: it returns a dict of 'logits'"),
        ((X, X), "it returns a tuple of Tensor, Tensor"),
        (X, r"it returns \[3, 2, 4, 4\] for 3 images, not logits \[B, classes\]; end the network in one row"),
        (X.flatten(0, 1).flatten(1), r"it returns \[6, 16\] for 3 images, not one row for each; check that images"),
        (torch.tensor(1.0), r"it returns \[\] for 3 images"),
    ],
    ids=range(5),
)
def test_logits_of_another_form_are_refused(output: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        logits_of(output, nn.Identity(), 3)


def test_check_answers_names_the_image_without_an_answer() -> None:
    logits = torch.zeros(3, 4)
    logits[0, 1] = -INF
    check_answers(logits)
    logits[2, 0] = NAN
    with pytest.raises(InputError, match="image 2: its logits are NaN, although image and weights are finite; look in"):
        check_answers(logits)


class Normalised(nn.Module):
    """Divides an image by its largest value, which is 0 for a black one."""

    def __init__(self) -> None:
        super().__init__()
        self.site, self.head = mst.QCFS(4, 1.0), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.site(x / x.amax(dim=1, keepdim=True)))
        return y


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_nan_that_arises_inside_is_refused(coding: str) -> None:
    model, images = Normalised(), torch.eye(4)
    snn = mst.convert(model, coding, example=images)
    assert mst.simulate(snn, images, 4).num_images == 4
    images[1] = 0.0
    with pytest.raises(InputError, match="image 1: its logits are NaN"):
        mst.evaluate(model, (images, torch.zeros(4)))
    with pytest.raises(InputError, match="site 'site': its neurons have received NaN"):
        mst.simulate(snn, images, 4)
    if coding == "lossless":  # the image leaves at once, as nothing is missing to NaN
        with pytest.raises(InputError, match="site 'site': its neurons have received NaN"):
            mst.simulate(snn, images, 8, drop_settled=True)
    with pytest.raises(InputError, match="site 'site': it receives NaN or infinite values"):
        mst.set_thresholds(model, images)
