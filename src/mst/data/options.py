"""Options that choose a data set and how a network sees it; shared by Python and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mst.errors import InputError

from .events.augment import EventAugmentConfig
from .events.representation import EventRepresentation
from .images.preprocessing import AugmentConfig, Interpolation
from .unreadable import BadImages


@dataclass(frozen=True)
class DataOptions:
    """A data set and how a network sees it.

    Raises:
        InputError: a value that is not one of those listed.
    """

    dataset: str = "digits"
    """Name of the data set; `mst datasets` lists them. folder:PATH opens your own images, hf:NAME a data set of Hugging
    Face, events:PATH your own recordings of an event camera."""

    data_path: Path | None = None
    """Folder with the data set's files; without it the usual places are searched."""

    train_images: int | None = None
    """Use only this many training images, evenly spaced over the training split."""

    img_size: int | tuple[int, int] | None = None
    """Pixels to which images are resized, one number or HEIGHT,WIDTH; by default the size of the data set's images, if
    they have one size. Where frames of events are enlarged, pixels are repeated; where they are reduced, counts are
    added up."""

    interpolation: Interpolation | None = None
    """Interpolation used to resize images: bicubic (the default), bilinear or nearest. Not for recordings."""

    crop_ratio: float | None = None
    """Test images are resized to the network's size divided by this ratio, then their centre is cut out; by default 7/8
    for photographs of many sizes and 1 for others. Not for recordings."""

    cache_images: bool = False
    """Read image files into memory at the start, still encoded. Other data sets are in memory anyway; frames of
    recordings are cached on disk."""

    augment: AugmentConfig = AugmentConfig()  # noqa: RUF009 (frozen)
    """Random changes of the training images."""

    events: EventRepresentation = EventRepresentation()  # noqa: RUF009 (frozen)
    """Representation of event recordings as frames."""

    event_augment: EventAugmentConfig = EventAugmentConfig()  # noqa: RUF009 (frozen)
    """Random changes of the training recordings."""

    on_bad_image: BadImages = "fail"
    """Treatment of an image file or a recording that cannot be read: fail, or skip it and report it."""

    def __post_init__(self) -> None:
        if self.on_bad_image not in get_args(BadImages):
            raise InputError(f"on_bad_image must be one of {', '.join(get_args(BadImages))}, got {self.on_bad_image!r}")
        if self.interpolation not in (None, *get_args(Interpolation)):
            raise InputError(
                f"interpolation must be one of {', '.join(get_args(Interpolation))}, got {self.interpolation!r}"
            )
        for name, kind in (
            ("augment", AugmentConfig), ("events", EventRepresentation), ("event_augment", EventAugmentConfig),
        ):  # fmt: skip
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be of type {kind.__name__}, got {getattr(self, name)!r}")
