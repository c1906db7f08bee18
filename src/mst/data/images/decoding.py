"""One image file as Pillow opens it -> a picture of 8 bits, in colour or in grey.

Pixels of 16 bits are scaled: value >> 8. A picture that a camera has marked as turned is turned upright. Of several
frames the first is read. Where pixels are transparent, the colour stored for them is read.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from mst.errors import InputError

IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif",
    ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
})  # fmt: skip
"""Suffixes of the image files that are read, in lower case."""

OTHER_PICTURES = frozenset({
    ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jxl", ".mat", ".nef",
    ".nii", ".npy", ".npz", ".orf", ".pdf", ".psd", ".raw", ".svg",
})  # fmt: skip
"""Suffixes of files that may hold images and are not read."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""Orientation that a camera notes -> what makes the picture upright."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""Tags of a TIFF file."""

_NARROW_RANGE = 4096
"""16-bit pixels that do not reach this value leave 16 of 256 levels, or fewer."""


def decode(image: Image.Image, in_chans: int) -> Image.Image:
    """The picture in 8 bits.

    Args:
        image: an opened file.
        in_chans: 3 for RGB, 1 for grey.

    Raises:
        InputError: pixels whose range the file does not state.
        OSError, ValueError, ...: from Pillow, for damaged files.
    """
    image.load()
    mode = "RGB" if in_chans == 3 else "L"
    turn = _UPRIGHT.get(_orientation(image))
    if image.mode == "F":
        raise InputError("its pixels are floating-point numbers, whose range is not stated; save it in 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise InputError("its pixels are 32-bit numbers, whose range is not stated; save it in 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((_sixteen_bits(image) >> 8).astype(np.uint8))
    converted = image.convert(mode)
    return converted if turn is None else converted.transpose(turn)


class Noted:
    """Kinds of remarks that have been noted; shared with processes that are forked later, such as data workers."""

    KINDS = ("frames", "alpha", "range")

    def __init__(self) -> None:
        self._flags = mmap.mmap(-1, len(self.KINDS))

    def __contains__(self, kind: str) -> bool:
        return self._flags[self.KINDS.index(kind)] != 0

    def add(self, kind: str) -> None:
        """Count a kind as noted."""
        self._flags[self.KINDS.index(kind)] = 1

    def __reduce__(self) -> tuple[type[Noted], tuple[()]]:
        return Noted, ()


def remarks(image: Image.Image, known: Noted) -> Iterator[tuple[str, str]]:
    """Parts that `decode` has left out of a picture, as (kind, sentence).

    Args:
        image: an opened file that has been decoded.
        known: kinds that need not be looked for.
    """
    if "frames" not in known and image.format != "MPO" and getattr(image, "is_animated", False):
        yield "frames", f"it has {image.n_frames} frames, of which the first is read"  # type: ignore[attr-defined]
    if "alpha" not in known and image.has_transparency_data and _is_transparent(image):
        yield "alpha", "some of its pixels are transparent; the colours stored for them are read"
    most = int(_sixteen_bits(image).max()) if "range" not in known and image.mode.startswith("I") else 0
    if 0 < most < _NARROW_RANGE:
        yield "range", f"its 16-bit pixels reach {most} of 65,535, so the picture read is nearly black"


def _is_transparent(image: Image.Image) -> bool:
    return int(np.asarray(image.convert("RGBA").getchannel("A")).min()) < 255


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    """Grey pixels from 0 to 65,535."""
    pixels = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", {})
    pixels <<= 16 - int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    return 65535 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels


def _orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged notes of a camera, which leave the picture as it is
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged note can raise anything
        return 1
