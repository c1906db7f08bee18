"""Bad inputs at every door: an error of one line, which says what is wrong and what to do, before anything is done.

Training has its own, in training/test_first_samples.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mst
from bad_input import IMAGES, LABELS, NAN, WEIGHTS, X, Y, broken, changed, network, plain, refused
from mst.neurons import find_sites

QUICK = mst.TrainConfig(epochs=1, warmup_epochs=0, trackers=())


def evaluate(model: Any, data: Any, **options: Any) -> Any:
    return mst.evaluate(model, data, **options)


def simulate(model: Any, data: Any, **options: Any) -> Any:
    return mst.simulate(model, data, **{"num_steps": 3, **options})


SNN = mst.convert(network())
LOSSLESS = mst.convert(network(), "lossless")

# ------------------------------------------------------------------------------------------ evaluate and simulate


@pytest.mark.parametrize("bad", IMAGES)
def test_evaluate_bad_images_are_refused(bad: str) -> None:
    images, message = IMAGES[bad]
    in_memory = isinstance(images, Tensor | np.ndarray)
    refused(message, evaluate, network(), (images, Y[: len(images)]) if in_memory else images)


@pytest.mark.parametrize("bad", IMAGES)
@pytest.mark.parametrize("snn", [SNN, LOSSLESS], ids=["rate", "lossless"])
def test_simulate_bad_images_are_refused(snn: mst.SpikingNetwork, bad: str) -> None:
    images, message = IMAGES[bad]
    refused(message, simulate, snn, images)


@pytest.mark.parametrize("bad", LABELS)
def test_evaluate_and_simulate_bad_labels_are_refused(bad: str) -> None:
    data, message = LABELS[bad]
    refused(message, evaluate, network(), data)
    refused(message, simulate, SNN, data)


@pytest.mark.parametrize("bad", WEIGHTS)
def test_bad_weights_are_refused_at_every_door(bad: str, tmp_path: Path) -> None:
    name, value = WEIGHTS[bad]
    for call in (
        lambda: mst.evaluate(broken(name, value), (X, Y)),
        lambda: mst.convert(broken(name, value)),
        lambda: mst.convert(broken(name, value), "lossless"),
        lambda: mst.set_thresholds(broken(name, value), X),
        lambda: mst.calibrate(broken(name, value), X),
        lambda: mst.quantize(broken(name, value, plain), 4, calibration=X),
        lambda: mst.train(broken(name, value), (X, Y), (X, Y), tmp_path, QUICK, mst.CheckpointInfo()),
    ):
        refused(f"^{name}: it holds (NaN|infinite values); load weights that are finite", call)
    snn = mst.convert(network(), "lossless")
    with torch.no_grad():
        snn.network.state_dict()[name].view(-1)[0] = value
    refused(f"^network.{name}: it holds", simulate, snn, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, r"num_steps \(T\) must be at least 1, got 0"),
        ({"num_steps": -4}, r"num_steps \(T\) must be at least 1, got -4"),
        ({"num_steps": 4.0}, r"num_steps \(T\) must be a whole number, got 4.0"),
        ({"num_steps": True}, r"num_steps \(T\) must be a whole number, got True"),
        ({"num_steps": None}, r"num_steps \(T\) must be a whole number, got None"),
        ({"num_steps": "8"}, r"num_steps \(T\) must be a whole number, got '8'"),
        ({"steps_per_chunk": 1.5}, "steps_per_chunk must be a whole number, got 1.5"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        ({"input_steps": NAN}, "input_steps must be a whole number, got nan"),
        ({"in_slices": "no"}, "in_slices must be True or False, got 'no'"),
        ({"early_exit": 0.5}, "early_exit must be an EarlyExit, got float"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
    ],
    ids=str,
)
def test_simulate_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    refused(message, simulate, SNN, X, **options)


def test_simulate_takes_whole_numbers_of_numpy_and_torch() -> None:
    expected = mst.simulate(SNN, X, 3)
    for steps in (np.int64(3), torch.tensor(3)):
        result = mst.simulate(SNN, X, steps, seed=np.uint8(0), in_slices=np.False_)  # type: ignore[arg-type]
        assert torch.equal(result.logits, expected.logits)
        assert type(result.num_steps) is int


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
        ({"seed": None}, "seed must be a whole number, got None"),
    ],
    ids=str,
)
def test_evaluate_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    refused(message, evaluate, network(), (X, Y), **options)


def test_networks_of_the_other_kind_are_pointed_to_their_door(tmp_path: Path) -> None:
    refused(r"mst.evaluate takes an ANN, got a spiking network; .*mst.simulate\(snn, data", evaluate, SNN, (X, Y))
    refused(
        "takes what mst.convert returns, got Sequential; convert the ANN first, with mst.convert",
        simulate,
        network(),
        X,
    )
    refused("got Sequential; give the whole result, not its .network", simulate, SNN.network, X)
    refused("mst.convert takes an ANN, got a spiking network; .*give it to mst.simulate", mst.convert, SNN)
    refused("mst.quantize takes an ANN, got a spiking network", mst.quantize, SNN)
    refused("Sequential has QCFS sites already", mst.quantize, network(), 4)
    refused("mst.set_thresholds takes an ANN, got a spiking network", mst.set_thresholds, SNN, X)
    refused("Sequential has no QCFS site; quantise it first", mst.set_thresholds, plain(), X)
    refused("mst.calibrate takes an ANN, got a spiking network", mst.calibrate, SNN, X)
    refused("Sequential has no QCFS site; quantise it first", mst.calibrate, plain(), X)
    refused("it is a spiking network; do this with the ANN", mst.mask_spikes, SNN, 0.5)
    refused(
        "nothing was converted: the model has no QCFS activation; call mst.quantize first", mst.convert, nn.Linear(2, 2)
    )
    info = mst.CheckpointInfo()
    refused(
        "mst.train takes an ANN, got a spiking network", mst.train, SNN, (X, Y), (X, Y), tmp_path, QUICK, info
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ calibrate and convert


CALIBRATIONS: dict[str, Callable[[Any], Any]] = {
    "quantize": lambda images: mst.quantize(plain(), 4, calibration=images),
    "set_thresholds": lambda images: mst.set_thresholds(network(), images),
    "calibrate": lambda images: mst.calibrate(network(), images),
    "initial_images": lambda images: mst.convert(network(), "lossless", initial_images=images),
    "example": lambda images: mst.convert(network(), example=images),
}


@pytest.mark.parametrize("bad", [name for name in IMAGES if name != "nothing"])  # None stands for no calibration
@pytest.mark.parametrize("door", CALIBRATIONS)
def test_calibration_bad_images_are_refused(door: str, bad: str) -> None:
    images, message = IMAGES[bad]
    if door == "quantize":  # the network does not know its images yet
        message = message.replace(r"; it takes images \[B, 2, 4, 4\]", "")
        message = {"an axis less": "fails on images|not one row", "an axis more": "fails on images"}.get(bad, message)
    if bad == "none":
        message = "no images? |holds no image|at least one image"
    refused(message, CALIBRATIONS[door], images)


@pytest.mark.parametrize("door", CALIBRATIONS)
def test_calibration_takes_the_forms_of_every_door(door: str) -> None:
    for images in (X.double().numpy(), (X, Y), DataLoader(TensorDataset(X, Y), 4), TensorDataset(X, Y), {"img": X}):
        CALIBRATIONS[door](images)


def test_calibration_that_is_refused_changes_nothing() -> None:
    for calibrate in (mst.calibrate, mst.set_thresholds):
        model = network()
        before = {name: each.clone() for name, each in model.state_dict().items()}
        refused("image 10: it holds NaN", calibrate, model, [X, changed(NAN)])
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        calibrate(model, X * 2)
        assert not torch.equal(find_sites(model)["2"].threshold, before["2.threshold"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coding": 3}, r"unknown coding 3; choose from rate, lossless"),
        ({"coding": ["rate"]}, r"unknown coding \['rate'\]"),
        ({"burst": 0, "coding": "lossless"}, "burst, .* at least 1, got 0"),
        ({"burst": 1.5, "coding": "lossless"}, "burst, .* whole number, at least 1, got 1.5"),
        ({"burst": 2}, "burst has no effect under rate coding"),
        ({"schedule": "fast", "coding": "lossless"}, "unknown schedule 'fast'"),
        ({"initial_images": X}, "initial_images has no effect under rate coding"),
        ({"initial_images": X[:0], "coding": "lossless"}, "initial_images: initial levels need at least one image"),
    ],
    ids=str,
)
def test_convert_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    refused(message, mst.convert, network(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be at least 1, got 0"),
        ({"num_levels": 2.5}, "num_levels must be a whole number, got 2.5"),
        ({"num_levels": True}, "num_levels must be a whole number, got True"),
        ({"percentile": NAN}, "percentile must be a number, got nan"),
        ({"percentile": "99"}, "percentile must be a number, got '99'"),
        ({"percentile": 0}, r"percentile must be in \(0, 100\], got 0"),
        ({"threshold_from": "mean"}, "threshold_from must be one of"),
    ],
    ids=str,
)
def test_quantize_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    refused(message, mst.quantize, plain(), calibration=X, **options)
    assert mst.quantize(plain(), np.int64(4)).network_spec.num_levels == 4  # type: ignore[arg-type, union-attr]
