"""Examples and drawings -> what a network sees, by the door that files of users take."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mst.data import CameraConfig, SimulatedCamera, dataset_info, load_dataset, write_events
from mst.data.events.simulated import DIGITS_CAMERA, FASHION_MNIST_CAMERA
from mst.errors import InputError
from mst.experiments import WatchableNetwork

FASHION_MNIST_FILE = Path(__file__).parent / "fashion-mnist.png"
"""The first test image of each class of Fashion-MNIST side by side (Zalando SE, MIT licence)."""

SIMULATED = {"digits-dvs": ("digits", DIGITS_CAMERA), "fashion-mnist-dvs": ("fashion-mnist", FASHION_MNIST_CAMERA)}
"""Data set of simulated recordings -> its pictures and its camera."""

Picture = NDArray[np.uint8]


def example_pictures(network: WatchableNetwork) -> dict[str, Picture]:
    """Class name -> uint8 [height, width], a test image of that class that comes with the package or with scikit-learn;
    empty for a network trained on something else."""
    return dict(_pictures(_drawn_as(network)[0]))


def takes_drawings(network: WatchableNetwork) -> bool:
    """True if a drawing can be made into an input: of pictures, or of recordings by a simulated camera."""
    return not network.takes_events or _drawn_as(network)[1] is not None


def read_picture(network: WatchableNetwork, picture: Picture) -> Tensor:
    """float32 [C, height, width]: a picture as the network's test images were made; for an event network, what a
    simulated camera that moves in front of it records.

    Args:
        network: the network.
        picture: uint8 [height, width], light on black.

    Raises:
        InputError: an event network for which there is no simulated camera.
    """
    camera = _drawn_as(network)[1]
    with TemporaryDirectory() as folder:
        if not network.takes_events:
            path = Path(folder) / "picture.png"
            Image.fromarray(picture).save(path)
            return network.read(path)
        if camera is None:
            raise InputError("there is no simulated camera for this network", remedy="give it a recording")
        path = Path(folder) / "recording.npz"
        write_events(path, SimulatedCamera(camera, picture.shape).record(picture), camera.sensor, "npz")
        return network.read(path)


def drawing_as_picture(network: WatchableNetwork, drawing: Picture) -> Picture:
    """A drawing, cut out, centred and scaled as the images that the network was trained on.

    Args:
        network: the network.
        drawing: uint8 [height, width], dark on white.

    Returns:
        uint8, light on black, of the size that the network's data set has.

    Raises:
        InputError: nothing has been drawn.
    """
    ink = 255 - drawing
    rows, columns = np.flatnonzero(ink.max(axis=1) > 32), np.flatnonzero(ink.max(axis=0) > 32)
    if not len(rows):
        raise InputError("nothing has been drawn", remedy="draw with the pointer, or choose an example")
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(cut.shape)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    name, _ = _drawn_as(network)
    native = dataset_info(name).native_size if name in ("digits", "fashion-mnist") else None
    height, width = native or network.preprocessing.size
    return np.asarray(Image.fromarray(square).resize((width, height), Image.Resampling.BOX))


def _drawn_as(network: WatchableNetwork) -> tuple[str, CameraConfig | None]:
    """Data set of the pictures, and the camera that sees them, if there is one."""
    name = network.info.dataset or ""
    return SIMULATED.get(name, (name, None))


@cache
def _pictures(name: str) -> tuple[tuple[str, Picture], ...]:
    if name == "fashion-mnist":
        row = np.asarray(Image.open(FASHION_MNIST_FILE).convert("L"))
        names = dataset_info(name).class_names
        return tuple(zip(names, np.split(row, len(names), axis=1), strict=True))
    if name != "digits":
        return ()
    raw, found = load_dataset("digits", img_size=8).test.raw, dict[int, Picture]()
    for index in range(len(raw)):
        picture, label = raw.read(index)
        found.setdefault(label, np.round(np.asarray(picture)[0] * 255).astype(np.uint8))
    return tuple((str(label), found[label]) for label in sorted(found))
