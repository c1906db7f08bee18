"""A data set by name, opened: both splits as a network is to see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .entry import DatasetInfo, Opened
from .events.augment import EventAugmentConfig
from .events.cache import FrameCache, cache_folder
from .events.representation import EventRepresentation
from .events.transform import EventTransform
from .images.preprocessing import AugmentConfig, ImageTransform, Interpolation, Preprocessing
from .registry import entry_of
from .splits import BadImages, ImageDataset, PartOfSplit, StoredImages, fingerprint

RECORDINGS_FOR_STATISTICS = 256
"""Training recordings, evenly taken, from which the scale of event counts is measured."""


@dataclass(frozen=True)
class DataSplits:
    """A data set ready to use.

    fingerprint: sha256 over images and labels in memory, or over the names of files.
    """

    info: DatasetInfo
    preprocessing: Preprocessing
    train: ImageDataset
    test: ImageDataset
    fingerprint: str

    def with_train_images(self, count: int) -> DataSplits:
        """The same data set with so many training images, evenly taken, always the same ones.

        Raises:
            ValueError: fewer than 1, or more than there are.
        """
        whole = self.train.raw
        if not 1 <= count <= len(whole):
            raise ValueError(f"train_images must be from 1 to the {len(whole)} that {self.info.name} has, got {count}")
        part = PartOfSplit(whole, [index * len(whole) // count for index in range(count)])
        train = ImageDataset(part, self.train.transform, self.train.on_bad_image, replace_bad=True)
        return replace(self, train=train, fingerprint=fingerprint(part, self.test.raw))

    def without_augmentation(self) -> ImageDataset:
        """The training split as the test split is read."""
        return ImageDataset(self.train.raw, self.test.transform, self.train.on_bad_image, replace_bad=True)

    def test_in_slices(self, num_slices: int) -> ImageDataset:
        """The test split with each recording cut into K slices over time: [K, C, height, width].

        Raises:
            ValueError: it holds no recordings, or the network does not see them as one frame.
        """
        if self.info.sensor is None or self.preprocessing.events is None:
            raise ValueError(f"{self.info.name} holds images; only recordings of event cameras have slices over time")
        transform = EventTransform(
            self.info.sensor, self.preprocessing, None, FrameCache(cache_folder()), num_slices=num_slices
        )
        return ImageDataset(self.test.raw, transform, self.test.on_bad_image)


def load_dataset(
    name: str,
    data_path: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    img_size: int | tuple[int, int] | None = None,
    interpolation: Interpolation | None = None,
    crop_ratio: float | None = None,
    augment: AugmentConfig | None = None,
    events: EventRepresentation | None = None,
    event_augment: EventAugmentConfig | None = None,
    on_bad_image: BadImages = "fail",
    cache_images: bool = False,
) -> DataSplits:
    """Open a data set.

    Args:
        name: a key of `DATASETS`; or folder:PATH, one's own images; or hf:NAME, a data set of Hugging Face; or
            events:PATH, one's own recordings of an event camera.
        data_path: where its files lie; None looks in the usual places.
        preprocessing: what the network expects (from its checkpoint). None takes the data set's mean and standard
            deviation, or measures those of the training images.
        img_size: pixels, one number or (height, width), where `preprocessing` is None; None keeps the native size.
        interpolation, crop_ratio: likewise; None is bicubic, and the data set's own ratio. Not for recordings.
        augment: random changes of the training images; None leaves them as they are.
        events: how recordings become frames, where `preprocessing` is None; None: 9 bins, padded to a square.
        event_augment: random changes of the training recordings.
        on_bad_image: "fail" names an image file or recording that cannot be read; "skip" names it in the log and goes
            on with the next (training) or without it (test).
        cache_images: read all image files into memory, still encoded. (Other data sets lie in memory anyway;
            recordings are kept as frames on disk.)

    Raises:
        ValueError: unknown name, damaged files, options without effect, or another number of channels than the network
            expects.
        FileNotFoundError: the files are not there.
    """
    events = None if events == EventRepresentation() else events  # the default asks for nothing
    how = events or (None if preprocessing is None else preprocessing.events)
    entry = entry_of(name, None if how is None else how.sensor)
    opened = entry.open(entry.info, data_path, cache_images)
    if opened.info.sensor is not None:
        _no_effect(name, "recordings of an event camera", {
            "augment (use event_augment)": augment not in (None, AugmentConfig()), "crop_ratio": crop_ratio is not None,
            "interpolation": interpolation is not None, "cache_images": cache_images,
        })  # fmt: skip
        return _load_events(opened, preprocessing, img_size, events, event_augment, on_bad_image)
    _no_effect(name, "images", {
        "events": events is not None,
        "event_augment": event_augment not in (None, EventAugmentConfig()),
    })  # fmt: skip
    info, train, test = opened.info, opened.train, opened.test
    if preprocessing is None:
        if img_size is None and info.native_size is None:
            raise ValueError(f"the images of {name} have no common size; say which size the network takes (img_size)")
        mean, std = info.mean, info.std
        if mean is None or std is None:
            assert isinstance(train, StoredImages)
            mean, std = _statistics(_unit_pixels(train))
        size = info.native_size if img_size is None else img_size
        assert size is not None
        ratio = info.crop_ratio if crop_ratio is None else crop_ratio
        preprocessing = Preprocessing(size, info.in_chans, mean, std, interpolation or "bicubic", ratio)
    if preprocessing.events is not None:
        raise ValueError(f"{name} holds images, the network takes frames of events")
    if preprocessing.in_chans != info.in_chans:
        raise ValueError(f"{name} has {info.in_chans} channel(s), the network takes {preprocessing.in_chans}")
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(train, ImageTransform(info.native_size, preprocessing, augment), on_bad_image, replace_bad=True),
        ImageDataset(test, ImageTransform(info.native_size, preprocessing, None), on_bad_image),
        fingerprint(train, test),
    )


def _load_events(
    opened: Opened,
    preprocessing: Preprocessing | None,
    img_size: int | tuple[int, int] | None,
    events: EventRepresentation | None,
    event_augment: EventAugmentConfig | None,
    on_bad_image: BadImages,
) -> DataSplits:
    info, train, test = opened.info, opened.train, opened.test
    assert info.sensor is not None
    cache = FrameCache(cache_folder())
    if preprocessing is None:
        how = events or EventRepresentation()
        size = how.native_size(info.sensor) if img_size is None else img_size
        raw = Preprocessing(size, how.in_chans, (0.0,) * how.in_chans, (1.0,) * how.in_chans, "nearest", events=how)
        std = _scale(ImageDataset(train, EventTransform(info.sensor, raw, None, cache), on_bad_image, replace_bad=True))
        preprocessing = replace(raw, std=std)
    elif preprocessing.events is None:
        raise ValueError(f"{info.name} holds recordings of an event camera, the network takes images")
    elif events is not None:
        if replace(events, drop_bad_events=False) != replace(preprocessing.events, drop_bad_events=False):
            raise ValueError("how recordings become frames is part of the network's preprocessing, which is given")
        preprocessing = replace(preprocessing, events=events)
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(
            train, EventTransform(info.sensor, preprocessing, event_augment, cache), on_bad_image, replace_bad=True
        ),
        ImageDataset(test, EventTransform(info.sensor, preprocessing, None, cache), on_bad_image),
        fingerprint(train, test),
    )


def _no_effect(name: str, holds: str, given: dict[str, bool]) -> None:
    for option, is_given in given.items():
        if is_given:
            raise ValueError(f"{option} has no effect: {name} holds {holds}")


def _unit_pixels(split: StoredImages) -> Tensor:
    """Pixel values from 0 to 1, float64 [C, ...]."""
    scale = 255.0 if split.images.dtype == torch.uint8 else 1.0
    return split.images.double().div_(scale).transpose(0, 1).flatten(1)


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each row."""
    return (
        tuple(round(v, 6) for v in pixels.mean(dim=1).tolist()),
        tuple(round(v, 6) for v in pixels.std(dim=1).tolist()),
    )


def _scale(frames: ImageDataset) -> tuple[float, ...]:
    """Standard deviation of each channel over some of the training recordings; 1 where nothing ever happens.

    Counts are divided by it, but no mean is taken from them: no event stays 0.
    """
    count = min(RECORDINGS_FOR_STATISTICS, len(frames))
    sums = torch.stack([
        torch.stack([image.sum(dim=(1, 2)), image.square().sum(dim=(1, 2))])
        for image in _images(frames, (index * len(frames) // count for index in range(count)))
    ]).sum(dim=0)  # fmt: skip
    pixels = count * frames[0][0][0].numel()
    variance = (sums[1] - sums[0].square() / pixels) / max(1, pixels - 1)
    return tuple(round(value, 6) if value > 1e-5 else 1.0 for value in variance.clamp(min=0).sqrt().tolist())


def _images(frames: ImageDataset, indices: Iterable[int]) -> Iterable[Tensor]:
    for index in indices:
        yield frames[index][0].double()
