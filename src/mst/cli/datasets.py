"""`mst datasets`: which data sets there are, and whether their files are here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from mst.data import (
    DATASETS,
    DEFAULT_DATA_PATH,
    EVENTS,
    BadImages,
    DatasetInfo,
    DataSplits,
    EventRepresentation,
    StoredRecording,
    UnreadableSampleError,
    cache_folder,
    cache_size,
    dataset_info,
    load_dataset,
)

from .common import console, progress_bar
from .recordings import download as fetch
from .recordings import make_events, show_recording

DEFAULT_SENSOR = (64, 64)
EVENTS_WHERE = "your own recordings of an event camera: one folder a class, or train/ and test/ with such folders"
ANY_SIZE = 224
"""Side in pixels to which images of many sizes are brought when a data set is opened only to be checked."""


def datasets(
    check: str | None = None,
    show: str | None = None,
    events_from: Path | None = None,
    download: str | None = None,
    data_path: Path | None = None,
    decode: bool = False,
    index: int = 0,
    sensor: tuple[int, int] | None = None,
    file_format: Literal["dat", "npz", "bin", "aedat3"] = "dat",
    on_bad_image: BadImages = "fail",
    output: Path = Path("runs/events"),
) -> None:
    """List the data sets, where their files must lie and whether they are there; or do one of four things with one.

    mst datasets check NAME: open it and count it. mst datasets show NAME: draw a recording of an event camera as
    frames, in space and time, and as an animation. mst datasets events-from FOLDER: make recordings of your own images,
    as a simulated event camera sees them. mst datasets download NAME: fetch event data with tonic.

    Example: mst datasets check fashion-mnist --data-path ~/data
    Example: mst datasets show digits-dvs --index 3
    Example: mst datasets events-from ~/photos --sensor 64,64 --output ~/photos-dvs

    Args:
        check: name of a data set; folder:PATH for your own images, events:PATH for your own recordings.
        show: name of an event data set, or the file of a recording.
        events_from: a folder of images, one folder a class, or train/ and val/ with such folders. What is made of them
            is simulated, no recording.
        download: name of an event data set that tonic has.
        data_path: folder with the files; without it the usual places are looked through.
        decode: with check: read every image or recording, and name those that are damaged.
        index: with show: which test recording.
        sensor: with show and check: HEIGHT,WIDTH in pixels, where the files do not tell; with events-from: of the
            simulated camera, 64,64 by default.
        file_format: with events-from: of the files written.
        on_bad_image: with events-from: at an image that cannot be decoded: fail, or skip it and say so.
        output: with show and events-from: folder for what is written.
    """
    settings = dict(locals())
    chosen = [name for name in ("check", "show", "events_from", "download") if settings[name] is not None]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)}: one at a time")
    _see_effect(settings, chosen[0] if chosen else "")
    if check is not None:
        _check(check, data_path, decode, sensor)
    elif show is not None:
        show_recording(show, data_path, index, sensor, output)
    elif events_from is not None:
        make_events(events_from, output, sensor or DEFAULT_SENSOR, file_format, on_bad_image)
    elif download is not None:
        fetch(download, data_path or DEFAULT_DATA_PATH)
    else:
        _list(data_path)


_NEEDS = {
    "decode": ("check",), "data_path": ("", "check", "show", "download"), "index": ("show",),
    "sensor": ("check", "show", "events_from"), "file_format": ("events_from",), "on_bad_image": ("events_from",),
    "output": ("show", "events_from"),
}  # fmt: skip
"""Option -> the actions that it belongs to."""


def _see_effect(settings: Mapping[str, Any], chosen: str) -> None:
    """See that no option was given that has no effect.

    Raises:
        ValueError: one was.
    """
    defaults = inspect.signature(datasets).parameters
    for name, actions in _NEEDS.items():
        if settings[name] != defaults[name].default and chosen not in actions:
            raise ValueError(f"{name} has no effect without {' or '.join(action for action in actions if action)}")


def _list(data_path: Path | None) -> None:
    table = Table(title="Data sets")
    for heading in ("name", "images\n(train + test)", "size (px)", "classes", "here?", "where from"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, entry in DATASETS.items():
        info, place = entry.info, entry.find(data_path)
        table.add_row(
            name,
            f"{info.num_train:,} + {info.num_test:,}",
            _size(info),
            str(info.num_classes),
            f"yes: {place}" if place else "no",
            info.where,
        )
    table.add_row(
        "folder:PATH",
        "",
        "3 x any",
        "",
        "",
        "your own images: one folder a class, or train/ and val/ with such folders",
    )
    table.add_row("events:PATH", "", "events", "", "", EVENTS_WHERE)
    table.add_row("hf:NAME", "", "3 x any", "", "", "a data set of Hugging Face, or a folder in its format")
    console.print(table)
    folder = cache_folder()
    if folder is not None and folder.is_dir():
        entries, size = cache_size(folder)
        console.print(f"Cached frames of events: {entries:,} in {folder}, {size / 2**20:,.0f} MiB", highlight=False)


def _size(info: DatasetInfo) -> str:
    if info.sensor is not None:
        return f"events, {info.sensor.height} x {info.sensor.width}"
    size = "any" if info.native_size is None else f"{info.native_size[0]} x {info.native_size[1]}"
    return f"{info.in_chans} x {size}"


def _check(name: str, data_path: Path | None, decode: bool, sensor: tuple[int, int] | None) -> None:
    own_events = name.startswith(EVENTS)
    info = None if own_events else dataset_info(name)
    size = ANY_SIZE if info is not None and info.sensor is None and info.native_size is None else None
    events = EventRepresentation(sensor=sensor)
    splits = load_dataset(name, data_path, img_size=size, events=events, on_bad_image="skip")
    info = splits.info
    kind = "images" if info.sensor is None else "recordings"
    console.print(
        f"{name}: {len(splits.train):,} training and {len(splits.test):,} test {kind} of {_size(info)} px, "
        f"{info.num_classes} classes\n"
        f"mean {splits.preprocessing.mean}, std {splits.preprocessing.std}\n"
        f"sha256 {splits.fingerprint}",
        highlight=False,
    )
    expected = DATASETS[name].info if name in DATASETS else info
    if expected.num_train + expected.num_test != len(splits.train) + len(splits.test):
        console.print(
            f"note: the full data set has {expected.num_train + expected.num_test:,} {kind} in "
            f"{expected.num_classes} classes",
            highlight=False,
        )
    if decode:
        damaged = _decode(splits)
        console.print(f"read all {kind}: {len(damaged)} damaged")
        if damaged:
            raise ValueError(f"{len(damaged)} of the {kind} of {name} are damaged: {'; '.join(damaged[:20])}")


def _decode(splits: DataSplits) -> list[str]:
    """Read every image; returns what is wrong with those that cannot be read."""
    damaged = []
    with progress_bar("decoding", len(splits.train) + len(splits.test), "images") as advance:
        for split in (splits.train, splits.test):
            for index in range(len(split)):
                try:
                    sample, _ = split.raw.read(index)
                    if isinstance(sample, StoredRecording):
                        sample.events()
                except UnreadableSampleError as error:
                    damaged.append(error.problem)
                advance(1)
    return damaged
