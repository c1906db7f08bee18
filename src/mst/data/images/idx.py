"""The idx files of the MNIST family: big-endian header, then unsigned bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mst.errors import InputError, MissingFileError
from mst.text import one_line


def read_idx(path: Path) -> Tensor:
    """Read one idx file of unsigned bytes, plain or gzip-compressed.

    Returns:
        uint8 tensor in the shape that the header states.

    Raises:
        MissingFileError: the file does not exist.
        InputError: it is another kind of file, or truncated.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"not a gzip file, or a truncated one ({one_line(error)})", where=str(path)) from error
    except FileNotFoundError as error:
        raise MissingFileError("no such file", where=str(path)) from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(
            f"not an idx file of unsigned bytes: it begins with {content[:4].hex() or 'nothing'}", where=str(path)
        )
    axes = content[3]
    header = 4 + 4 * axes
    if len(content) < header:
        raise InputError(f"the file is truncated inside its header of {header} bytes", where=str(path))
    shape = struct.unpack(f">{axes}I", content[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise InputError(
            f"the file should hold {expected} bytes for shape {shape}, it holds {len(content)}", where=str(path)
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
