"""Images as a network sees them: preprocessing, which a checkpoint stores, and random changes for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mst.errors import InputError
from mst.text import one_line

from ..events.representation import EventRepresentation

Interpolation = Literal["bicubic", "bilinear", "nearest"]
"""Interpolation of pixels where an image is resized."""

AUTO_AUGMENT_POLICIES = ("rand", "original", "originalr", "v0", "v0r", "3a")
"""First parts of the names of timm's augmentation policies."""


@dataclass(frozen=True)
class Preprocessing:
    """Steps that turn an image into the input of a network; stored in its checkpoint.

    Raises:
        InputError: a value out of range, or entries that do not fit each other.
    """

    img_size: int | tuple[int, int]
    """Pixels, one number for a square or (height, width); images of another size are resized to it."""

    in_chans: int
    """Channels."""

    mean: tuple[float, ...]
    """Subtracted from each channel, in units of pixel values from 0 to 1, or of event counts."""

    std: tuple[float, ...]
    """Divides each channel, in the same units; above 0."""

    interpolation: Interpolation = "bicubic"
    """Interpolation used to resize."""

    crop_ratio: float = 1.0
    """The shorter side is resized to img_size / crop_ratio, then the centre is cut out; in (0, 1]."""

    events: EventRepresentation | None = None
    """Representation of event recordings as frames; None: the network takes images."""

    def __post_init__(self) -> None:
        if isinstance(self.img_size, list | tuple):  # a checkpoint's header holds lists only
            if len(self.img_size) != 2:
                raise InputError(f"img_size must be one whole number or (height, width), got {self.img_size!r}")
            height, width = self.img_size
            object.__setattr__(self, "img_size", height if height == width else (height, width))
        sides = self.img_size if isinstance(self.img_size, tuple) else (self.img_size,)
        if not all(isinstance(side, int) for side in sides):
            raise InputError(f"img_size must be one whole number or (height, width), got {self.img_size!r}")
        given: object = self.events
        if isinstance(given, dict):
            try:
                object.__setattr__(self, "events", EventRepresentation(**given))
            except TypeError as error:
                raise InputError(f"events {given} is not a representation ({one_line(error)})") from error
        if self.events is not None and self.events.in_chans != self.in_chans:
            raise InputError(
                f"{self.events.num_bins} bins of {self.events.kind} are {self.events.in_chans} channels, not "
                f"{self.in_chans}"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
            if len(getattr(self, name)) != self.in_chans:
                raise InputError(f"{name} needs {self.in_chans} entries, one per channel, got {getattr(self, name)}")
        if min(self.size) < 1 or min(self.std) <= 0:
            raise InputError(f"img_size must be at least 1 and std above 0, got {self.img_size} and {self.std}")
        if not 0.0 < self.crop_ratio <= 1.0:
            raise InputError(f"crop_ratio must be in (0, 1], got {self.crop_ratio}")
        if self.interpolation not in get_args(Interpolation):
            raise InputError(
                f"interpolation must be one of {', '.join(get_args(Interpolation))}, got {self.interpolation!r}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        return (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images.

    Raises:
        InputError: a value out of range, or two kinds of crop at once.
    """

    crop_padding: int = 0
    """Pixels of zero padding before a random crop back to the size in which the images are stored; 0 turns it off. For
    data sets whose images have one size."""

    random_resized_crop: float = 0.0
    """Smallest share of an image's area that a random crop keeps, in [0, 1]; the crop is resized to the network's size.
    0.08 is usual for ImageNet; 0 turns it off."""

    horizontal_flip: bool = False
    """Mirror each image with probability 1/2."""

    auto_augment: str = ""
    """Augmentation policy of timm, for example rand-m9-mstd0.5-inc1; empty turns it off."""

    color_jitter: float = 0.0
    """Strength of random changes of brightness, contrast and saturation; 0 turns it off."""

    erasing_probability: float = 0.0
    """Probability of covering a random rectangle of an image with noise, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise InputError(f"crop_padding must not be negative, got {self.crop_padding}")
        for name in ("random_resized_crop", "erasing_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.crop_padding and self.random_resized_crop:
            raise InputError("crop_padding and random_resized_crop are two ways to crop at random; choose one")
        if self.color_jitter < 0:
            raise InputError(f"color_jitter must not be negative, got {self.color_jitter}")
        if self.auto_augment and self.auto_augment.partition("-")[0] not in AUTO_AUGMENT_POLICIES:
            raise InputError(
                f"auto_augment must name a policy of timm such as rand-m9-mstd0.5-inc1, got {self.auto_augment!r}"
            )
