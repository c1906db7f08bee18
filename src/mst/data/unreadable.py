"""Errors of samples that cannot be read, and the mark that takes such a sample to the main process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mst.errors import InputError

SKIP_IMAGES = "replace or remove it, or leave out such images with --on-bad-image skip"
SKIP_RECORDINGS = "replace or remove the file, or leave out such recordings with --on-bad-image skip"


BadImages = Literal["fail", "skip"]
"""Treatment of a sample that cannot be read."""


class UnreadableSampleError(InputError):
    """A sample of a data set cannot be read: a damaged file, or one of another kind."""

    may_be_skipped = False
    """True if the data set was opened with on_bad_image="skip": batches leave the sample out."""


class UnreadableImageError(UnreadableSampleError):
    """An image file is damaged, or not an image."""


class UnreadableEventsError(UnreadableSampleError):
    """A recording is damaged, or not a recording.

    Args:
        path: the file.
        what: what is wrong with it.
        offset: position of the damage in the file, in bytes, if it is known.
        event: index of the first bad event, if it is known.
        remedy: what the reader can do about it.
    """

    def __init__(
        self, path: Path | str, what: str, offset: int | None = None, event: int | None = None,
        remedy: str = SKIP_RECORDINGS,
    ) -> None:  # fmt: skip
        self.path, self.offset, self.event = path, offset, event
        at = f", byte {offset:,}" if offset is not None else ""
        of = f" (event {event:,})" if event is not None else ""
        super().__init__(what, where=f"{path}{at}{of}", remedy=remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.what, self.offset, self.event, self.remedy)


@dataclass(frozen=True)
class UnreadableSample:
    """Stands for a sample that could not be read, on its way from a worker process to the main process."""

    error: UnreadableSampleError
    """The reason, with its fields."""

    may_be_skipped: bool
    """True if the data set was opened with on_bad_image="skip"."""


def none_readable(count: int, first: UnreadableSampleError | None) -> UnreadableSampleError:
    """The error of a data set of which no sample can be read; names the first sample and its reason.

    Args:
        count: samples of the data set.
        first: error of the first of them; None for a data set without samples.
    """
    if first is None:
        return UnreadableSampleError("the data set holds no samples")
    return UnreadableSampleError(
        f"{first.what}; not one sample of this data set can be read ({count:,} samples)", where=first.where
    )
