"""From a stored image to the tensor that a network sees, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from mst.errors import InputError
from mst.text import one_line

from .batch import BatchTransform
from .preprocessing import AugmentConfig, Preprocessing

_PIL_INTERPOLATION = {
    "bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST,
}  # fmt: skip


class ImageTransform:
    """[C, height, width] stored image (uint8, or float from 0 to 1), or a Pillow image -> normalised float32.

    Args:
        native_size: (height, width) in which the images are stored; None if they differ.
        preprocessing: what the network expects.
        augment: random changes; None for evaluation.

    Attributes:
        batch: the same for many images of the native size at once; None for changes that are made image by image.

    Raises:
        InputError: an augmentation that these images do not allow.
    """

    def __init__(
        self, native_size: tuple[int, int] | None, preprocessing: Preprocessing, augment: AugmentConfig | None
    ) -> None:
        size = preprocessing.size
        augment = augment or AugmentConfig()
        mode = InterpolationMode(preprocessing.interpolation)
        steps: list[Callable[[Any], Any]] = []
        if augment.auto_augment:
            steps.append(_to_pil)
        if augment.crop_padding:
            if native_size is None:
                raise InputError(
                    "crop_padding needs images of one size; for images of many sizes use random_resized_crop"
                )
            steps.append(v2.RandomCrop(native_size, padding=augment.crop_padding))
        resize = [] if native_size == size else _resize(size, preprocessing.crop_ratio, mode)
        if augment.random_resized_crop:
            scale = (augment.random_resized_crop, 1.0)
            steps.append(v2.RandomResizedCrop(size, scale=scale, interpolation=mode, antialias=True))
        else:
            steps += resize
        if augment.horizontal_flip:
            steps.append(v2.RandomHorizontalFlip())
        if augment.auto_augment:
            steps.append(_auto_augment(augment.auto_augment, preprocessing))
        if augment.color_jitter:
            steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))
        as_float, normalise = v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocessing.mean, preprocessing.std)
        steps += [v2.ToImage(), as_float, v2.ToPureTensor(), normalise]
        if augment.erasing_probability:
            steps.append(RandomErasing(augment.erasing_probability, mode="pixel", device="cpu"))
        self.steps = v2.Compose(steps)
        one_by_one = (
            augment.random_resized_crop, augment.auto_augment, augment.color_jitter, augment.erasing_probability
        )  # fmt: skip
        self.batch: BatchTransform | None = None
        if native_size is not None and not any(one_by_one):
            self.batch = BatchTransform(augment, _in_turn(resize), _in_turn([as_float, normalise]))

    def __call__(self, image: Tensor | Image.Image) -> Tensor:
        """Transform one image, see the class."""
        y: Tensor = self.steps(image)
        return y


def _in_turn(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """The steps as one function."""
    return v2.Compose(steps) if steps else _unchanged


def _unchanged(images: Tensor) -> Tensor:
    return images


def _resize(size: tuple[int, int], crop_ratio: float, mode: InterpolationMode) -> list[Callable[[Any], Any]]:
    """Resize, then cut out the centre. A square keeps the proportions; otherwise both sides are fitted."""
    if size[0] == size[1]:
        return [v2.Resize(round(size[0] / crop_ratio), mode, antialias=True), v2.CenterCrop(size)]
    larger = [round(side / crop_ratio) for side in size]
    return [v2.Resize(larger, mode, antialias=True), v2.CenterCrop(size)]


def _to_pil(image: Tensor | Image.Image) -> Image.Image:
    """A Pillow image, as the policies of timm need it."""
    if isinstance(image, Image.Image):
        return image
    pil: Image.Image = v2.functional.to_pil_image(image)
    return pil


def _auto_augment(policy: str, preprocessing: Preprocessing) -> Callable[[Image.Image], Image.Image]:
    """timm's transform of that name; pixels that move in from outside have the mean colour."""
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
        raise InputError(
            f"auto_augment {policy!r} is not a policy that timm understands ({one_line(error)})"
        ) from error
    return transform
