"""Open a data set by name: both splits as a network sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mst.errors import InputError
from mst.options import with_changes

from .class_names import RelabelledSplit, match_classes
from .entry import DatasetInfo, OpenedDataset
from .events.augment import EventAugmentConfig
from .events.cache import FrameCache, cache_folder
from .events.representation import EventRepresentation
from .events.transform import EventTransform
from .images.preprocessing import AugmentConfig, Preprocessing
from .options import DataOptions
from .registry import entry_of
from .splits import ImageDataset, PartOfSplit, StoredImages, fingerprint

RECORDINGS_FOR_STATISTICS = 256
"""Training recordings, evenly spaced, on which the scale of event counts is measured."""


@dataclass(frozen=True)
class DataSplits:
    """A data set ready to use."""

    info: DatasetInfo
    """Facts about it."""

    preprocessing: Preprocessing
    """Steps that turn its images into the input of a network."""

    train: ImageDataset
    """Training split, with random changes if there are any."""

    test: ImageDataset
    """Test split."""

    fingerprint: str
    """sha256 over images and labels in memory, or over the names of files."""

    def with_train_images(self, count: int) -> DataSplits:
        """The same data set with only `count` training images, evenly spaced, always the same ones.

        Raises:
            InputError: fewer than 1, or more than there are.
        """
        whole = self.train.raw
        if not 1 <= count <= len(whole):
            raise InputError(f"train_images must be from 1 to the {len(whole)} that {self.info.name} has, got {count}")
        part = PartOfSplit(whole, [index * len(whole) // count for index in range(count)])
        train = ImageDataset(part, self.train.transform, self.train.on_bad_image, True, self.info.class_names)
        return replace(self, train=train, fingerprint=fingerprint(part, self.test.raw))

    def with_classes(self, trained: tuple[str, ...], same_data: bool = False) -> DataSplits:
        """The same data set with the labels of a network that was trained on classes of these names.

        Args:
            trained: the network's classes, in the order of its logits; empty if they are not known.
            same_data: the network was trained on this data set, so that labels mean the same where every class has
                another name (ImageNet's classes are numbers, codes or words, depending on the form of its files).

        Raises:
            InputError: classes that the network does not have.
        """
        classes = self.info.class_names
        if same_data and trained and classes and not set(trained) & set(classes):
            classes = trained if len(trained) == len(classes) else ()
            labels: Sequence[int] | None = range(len(classes)) if classes else None
        else:
            labels = match_classes(self.info.name, classes, trained)
        if labels is None:
            return self
        info = replace(self.info, class_names=trained, num_classes=len(trained))
        train, test = (
            ImageDataset(
                RelabelledSplit(each.raw, labels), each.transform, each.on_bad_image, each.replace_bad, trained
            )
            for each in (self.train, self.test)
        )
        return replace(self, info=info, train=train, test=test)

    def without_augmentation(self) -> ImageDataset:
        """The training split with the transform of the test split."""
        return ImageDataset(self.train.raw, self.test.transform, self.train.on_bad_image, True, self.info.class_names)

    def test_in_slices(self, num_slices: int) -> ImageDataset:
        """The test split with each recording cut into K slices over time: [K, C, height, width].

        Raises:
            InputError: a data set of images, or a network that does not see a recording as one frame.
        """
        if self.info.sensor is None or self.preprocessing.events is None:
            raise InputError(f"{self.info.name} holds images; only recordings of event cameras have slices over time")
        transform = EventTransform(
            self.info.sensor, self.preprocessing, None, FrameCache(cache_folder()), num_slices=num_slices
        )
        return ImageDataset(self.test.raw, transform, self.test.on_bad_image, class_names=self.info.class_names)


def load_dataset(
    dataset: str | DataOptions,
    data_path: Path | str | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: tuple[str, ...] = (),
    **options: Any,
) -> DataSplits:
    """Open a data set: `load_dataset("digits")`, `load_dataset("imagenet", "/data/imagenet", img_size=224)`.

    Args:
        dataset: name of the data set, see `DataOptions.dataset`; or all options at once.
        data_path: folder with its files; None searches the usual places.
        preprocessing: what the network expects (from its checkpoint). None takes the data set's mean and standard
            deviation, or measures those of the training images. If it is given, img_size, interpolation and crop_ratio
            have no effect, and of `events` only drop_bad_events may differ from it.
        class_names: classes of the network, in the order of its logits (from its checkpoint). Labels are matched to
            them by name where the data set's classes are known and their order differs, or where it has fewer.
        options: other fields of `DataOptions`, by name.

    Raises:
        InputError: unknown name or option, damaged files, options without effect, another number of channels than the
            network expects, or classes that it does not have.
        MissingFileError: the files are not there.
    """
    given = dataset if isinstance(dataset, DataOptions) else DataOptions(dataset)
    if data_path is not None:
        options["data_path"] = Path(data_path)
    given = with_changes(given, options)
    events = None if given.events == EventRepresentation() else given.events  # the default asks for nothing
    how = events or (None if preprocessing is None else preprocessing.events)
    entry = entry_of(given.dataset, how or EventRepresentation())
    opened = entry.open(entry.info, given.data_path, given.cache_images)
    if opened.info.sensor is None:
        splits = _load_images(opened, preprocessing, given, events)
    else:
        splits = _load_events(opened, preprocessing, given, events)
    splits = splits.with_classes(class_names)
    return splits if given.train_images is None else splits.with_train_images(given.train_images)


def _load_images(
    opened: OpenedDataset, preprocessing: Preprocessing | None, given: DataOptions, events: EventRepresentation | None
) -> DataSplits:
    from .images.transform import ImageTransform  # its torchvision.transforms.v2 is needed here only

    name = given.dataset
    _no_effect(name, "images", {
        "events": events is not None, "event_augment": given.event_augment != EventAugmentConfig(),
    })  # fmt: skip
    info, train, test = opened.info, opened.train, opened.test
    if preprocessing is None:
        preprocessing = _image_preprocessing(opened, given)
    if preprocessing.events is not None:
        raise InputError(f"{name} holds images, the network takes frames of events")
    if preprocessing.in_chans != info.in_chans:
        raise InputError(f"{name} has {info.in_chans} channel(s), the network takes {preprocessing.in_chans}")
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(
            train,
            ImageTransform(info.native_size, preprocessing, given.augment),
            given.on_bad_image,
            True,
            info.class_names,
        ),
        ImageDataset(
            test,
            ImageTransform(info.native_size, preprocessing, None),
            given.on_bad_image,
            class_names=info.class_names,
        ),
        fingerprint(train, test),
    )


def _image_preprocessing(opened: OpenedDataset, given: DataOptions) -> Preprocessing:
    """Preprocessing that the options ask for; mean and standard deviation are known or measured."""
    info, train = opened.info, opened.train
    size = info.native_size if given.img_size is None else given.img_size
    if size is None:
        raise InputError(
            f"the images of {given.dataset} have no common size", remedy="choose the network's input size with img_size"
        )
    mean, std = info.mean, info.std
    if mean is None or std is None:
        assert isinstance(train, StoredImages)
        mean, std = _statistics(_unit_pixels(train))
    ratio = info.crop_ratio if given.crop_ratio is None else given.crop_ratio
    return Preprocessing(size, info.in_chans, mean, std, given.interpolation or "bicubic", ratio)


def _load_events(
    opened: OpenedDataset, preprocessing: Preprocessing | None, given: DataOptions, events: EventRepresentation | None
) -> DataSplits:
    _no_effect(given.dataset, "recordings of an event camera", {
        "augment (use event_augment)": given.augment != AugmentConfig(), "crop_ratio": given.crop_ratio is not None,
        "interpolation": given.interpolation is not None, "cache_images": given.cache_images,
    })  # fmt: skip
    info, train, test = opened.info, opened.train, opened.test
    assert info.sensor is not None
    cache = FrameCache(cache_folder())
    if preprocessing is None:
        how = events or EventRepresentation()
        size = how.native_size(info.sensor) if given.img_size is None else given.img_size
        raw = Preprocessing(size, how.in_chans, (0.0,) * how.in_chans, (1.0,) * how.in_chans, "nearest", events=how)
        unscaled = EventTransform(info.sensor, raw, None, cache)
        preprocessing = replace(raw, std=_scale(ImageDataset(train, unscaled, given.on_bad_image, replace_bad=True)))
    elif preprocessing.events is None:
        raise InputError(f"{info.name} holds recordings of an event camera, the network takes images")
    elif events is not None:
        if replace(events, drop_bad_events=False) != replace(preprocessing.events, drop_bad_events=False):
            raise InputError("how recordings become frames is part of the network's preprocessing, which is given")
        preprocessing = replace(preprocessing, events=events)
    changed = EventTransform(info.sensor, preprocessing, given.event_augment, cache)
    plain = EventTransform(info.sensor, preprocessing, None, cache)
    return DataSplits(
        info,
        preprocessing,
        ImageDataset(train, changed, given.on_bad_image, True, info.class_names),
        ImageDataset(test, plain, given.on_bad_image, class_names=info.class_names),
        fingerprint(train, test),
    )


def _no_effect(name: str, holds: str, given: dict[str, bool]) -> None:
    for option, is_given in given.items():
        if is_given:
            raise InputError(f"{option} has no effect: {name} holds {holds}")


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
    """Standard deviation of each channel over some of the training recordings; 1 for a channel without events.

    Counts are divided by it, but no mean is subtracted: a pixel without events stays 0.
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
