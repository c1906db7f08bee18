"""Input of the network at each step: an image, a part of it, or a slice of a recording.

Letters: B images, K slices, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mst.neurons import sum_dtype


class InputSchedule:
    """The images of one batch over time.

    Where values are sent, the whole image is shown at every step, or slice t·K // T of a recording at step t. Where
    changes are sent, the network works on running sums: the whole image from step 0 on; or spread over k steps, the
    share (t + 1)/k at step t < k; or the share of a recording's mean that its slices up to step t make up, so that it
    ends at the mean of all.

    Args:
        images: [B, ...]; with slices [B, K, ...].
        num_steps: T.
        in_slices: True if axis 1 is time.
        accumulates: True if the network works on running sums.
        input_steps: k, steps over which an image is spread.
    """

    def __init__(self, images: Tensor, num_steps: int, in_slices: bool, accumulates: bool, input_steps: int) -> None:
        if in_slices and accumulates:
            images = (images.cumsum(dim=1, dtype=sum_dtype(images.dtype)) / images.shape[1]).to(images.dtype)
        self._images = images
        self._num_steps = num_steps
        self._in_slices = in_slices
        self._input_steps = input_steps
        slices = images.shape[1] if in_slices else 1
        self.complete_at = max(input_steps - 1, -(-(slices - 1) * num_steps // slices))
        """First step at which the network sees all that it will see."""

    def at(self, start: int, steps: int) -> Tensor:
        """[steps·B, ...]: the input of these steps, time outermost."""
        if self._in_slices:
            at = torch.arange(start, start + steps, device=self._images.device)
            index = at * self._images.shape[1] // self._num_steps
            return self._images[:, index].transpose(0, 1).flatten(0, 1)
        whole = self._images.repeat(steps, *[1] * (self._images.dim() - 1))
        if start + 1 >= self._input_steps:
            return whole
        shares = torch.arange(start + 1, start + steps + 1, device=whole.device).clamp_max_(self._input_steps)
        shares = shares.to(whole.dtype) / self._input_steps
        return whole * shares.repeat_interleave(len(self._images)).view(-1, *[1] * (whole.dim() - 1))

    def before_first_step(self) -> Tensor:
        """[B, ...]: the input before the first step, which is nothing."""
        return torch.zeros_like(self._images[:, 0] if self._in_slices else self._images)

    def keep_images(self, kept: Tensor) -> None:
        """Forget the images that have left; kept: bool [B]."""
        self._images = self._images[kept]
