"""Geometry of a pyramid of windows: the image sizes that fit it, and the windows and shifts of each stage."""

from __future__ import annotations

from dataclasses import dataclass

from mst.errors import InputError


@dataclass(frozen=True)
class StageGeometry:
    """Sizes of one stage."""

    resolution: tuple[int, int]
    """(height, width) in tokens."""

    window: int
    """Tokens along a window's side."""

    shift: int
    """Tokens by which every second block shifts its windows."""

    @property
    def num_windows(self) -> int:
        """Windows of one image."""
        return self.resolution[0] * self.resolution[1] // self.window**2


def stage_geometries(
    img_size: tuple[int, int], patch_size: int, window_size: int, num_stages: int
) -> tuple[StageGeometry, ...]:
    """The geometry of each stage.

    If a stage is not larger than the window, the window shrinks to the stage and nothing is shifted.

    Args:
        img_size: (height, width) in pixels.
        patch_size: pixels along a token's side.
        window_size: tokens along a window's side.
        num_stages: each later stage has half its predecessor's resolution.

    Raises:
        InputError: a size does not divide; the error names the stage and the nearest image sizes that fit.
    """
    problem = _misfit(img_size, patch_size, window_size, num_stages)
    if problem:
        raise InputError(
            f"img_size {_text(img_size)} does not fit patch_size {patch_size}, window_size {window_size} and "
            f"{num_stages} stage(s): {problem}",
            remedy=f"nearest sizes that fit: {_nearest_sizes(img_size, patch_size, window_size, num_stages)}",
        )
    stages = []
    height, width = img_size[0] // patch_size, img_size[1] // patch_size
    for _ in range(num_stages):
        shrunk = min(height, width) <= window_size
        window = min(height, width) if shrunk else window_size
        stages.append(StageGeometry((height, width), window, 0 if shrunk else window_size // 2))
        height, width = height // 2, width // 2
    return tuple(stages)


def _misfit(img_size: tuple[int, int], patch_size: int, window_size: int, num_stages: int) -> str:
    """The reason why these sizes do not fit; empty if they do."""
    height, width = img_size
    if height < patch_size or width < patch_size or height % patch_size or width % patch_size:
        return f"the image does not divide into {patch_size}x{patch_size} patches"
    height, width = height // patch_size, width // patch_size
    for stage in range(num_stages):
        window = min(height, width, window_size)
        if height % window or width % window:
            return f"stage {stage} has {height}x{width} tokens, which {window}x{window} windows do not tile"
        if stage < num_stages - 1:
            if height % 2 or width % 2:
                return f"stage {stage} has {height}x{width} tokens, which 2x2 merging does not divide"
            height, width = height // 2, width // 2
    return ""


def _nearest_sizes(img_size: tuple[int, int], patch_size: int, window_size: int, num_stages: int) -> str:
    """The next smaller and the next larger size that fit; squares if `img_size` is a square."""
    step = patch_size * 2 ** (num_stages - 1)  # the sides that fit are multiples of it
    first, second = (side // step for side in img_size)
    reach = 2 * max(first, second, window_size) + 1
    pairs = [(h * step, w * step) for h in range(1, first + reach) for w in range(1, second + reach)]
    if img_size[0] == img_size[1]:
        pairs = [(side * step, side * step) for side in range(1, first + reach)]
    fitting = [pair for pair in pairs if not _misfit(pair, patch_size, window_size, num_stages)]
    smaller = [pair for pair in fitting if pair[0] <= img_size[0] and pair[1] <= img_size[1]]
    larger = [pair for pair in fitting if pair[0] >= img_size[0] and pair[1] >= img_size[1]]
    found = [max(smaller, key=sum)] if smaller else []
    found += [min(larger, key=sum)] if larger else []
    return ", ".join(_text(pair) for pair in found)


def _text(img_size: tuple[int, int]) -> str:
    return str(img_size[0]) if img_size[0] == img_size[1] else f"{img_size[0]}x{img_size[1]}"
