"""Shared by the verbs of recordings, until these are experiments too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mst.files import prepare_folder as prepare_output
from mst.progress import Stage
from mst.text import note as remark

from . import display
from .display import console, print_files

__all__ = ["console", "prepare_output", "print_files", "progress_bar", "remark"]


@contextmanager
def progress_bar(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error; call what it yields with the amount done."""
    with display.progress_bar() as progress:
        yield Stage(progress, description, total, unit).advance
