"""Many images at once against the same images one by one."""

from __future__ import annotations

import pytest
import torch

from mst.data import AugmentConfig, Preprocessing
from mst.data.images.transform import ImageTransform

BOTH = AugmentConfig(crop_padding=3, horizontal_flip=True)


@pytest.mark.parametrize(
    ("channels", "native", "size", "augment", "dtype"),
    [
        (1, (8, 8), (8, 8), AugmentConfig(crop_padding=1), torch.float32),
        (1, (28, 20), (28, 20), AugmentConfig(horizontal_flip=True), torch.uint8),
        (3, (32, 32), (56, 56), BOTH, torch.uint8),
        (3, (16, 12), (9, 17), BOTH, torch.float32),
    ],
)
def test_batch_equals_image_by_image(
    channels: int, native: tuple[int, int], size: tuple[int, int], augment: AugmentConfig, dtype: torch.dtype
) -> None:
    images = (255 * torch.rand(12, channels, *native)).to(torch.uint8)
    images = images if dtype is torch.uint8 else images / 255.0
    preprocessing = Preprocessing(size, channels, (0.3,) * channels, (0.7,) * channels, crop_ratio=0.875)
    transform = ImageTransform(native, preprocessing, augment)
    assert transform.batch is not None
    torch.manual_seed(1)
    one_by_one = torch.stack([transform(image) for image in images])
    torch.manual_seed(1)
    assert torch.equal(transform.batch(images), one_by_one)
    seeds = list(range(100, 112))
    seeded = transform.batch(images, seeds)
    for image, seed, seen in zip(images, seeds, seeded, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(transform(image), seen)
    assert not torch.equal(seeded, one_by_one)


@pytest.mark.parametrize(
    "augment",
    [
        AugmentConfig(random_resized_crop=0.5), AugmentConfig(auto_augment="rand-m9"), AugmentConfig(color_jitter=0.1),
        AugmentConfig(erasing_probability=0.5),
    ],
)  # fmt: skip
def test_transform_has_no_batch_for_changes_made_image_by_image(augment: AugmentConfig) -> None:
    assert ImageTransform((8, 8), Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3), augment).batch is None


def test_transform_has_no_batch_for_images_of_many_sizes() -> None:
    assert ImageTransform(None, Preprocessing(8, 1, (0.5,), (0.5,)), None).batch is None
