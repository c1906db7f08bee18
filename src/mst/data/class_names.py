"""Classes of a data set and of a network, matched by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mst.errors import InputError
from mst.text import note

from .folders import some
from .splits import RawSplit, Sample, rows_of


@dataclass(frozen=True)
class RelabelledSplit:
    """A split whose labels are those of a network."""

    whole: RawSplit
    """The split as it is stored."""

    labels: Sequence[int]
    """Label of the split -> label of the network."""

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: int) -> tuple[Sample, int]:
        """Sample and label of the network."""
        sample, label = self.whole.read(index)
        return sample, self.labels[label]

    def read_rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """See `rows_of`."""
        rows = rows_of(self.whole, indices)
        return None if rows is None else (rows[0], torch.as_tensor(self.labels)[rows[1]])

    def update_fingerprint(self, digest: hashlib._Hash) -> None:
        """Feed the split as it is stored into `digest`."""
        self.whole.update_fingerprint(digest)


def match_classes(name: str, classes: tuple[str, ...], trained: tuple[str, ...]) -> tuple[int, ...] | None:
    """Label of a data set -> label of a network, by the names of the classes.

    Args:
        name: of the data set, for errors and notes.
        classes: its classes, in the order of their labels.
        trained: those of the network, in the order of its logits.

    Returns:
        None if the labels are the same, or if the names of either are not known. A data set may have some of the
        network's classes only.

    Raises:
        InputError: the data set has classes that the network does not have, or several of one name.
    """
    if not classes or not trained or classes == trained:
        return None
    unknown = [each for each in classes if each not in trained]
    if unknown:
        missing = [each for each in trained if each not in classes]
        raise InputError(
            f"{len(unknown)} of its {len(classes)} classes are not among those that the network was trained on: "
            f"{some(unknown)}; the network's others are {some(missing) or 'none'}",
            where=name,
            remedy="name a data set of the same classes, or rename the folders of its classes as the network's are",
        )
    if len(set(classes)) < len(classes) or len(set(trained)) < len(trained):
        raise InputError("several classes have one name, and their order is not the network's", where=name)
    few = f"; it has {len(classes)} of the network's {len(trained)}" if len(classes) < len(trained) else ""
    note(f"{name}: its labels are matched to the network's by the names of the classes{few}")
    return tuple(trained.index(each) for each in classes)


def check_class_names(trained: tuple[str, ...], data: Any) -> None:
    """Check that the labels of a data set mean the classes that a network was trained on, where both are known.

    Args:
        trained: names of the network's classes; empty if they are not known.
        data: anything that `mst.evaluate` takes; the names are known of what `load_dataset` opened.

    Raises:
        InputError: they differ.
    """
    while not hasattr(data, "class_names") and hasattr(data, "dataset"):
        data = data.dataset
    classes = getattr(data, "class_names", ())
    if trained and isinstance(classes, tuple) and classes and classes != trained:
        raise InputError(
            f"the labels of the data set mean other classes ({some(classes)}) than those that the network was trained "
            f"on ({some(trained)})",
            remedy="open it with mst.load_dataset(..., class_names=mst.read_checkpoint_info(path).class_names), which "
            "matches the labels by name; or, if the network has been trained on these since it was loaded, set "
            "model.trained_class_names = ()",
        )
