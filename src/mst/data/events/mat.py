"""Plain numeric arrays in Matlab's .mat files, version 5, by name.

scipy's reader trusts the file: a single wrong byte in an element's tag can end the process. Here every length is
checked before it is used, and only numbers are read.

The format: 128 bytes of header, then elements of a tag (uint32 type, uint32 bytes; or both in four bytes, where up to
four bytes of data follow directly) and data padded to 8 bytes. An element is a matrix, or a compressed one.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst.errors import InputError

MAX_BYTES = 2**31
"""Largest size of a decompressed array, in bytes."""

_HEADER_BYTES = 128
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX_FLAG = 0x0800


def read_numeric_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array, flat, for every real numeric array of the file.

    Raises:
        InputError: a file of another kind, a damaged one, or one of version 7.3, which is HDF5.
        OSError: it cannot be opened.
    """
    content = path.read_bytes()
    if content[:4] == b"\x89HDF" or b"MATLAB 7.3" in content[:_HEADER_BYTES]:
        raise InputError("it has version 7.3; save it with -v7")
    if len(content) < _HEADER_BYTES or content[126:128] not in (b"IM", b"MI"):
        raise InputError("its header is not that of a .mat file")
    order = "<" if content[126:128] == b"IM" else ">"
    arrays: dict[str, NDArray[Any]] = {}
    at = _HEADER_BYTES
    while at < len(content):
        kind, data, at = _element(content, at, order)
        if kind == _COMPRESSED:
            kind, data, _ = _element(_decompressed(data), 0, order)
        if kind == _MATRIX:
            named = _matrix(data, order)
            if named is not None:
                arrays[named[0]] = named[1]
    return arrays


def _decompressed(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise InputError(f"a compressed element is damaged ({error})") from error
    if unpacker.unconsumed_tail:
        raise InputError(f"an element takes more than {MAX_BYTES:,} bytes")
    return unpacked


def _element(content: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """Type and data of the element at `at`, and offset of the next."""
    if at + 8 > len(content):
        raise InputError(f"it ends inside the tag of an element at byte {at:,}")
    (first,) = struct.unpack_from(f"{order}I", content, at)
    if first >> 16:  # the small form
        size = first >> 16
        if size > 4:
            raise InputError(f"a small element of {size} bytes at byte {at:,}")
        return first & 0xFFFF, content[at + 4 : at + 4 + size], at + 8
    (size,) = struct.unpack_from(f"{order}I", content, at + 4)
    start = at + 8
    if start + size > len(content):
        raise InputError(f"it ends inside an element of {size:,} bytes at byte {at:,}")
    padding = 0 if first == _COMPRESSED else -size % 8
    return first, content[start : start + size], start + size + padding


def _matrix(data: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """Name and numbers of a matrix; None if it holds anything else."""
    _, flags, at = _element(data, 0, order)
    if len(flags) < 4:
        raise InputError("a matrix without flags")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    if flag & 0xFF not in _NUMERIC_CLASSES or flag & _COMPLEX_FLAG:
        return None
    _, dimensions, at = _element(data, at, order)
    _, name, at = _element(data, at, order)
    kind, numbers, _ = _element(data, at, order)
    if kind not in _NUMBERS:
        raise InputError(f"a matrix of numbers of type {kind}")
    dtype = np.dtype(order + _NUMBERS[kind])
    if len(numbers) % dtype.itemsize or len(dimensions) % 4:
        raise InputError("a matrix whose bytes do not divide into numbers")
    array = np.frombuffer(numbers, dtype)
    expected = 1
    for (side,) in struct.iter_unpack(f"{order}i", dimensions):
        expected *= max(0, side)
    if len(array) != expected:
        raise InputError(f"a matrix of {expected:,} numbers holds {len(array):,}")
    return name.decode("latin-1"), array
