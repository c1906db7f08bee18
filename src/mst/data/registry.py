"""The registry of data sets: one line for each, which names the entry in the data set's own file."""

from __future__ import annotations

from collections.abc import Callable

from mst.errors import InputError
from mst.text import suggestion

from .entry import DatasetEntry, DatasetInfo
from .events.gestures import DVS128_GESTURE
from .events.own import EVENTS, OWN_EVENTS, own_events
from .events.recorded import ACTION_RECOGNITION, ASL_DVS, CIFAR10_DVS, N_CALTECH101, N_CARS
from .events.representation import EventRepresentation
from .events.simulated import DIGITS_DVS, FASHION_MNIST_DVS
from .images.cifar import CIFAR10, CIFAR100
from .images.digits import DIGITS
from .images.fashion_mnist import FASHION_MNIST
from .images.files import HUGGING_FACE
from .images.imagenet import IMAGENET
from .images.own import FOLDER, HUGGING_FACE_IMAGES, OWN_IMAGES, hugging_face, own_images

DATASETS: dict[str, DatasetEntry] = {}
"""Every data set by its name, in the order in which they are listed."""

OWN_DATASETS: dict[str, Callable[[str, EventRepresentation], DatasetEntry]] = {
    FOLDER: own_images,
    EVENTS: own_events,
    HUGGING_FACE: hugging_face,
}
"""Prefix of a name such as folder:PATH -> function (name, how recordings become frames) that makes its entry."""

OWN_DATASETS_INFO = (OWN_IMAGES, OWN_EVENTS, HUGGING_FACE_IMAGES)
"""The same, for people."""


def register_dataset(entry: DatasetEntry) -> DatasetEntry:
    """Make a data set known to `load_dataset` and to the command line by its name.

    Args:
        entry: the data set.

    Returns:
        The entry.

    Raises:
        InputError: another data set has that name, or the name begins like folder:PATH.
    """
    name = entry.info.name
    if name in DATASETS and DATASETS[name] is not entry:
        raise InputError(f"there is a data set {name!r} already", remedy="choose another name")
    if not name or any(name.startswith(prefix) for prefix in OWN_DATASETS):
        raise InputError(f"{name!r} cannot be the name of a data set")
    DATASETS[name] = entry
    return entry


register_dataset(DIGITS)
register_dataset(FASHION_MNIST)
register_dataset(CIFAR10)
register_dataset(CIFAR100)
register_dataset(IMAGENET)
register_dataset(DIGITS_DVS)
register_dataset(FASHION_MNIST_DVS)
register_dataset(CIFAR10_DVS)
register_dataset(N_CALTECH101)
register_dataset(N_CARS)
register_dataset(ASL_DVS)
register_dataset(ACTION_RECOGNITION)
register_dataset(DVS128_GESTURE)


def dataset_info(name: str) -> DatasetInfo:
    """Facts about the data set `name`. Those of folder:PATH, events:PATH and hf:NAME are opened for it.

    Raises:
        MissingFileError: the folder does not exist.
        InputError: unknown name; suggests the nearest.
    """
    found = entry_of(name)
    return found.info if found.info.num_classes else found.open(found.info, None, False).info


def entry_of(name: str, how: EventRepresentation = EventRepresentation()) -> DatasetEntry:  # noqa: B008  frozen
    """The entry of a name, or one made for folder:PATH, events:PATH or hf:NAME.

    Args:
        name: name of the data set.
        how: sensor and camera for events:PATH whose files do not state them.

    Raises:
        InputError: unknown name; suggests the nearest. Or a sensor or a camera for a data set that has its own.
    """
    for prefix, make in OWN_DATASETS.items():
        if name.startswith(prefix):
            return make(name, how)
    if name not in DATASETS:
        known = sorted(DATASETS)
        own = "folder:PATH and hf:NAME for images, events:PATH for your own recordings"
        remedy = suggestion(name, known, f"known: {', '.join(known)}; and {own}")
        raise InputError(f"unknown data set {name!r}", remedy=remedy)
    for option, given in (("the sensor's size", how.sensor), ("the camera", how.camera)):
        if given is not None:
            raise InputError(
                f"{option} has no effect on {name}, which has its own; it is for your own recordings (events:PATH)"
            )
    return DATASETS[name]
