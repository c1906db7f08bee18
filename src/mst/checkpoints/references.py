"""Names of checkpoints -> files: a path as it is, zoo:NAME as the file that comes with the package."""

from __future__ import annotations

from pathlib import Path

from mst.zoo import zoo_file

ZOO = "zoo:"
"""Prefix of a trained network that comes with the package."""


def checkpoint_file(reference: str | Path) -> Path:
    """The file of a checkpoint.

    Args:
        reference: a path, or zoo:NAME.

    Raises:
        MissingFileError, InputError: as `mst.zoo.zoo_file`. Whether a path exists is not checked.
    """
    name = str(reference)
    return zoo_file(name.removeprefix(ZOO)) if name.startswith(ZOO) else Path(reference)
