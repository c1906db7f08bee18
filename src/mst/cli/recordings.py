"""What `mst datasets` does with recordings of event cameras: show them, make them from images, download them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mst.data import (
    EVENT_FORMATS,
    BadImages,
    CameraConfig,
    DataSplits,
    EventRepresentation,
    Events,
    Sensor,
    SimulatedCamera,
    StoredRecording,
    UnreadableSampleError,
    load_dataset,
    open_image_files,
    read_sound_events,
    write_events,
)
from mst.files import write_json
from mst.report import event_animation, event_frames, event_scatter

from .common import console, prepare_output, print_files, progress_bar, remark

TONIC_CLASSES = {
    "cifar10-dvs": "CIFAR10DVS", "n-caltech101": "NCALTECH101", "asl-dvs": "ASLDVS", "dvs128-gesture": "DVSGesture",
}  # fmt: skip
"""Data sets that tonic downloads."""


def show_recording(what: str, data_path: Path | None, index: int, sensor: tuple[int, int] | None, output: Path) -> None:
    """Draw one recording: of a data set's test split, or a file.

    Raises:
        ValueError: a data set of images, an index beyond its recordings, or a damaged file.
        FileNotFoundError: no such file.
    """
    events, pixels, title = _one_recording(what, data_path, index, sensor)
    prepare_output(output)
    duration = (int(events["t"][-1]) - int(events["t"][0])) / 1000
    console.print(
        f"{title}: {len(events):,} events in {duration:,.1f} ms on {pixels}; {100 * float(events['p'].mean()):.1f} % "
        f"brighter; columns {events['x'].min()} to {events['x'].max()}, "
        f"rows {events['y'].min()} to {events['y'].max()}",
        highlight=False,
        soft_wrap=True,
    )
    print_files(*draw_recording(events, pixels, title, output))


def draw_recording(events: Events, sensor: Sensor, title: str, output: Path) -> list[Path]:
    """Frames, scatter and animation of a recording; returns the files."""
    return [
        event_frames(events, sensor, output / "event_frames.png", title),
        event_scatter(events, sensor, output / "event_scatter.png", title),
        event_animation(events, sensor, output / "events.gif"),
    ]


def _one_recording(
    what: str, data_path: Path | None, index: int, sensor: tuple[int, int] | None
) -> tuple[Events, Sensor, str]:
    if Path(what).is_file():
        if data_path is not None or index:
            raise ValueError(f"data_path and index have no effect on {what}, which is a file with one recording")
        events, pixels = read_sound_events(Path(what), sensor)
        return events, pixels, Path(what).name
    splits = load_dataset(what, data_path, events=EventRepresentation(sensor=sensor) if sensor else None)
    if splits.info.sensor is None:
        raise ValueError(f"{what} holds images, not recordings of an event camera")
    if not 0 <= index < len(splits.test):
        raise ValueError(
            f"index must be from 0 to {len(splits.test) - 1} for the test recordings of {what}, got {index}"
        )
    return _test_recording(splits, index)


def _test_recording(splits: DataSplits, index: int) -> tuple[Events, Sensor, str]:
    recording, label = splits.test.raw.read(index)
    assert isinstance(recording, StoredRecording)
    assert splits.info.sensor is not None
    names = splits.info.class_names
    title = f"{splits.info.name}, test recording {index}, {names[label] if names else label}"
    how = splits.preprocessing.events
    return recording.events(how is not None and how.drop_bad_events), splits.info.sensor, title


def draw_first_recording(splits: DataSplits, output: Path) -> list[Path]:
    """Pictures of the first test recording that can be read; none of a data set of images."""
    for index in range(len(splits.test) if splits.info.sensor is not None else 0):
        try:
            return draw_recording(*_test_recording(splits, index), output)
        except UnreadableSampleError:
            continue
    return []


def make_events(folder: Path, output: Path, sensor: tuple[int, int], file_format: str, on_bad_image: BadImages) -> None:
    """Write what a simulated camera sees of a user's images, one file each, in their split and classes.

    Raises:
        FileNotFoundError, ValueError: as `open_image_files`; an image that cannot be decoded; an unknown format.
        OSError: a file cannot be written.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--output must lie outside the folder of the images, {folder}")
    made_before = output / "camera.json"
    if not made_before.is_file() and output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds other files; choose a new folder for the recordings")
    opened = open_image_files(folder, in_chans=1)
    config = CameraConfig(*sensor)
    prepare_output(output)
    record = {
        "simulated": True, "images": str(folder), "num_train": len(opened.train), "num_test": len(opened.test),
        "format": file_format, "camera": asdict(config),
    }  # fmt: skip
    if made_before.is_file() and _read_json(made_before) != json.loads(json.dumps(record)):
        raise FileExistsError(f"{output} holds recordings made otherwise ({made_before.name}); choose a new folder")
    write_json(made_before, record)
    cameras: dict[tuple[int, ...], SimulatedCamera] = {}
    skipped = number = total = 0
    with progress_bar("simulating", len(opened.train) + len(opened.test), "images") as advance:
        for part, split in (("train", opened.train), ("test", opened.test)):
            for index in range(len(split)):
                advance(1)
                try:
                    picture, label = split.read(index)
                except UnreadableSampleError as error:
                    if on_bad_image == "fail":
                        raise
                    remark(f"skipped: {error.problem}")
                    skipped += 1
                    continue
                pixels = _fitting(picture, config)
                if pixels.shape not in cameras:
                    cameras[pixels.shape] = SimulatedCamera(config, pixels.shape)
                events = cameras[pixels.shape].record(pixels)
                place = output / part / opened.class_names[label]
                place.mkdir(parents=True, exist_ok=True)
                name = f"{index:06d}-{Path(split.name(index)).stem}{EVENT_FORMATS[file_format].suffixes[0]}"
                write_events(place / name, events, config.sensor, file_format)
                number, total = number + 1, total + len(events)
    states_sensor = file_format in ("dat", "npz")
    option = "" if states_sensor else f" --events.sensor {config.height},{config.width}"
    console.print(
        f"{number:,} recordings with {total / max(1, number):,.0f} events each on {config.sensor}"
        + (f"; {skipped} images could not be read" if skipped else "")
        + f". Train on them with --dataset events:{output}{option}",
        highlight=False,
        soft_wrap=True,
    )


def _read_json(path: Path) -> Any:
    """What a file of ours holds; None if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _fitting(picture: Image.Image, config: CameraConfig) -> np.ndarray:
    """A picture not much larger than the sensor, so that simulating takes no longer than it needs."""
    largest = 2 * max(config.height, config.width)
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.uint8)


def download(name: str, data_path: Path) -> None:
    """Let tonic fetch and unpack a data set.

    Raises:
        ValueError: tonic has no such data set, is not installed, or failed.
    """
    if name not in TONIC_CLASSES:
        raise ValueError(f"only {', '.join(TONIC_CLASSES)} can be downloaded; for others see `mst datasets`")
    try:
        import tonic
    except ImportError as error:
        raise ValueError(
            "downloads of event data are tonic's; install it with pip install masked-spiking-transformer[events]"
        ) from error
    prepare_output(data_path)
    kind = getattr(tonic.datasets, TONIC_CLASSES[name])
    parts = [{"train": True}, {"train": False}] if name == "dvs128-gesture" else [{}]
    try:
        for options in parts:
            kind(save_to=str(data_path), **options)
    except Exception as error:  # tonic raises what its sources of downloads raise
        raise ValueError(
            f"{name} could not be downloaded to {data_path}: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    remark(f"{name} lies in {data_path}; check it with mst datasets --check {name} --data-path {data_path}")
