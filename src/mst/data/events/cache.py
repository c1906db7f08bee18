"""Cache of frames on disk, and of as many as fit in memory.

An entry's name is a digest of the recording's content and of its representation, so entries never become out of date:
another recording, or another representation, has another name. Entries appear whole or not at all, so any number of
worker processes and of runs may read and write at once; a damaged entry is made again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst.files import write_atomically
from mst.text import one_line

logger = logging.getLogger(__name__)

VERSION = 2
"""Part of every entry's name; raise it when a change gives other frames for the same representation."""

CACHE_VARIABLE = "MST_CACHE"
"""Environment variable: the cache's folder, or "off"."""

MEMORY_BYTES = 256 * 2**20
"""Bytes of arrays that a cache keeps in memory besides; those that come first stay, since an epoch reads each once."""

_DIGEST_BYTES = 16


def cache_folder() -> Path | None:
    """The cache's folder: $MST_CACHE, otherwise mst in the user's cache folder; None if $MST_CACHE is "off"."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named.lower() == "off":
        return None
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            return Path(named).expanduser()
        return (Path(home) if home else Path.home() / ".cache") / "mst"
    except RuntimeError as error:  # no home folder, or no such user
        logger.warning("frames are not cached: %s ($%s names another folder)", one_line(error), CACHE_VARIABLE)
        return None


def cache_size(folder: Path) -> tuple[int, int]:
    """Number of entries and their size in bytes."""
    sizes = [entry.stat().st_size for entry in folder.glob("??/*.frames")]
    return len(sizes), sum(sizes)


class FrameCache:
    """Arrays in the files of one folder, and in memory as long as they fit.

    Args:
        folder: the folder; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._in_memory: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._free_bytes = MEMORY_BYTES

    def get(self, key: tuple[Any, ...], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of `key`, from memory, from disk or from `make`.

        Args:
            key: values whose text identifies the array; must include a digest of the recording.
            make: called if there is no valid entry.
        """
        if self.folder is None:
            return make()
        kept = self._in_memory.get(key)
        if kept is None:
            kept = self._from_disk(self.folder, key, make)
            if kept.nbytes <= self._free_bytes:
                self._in_memory[key] = kept
                self._free_bytes -= kept.nbytes
        return kept.copy()  # whoever changes it leaves the kept one alone

    def _from_disk(self, folder: Path, key: tuple[Any, ...], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        name = hashlib.blake2b(repr((VERSION, *key)).encode(), digest_size=20).hexdigest()
        path = folder / name[:2] / f"{name[2:]}.frames"
        kept = _read(path)
        if kept is not None:
            return kept
        made = make()
        try:
            _write(path, made)
        except OSError as error:
            logger.warning("frames are not cached from here on: %s cannot be written (%s)", folder, error.strerror)
            self.folder = None
        return made


def content_digest(content: bytes | memoryview, *more: object) -> str:
    """A digest of bytes and of values that go with them."""
    digest = hashlib.blake2b(content, digest_size=20)
    digest.update(repr(more).encode())
    return digest.hexdigest()


def _read(path: Path) -> NDArray[Any] | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, packed = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.blake2b(packed, digest_size=_DIGEST_BYTES).digest() != digest:
        logger.warning("%s is damaged; its frames are made again", path)
        return None
    try:
        array: NDArray[Any] = np.load(io.BytesIO(zlib.decompress(packed)), allow_pickle=False)
    except (zlib.error, ValueError, EOFError) as error:
        logger.warning("%s is not an entry of this cache (%s); its frames are made again", path, one_line(error))
        return None
    return array


def _write(path: Path, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    packed = zlib.compress(buffer.getvalue(), level=1)
    content = hashlib.blake2b(packed, digest_size=_DIGEST_BYTES).digest() + packed
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content), durable=False)
