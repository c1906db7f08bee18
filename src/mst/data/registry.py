"""The registry of data sets: what a name stands for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from mst.text import nearest_name

from .entry import DatasetEntry, DatasetInfo
from .events.entries import EVENT_DATASETS, EVENT_FOLDER, open_own_events
from .images.entries import IMAGE_DATASETS, IMAGE_FOLDER, find_own, open_own_images
from .images.files import HUGGING_FACE

FOLDER = "folder:"
"""Prefix of a data set that is a user's own folder of images."""

EVENTS = "events:"
"""Prefix of a data set that is a user's own folder of recordings."""

DATASETS: dict[str, DatasetEntry] = {**IMAGE_DATASETS, **EVENT_DATASETS}


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name` without its files; those of folder:PATH, events:PATH and hf:NAME are opened.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: unknown name; suggests the nearest.
    """
    found = entry_of(name)
    return found.info if found.info.num_classes else found.open(found.info, None, False).info


def entry_of(name: str, sensor: tuple[int, int] | None = None) -> DatasetEntry:
    """The entry of a name, or one made for a folder of one's own.

    Args:
        sensor: (height, width) for events:PATH whose files do not state it.

    Raises:
        ValueError: unknown name; suggests the nearest.
    """
    for prefix, info, opener in (
        (FOLDER, IMAGE_FOLDER, open_own_images),
        (HUGGING_FACE, IMAGE_FOLDER, open_own_images),
        (EVENTS, EVENT_FOLDER, partial(open_own_events, sensor)),
    ):
        if name.startswith(prefix):
            root = Path(name if prefix == HUGGING_FACE else name[len(prefix) :]).expanduser()
            return DatasetEntry(replace(info, name=name), partial(opener, root), partial(find_own, root))
    if sensor is not None and name in DATASETS:
        raise ValueError(
            f"the sensor's size has no effect on {name}, which has its own; it is for recordings of yours (events:PATH)"
        )
    if name not in DATASETS:
        known = sorted(DATASETS)
        raise ValueError(
            f"unknown data set {name!r}{nearest_name(name, known)} Known: {', '.join(known)}; "
            "and folder:PATH and hf:NAME for images, events:PATH for recordings of your own"
        )
    return DATASETS[name]
