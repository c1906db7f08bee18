"""Random crop, resize and flip of many images of one size at once.

The draws are those that torchvision's transforms make image by image, and so are the values.

Letters: B images, C channels, p pixels of padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .preprocessing import AugmentConfig


class BatchTransform:
    """Stored images [B, C, height, width] -> normalised float32, with the values of `ImageTransform` for each image.

    Args:
        augment: random changes; only `crop_padding` and `horizontal_flip` are made.
        resize: from the stored size to that of the network.
        normalise: from pixels to the input of the network.
    """

    def __init__(
        self, augment: AugmentConfig, resize: Callable[[Tensor], Tensor], normalise: Callable[[Tensor], Tensor]
    ) -> None:
        self.padding, self.flips = augment.crop_padding, augment.horizontal_flip
        self.resize, self.normalise = resize, normalise

    def __call__(self, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Transform a batch, see the class.

        Args:
            images: [B, C, height, width].
            seeds: of each image's draws, B numbers; None draws from torch's global generator, image after image.
        """
        offsets, chances = self._draw(len(images), seeds)
        if self.padding:
            images = _crop(images, self.padding, offsets)
        images = self.resize(images)
        if self.flips:
            images = torch.where((chances < 0.5)[:, None, None, None], images.flip(-1), images)
        return self.normalise(images)

    def _draw(self, count: int, seeds: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """Offsets (top, left) of each crop, int64 [B, 2] from 0 to 2p, and a number in [0, 1) for each flip, [B]."""
        offsets, chances = torch.zeros(count, 2, dtype=torch.int64), torch.ones(count)
        if not (self.padding or self.flips):
            return offsets, chances
        generator = torch.default_generator if seeds is None else torch.Generator()
        for image, (offset, chance) in enumerate(zip(offsets.unbind(), chances.unbind(), strict=True)):
            if seeds is not None:
                generator.manual_seed(seeds[image])
            if self.padding:
                offset.random_(0, 2 * self.padding + 1, generator=generator)
            if self.flips:
                chance.uniform_(generator=generator)
        return offsets, chances


def _crop(images: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """Zeros around every image, then a window of its former size at its offset (top, left)."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [padding] * 4)
    rows, columns = offsets[:, :1] + torch.arange(height), offsets[:, 1:] + torch.arange(width)
    places = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
    window = padded.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1))
    return window.view(images.shape)
