"""Cards of the trained networks in this folder, and their files, whose digests are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mst.errors import InputError, MissingFileError
from mst.text import suggestion

_FOLDER = Path(__file__).parent

_WEIGHTS = _FOLDER / "weights"

_CARDS = _FOLDER / "cards.yaml"


@dataclass(frozen=True)
class ZooRun:
    """One simulation of a network, and what it gave."""

    options: Mapping[str, Any]
    """Options of `mst measure`: time_steps, coding, burst, schedule."""

    images: int
    """Test images: the first ones of the data set."""

    ann_accuracy: float
    """Accuracy of the quantised ANN on these images, a fraction."""

    snn_accuracy: float
    """Accuracy of the SNN after the last step, a fraction."""

    steps: float
    """Mean number of steps of an image."""

    spikes_per_neuron: float
    """Spikes per neuron and image."""

    energy_ratio: float
    """Energy of maps and products, in units of that of the float32 ANN (45 nm, operations only)."""


@dataclass(frozen=True)
class ZooCard:
    """What a user must know about a trained network before using it."""

    name: str
    """Name after `zoo:`."""

    summary: str
    """One line."""

    dataset: str
    """Data set of training and test."""

    recipe: tuple[str, ...]
    """Commands that make the network."""

    accuracy: float
    """Accuracy of the quantised ANN on all test images, a fraction."""

    runs: tuple[ZooRun, ...]
    """Simulations on the first test images; the last is the cheapest."""

    limits: str
    """What the figures do not tell."""

    sha256: str
    """Digest of the file, in hexadecimal digits."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return (_WEIGHTS / f"{self.name}.safetensors").stat().st_size


@cache
def cards() -> Mapping[str, ZooCard]:
    """Name -> card, in the order of the list."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(_CARDS.read_text(encoding="utf-8"))
    return {name: _card(name, entry) for name, entry in content.items()}


def _card(name: str, entry: dict[str, Any]) -> ZooCard:
    runs = tuple(ZooRun(**run) for run in entry.pop("runs"))
    return ZooCard(name=name, runs=runs, recipe=tuple(entry.pop("recipe")), **entry)


def zoo_names() -> list[str]:
    """Names of the networks."""
    return list(cards())


def card(name: str) -> ZooCard:
    """The card of a network.

    Raises:
        MissingFileError: no network has this name.
    """
    if name not in cards():
        raise MissingFileError(
            f"no network {name!r} comes with mst", remedy=suggestion(name, zoo_names(), "`mst zoo` lists them")
        )
    return cards()[name]


@cache
def zoo_file(name: str) -> Path:
    """The file of a network, after its digest has been checked.

    Raises:
        MissingFileError: no network has this name, or its file is missing.
        InputError: the file is not the one that the card describes.
    """
    expected = card(name).sha256
    path = _WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="install mst again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise InputError(
            f"the file has been changed: its SHA-256 digest is {found}, the card says {expected}",
            where=str(path), remedy="install mst again",
        )  # fmt: skip
    return path
