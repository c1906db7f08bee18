"""Names of checkpoints -> files: a path as it is, zoo:NAME as the file that comes with the package, hf:USER/NAME as the
copy of a file on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from mst.zoo import zoo_file

from . import hub
from .hub import HUB

ZOO = "zoo:"
"""Prefix of a trained network that comes with the package."""


def checkpoint_file(reference: str | Path) -> Path:
    """The file of a checkpoint.

    Args:
        reference: a path, zoo:NAME, or hf:USER/NAME[@REVISION].

    Raises:
        MissingFileError, InputError: as `mst.zoo.zoo_file` and `hub.fetch`. Whether a path exists is not checked.
    """
    name = str(reference)
    if name.startswith(HUB):
        return hub.fetch(name.removeprefix(HUB))
    return zoo_file(name.removeprefix(ZOO)) if name.startswith(ZOO) else Path(reference)


def pinned_reference(reference: Path) -> Path:
    """A reference that stands for the same file later too: one to the hub gets its commit, others stay as they are.

    Raises:
        MissingFileError, InputError: as `hub.fetch`.
    """
    name = str(reference)
    return Path(f"{HUB}{hub.pinned(name.removeprefix(HUB))}") if name.startswith(HUB) else reference
