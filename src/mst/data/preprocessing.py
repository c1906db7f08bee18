"""From a stored image to the tensor that a network sees, for training and for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of an image; stored in its checkpoint.

    Args:
        img_size: side in pixels; other sizes are resized to it.
        in_chans: channels.
        mean, std: one entry a channel, in units of pixel values from 0 to 1.
        interpolation: of the resize.
    """

    img_size: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"

    def __post_init__(self) -> None:
        if not isinstance(self.img_size, int):
            raise ValueError(f"img_size must be one number here, got {self.img_size!r}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
            if len(getattr(self, name)) != self.in_chans:
                raise ValueError(f"{name} needs {self.in_chans} entries, one a channel, got {getattr(self, name)}")
        if self.img_size < 1 or min(self.std) <= 0:
            raise ValueError(f"img_size must be at least 1 and std above 0, got {self.img_size} and {self.std}")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images.

    Args:
        crop_padding: pixels of zero padding before a random crop back to size; 0 turns it off.
        horizontal_flip: mirror every second image, at random.
        erasing_probability: chance of blanking a random rectangle of an image.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False
    erasing_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must not be negative, got {self.crop_padding}")
        if not 0.0 <= self.erasing_probability <= 1.0:
            raise ValueError(f"erasing_probability must be in [0, 1], got {self.erasing_probability}")


class Transform(nn.Module):
    """[C, height, width] stored image (uint8, or float from 0 to 1) -> normalised float32 of the expected size."""

    def __init__(
        self, native_size: tuple[int, int], preprocessing: Preprocessing, augment: AugmentConfig | None
    ) -> None:
        super().__init__()
        size = preprocessing.img_size
        steps: list[nn.Module] = []
        if augment is not None and augment.crop_padding:
            steps.append(v2.RandomCrop(native_size, padding=augment.crop_padding))
        if native_size != (size, size):
            mode = InterpolationMode(preprocessing.interpolation)
            steps.append(v2.Resize((size, size), mode, antialias=True))
        if augment is not None and augment.horizontal_flip:
            steps.append(v2.RandomHorizontalFlip())
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocessing.mean, preprocessing.std)]
        if augment is not None and augment.erasing_probability:
            steps.append(v2.RandomErasing(augment.erasing_probability))
        self.steps = v2.Compose(steps)

    def forward(self, image: Tensor) -> Tensor:
        """One image, see the class."""
        y: Tensor = self.steps(image)
        return y
