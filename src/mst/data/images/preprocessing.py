"""From a stored image to the tensor that a network sees, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from ..events.representation import EventRepresentation

Interpolation = Literal["bicubic", "bilinear", "nearest"]

_PIL_INTERPOLATION = {
    "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST,
}  # fmt: skip


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network; stored in its checkpoint.

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
    """How recordings of an event camera become frames; None: the network takes images."""

    def __post_init__(self) -> None:
        if isinstance(self.img_size, list | tuple):  # a checkpoint's header knows lists only
            if len(self.img_size) != 2:
                raise ValueError(f"img_size must be one whole number or (height, width), got {self.img_size!r}")
            height, width = self.img_size
            object.__setattr__(self, "img_size", height if height == width else (height, width))
        if not all(isinstance(side, int) for side in self.size):
            raise ValueError(f"img_size must be one whole number or (height, width), got {self.img_size!r}")
        given: object = self.events
        if isinstance(given, dict):
            try:
                object.__setattr__(self, "events", EventRepresentation(**given))
            except TypeError as error:
                raise ValueError(f"events {given} is no representation: {error}") from error
        if self.events is not None and self.events.in_chans != self.in_chans:
            raise ValueError(
                f"{self.events.num_bins} bins of {self.events.kind} are {self.events.in_chans} channels, not "
                f"{self.in_chans}"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
            if len(getattr(self, name)) != self.in_chans:
                raise ValueError(f"{name} needs {self.in_chans} entries, one a channel, got {getattr(self, name)}")
        if min(self.size) < 1 or min(self.std) <= 0:
            raise ValueError(f"img_size must be at least 1 and std above 0, got {self.img_size} and {self.std}")
        if not 0.0 < self.crop_ratio <= 1.0:
            raise ValueError(f"crop_ratio must be in (0, 1], got {self.crop_ratio}")
        if self.interpolation not in _PIL_INTERPOLATION:
            raise ValueError(
                f"interpolation must be one of {', '.join(_PIL_INTERPOLATION)}, got {self.interpolation!r}"
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
            raise ValueError(f"crop_padding must not be negative, got {self.crop_padding}")
        for name in ("random_resized_crop", "erasing_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.crop_padding and self.random_resized_crop:
            raise ValueError("crop_padding and random_resized_crop are two ways to crop at random; choose one")
        if self.color_jitter < 0:
            raise ValueError(f"color_jitter must not be negative, got {self.color_jitter}")
        if self.auto_augment and self.auto_augment.partition("-")[0] not in (
            "rand",
            "original",
            "originalr",
            "v0",
            "v0r",
            "3a",
        ):
            raise ValueError(
                f"auto_augment must name a policy of timm such as rand-m9-mstd0.5-inc1, got {self.auto_augment!r}"
            )


class ImageTransform:
    """[C, height, width] stored image (uint8, or float from 0 to 1), or a Pillow image -> normalised float32.

    Args:
        native_size: (height, width) in which the images are stored; None if they differ.
        preprocessing: what the network expects.
        augment: random changes; None for evaluation.

    Raises:
        ValueError: an augmentation that these images do not allow.
    """

    def __init__(
        self, native_size: tuple[int, int] | None, preprocessing: Preprocessing, augment: AugmentConfig | None
    ) -> None:
        size = preprocessing.size
        self.output_shape: tuple[int, ...] = (preprocessing.in_chans, *size)
        self.is_random = augment not in (None, AugmentConfig())
        augment = augment or AugmentConfig()
        mode = InterpolationMode(preprocessing.interpolation)
        steps: list[Callable[[Any], Any]] = []
        if augment.auto_augment:
            steps.append(_to_pil)
        if augment.crop_padding:
            if native_size is None:
                raise ValueError(
                    "crop_padding needs images of one size; for images of many sizes use random_resized_crop"
                )
            steps.append(v2.RandomCrop(native_size, padding=augment.crop_padding))
        if augment.random_resized_crop:
            scale = (augment.random_resized_crop, 1.0)
            steps.append(v2.RandomResizedCrop(size, scale=scale, interpolation=mode, antialias=True))
        elif native_size != size:
            steps += _resize(size, preprocessing.crop_ratio, mode)
        if augment.horizontal_flip:
            steps.append(v2.RandomHorizontalFlip())
        if augment.auto_augment:
            steps.append(_auto_augment(augment.auto_augment, preprocessing))
        if augment.color_jitter:
            steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))
        steps += [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.ToPureTensor(),
            v2.Normalize(preprocessing.mean, preprocessing.std),
        ]
        if augment.erasing_probability:
            steps.append(RandomErasing(augment.erasing_probability, mode="pixel", device="cpu"))
        self.steps = v2.Compose(steps)

    def __call__(self, image: Tensor | Image.Image) -> Tensor:
        """One image, see the class."""
        y: Tensor = self.steps(image)
        return y


def _resize(size: tuple[int, int], crop_ratio: float, mode: InterpolationMode) -> list[Callable[[Any], Any]]:
    """To a size, and from there to the middle of it. Proportions stay for a square; else both sides are fitted."""
    if size[0] == size[1]:
        return [v2.Resize(round(size[0] / crop_ratio), mode, antialias=True), v2.CenterCrop(size)]
    larger = [round(side / crop_ratio) for side in size]
    return [v2.Resize(larger, mode, antialias=True), v2.CenterCrop(size)]


def _to_pil(image: Tensor | Image.Image) -> Image.Image:
    """The policies of timm work on Pillow images."""
    if isinstance(image, Image.Image):
        return image
    pil: Image.Image = v2.functional.to_pil_image(image)
    return pil


def _auto_augment(policy: str, preprocessing: Preprocessing) -> Callable[[Image.Image], Image.Image]:
    """timm's transform of that name; what moves in from outside has the mean colour."""
    fill = tuple(round(255 * value) for value in preprocessing.mean)
    options = {
        "translate_const": int(0.45 * min(preprocessing.size)),
        "img_mean": fill if preprocessing.in_chans == 3 else fill[0],
        "interpolation": _PIL_INTERPOLATION[preprocessing.interpolation],
    }
    build = rand_augment_transform if policy.startswith("rand") else auto_augment_transform
    try:
        transform: Callable[[Image.Image], Image.Image] = build(policy, options)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"auto_augment {policy!r} is no policy that timm understands {error}".strip()) from error
    return transform
