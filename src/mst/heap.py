"""Memory that the C library keeps for the program instead of giving it back."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_KEPT = 2**31 - 1
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def give_back_freed_memory() -> None:
    """Give the system what glibc keeps of freed blocks; under another C library nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks of any size, and keep up to 2 GiB of them.

    By default it gives every block of more than some megabytes back to the system, which fills the next one with zeros,
    page by page: an eighth of the time of a simulation on a CPU, whose steps allocate the same blocks again and again.

    Returns:
        True if it is so now; False under another C library, or where the user has set malloc's variables.

    Limits: a setting of the whole process, so only for a program of its own, as the command line is.
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in _VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
