"""Downloads of event data sets, carried out by tonic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mst.errors import InputError
from mst.extras import install_command
from mst.text import one_line

WHOLE: Sequence[Mapping[str, Any]] = ({},)
"""For data sets that tonic downloads in one piece."""


def download_with_tonic(name: str, tonic_class: str, parts: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Download and unpack a data set.

    Args:
        name: of the data set, for errors.
        tonic_class: its class in tonic.datasets.
        parts: options of that class, for each piece to download.
        folder: where the files go.

    Raises:
        InputError: tonic is not installed, or the download failed.
    """
    try:
        import tonic
    except ImportError as error:
        raise InputError(
            "downloads of event data need tonic",
            remedy=install_command("events"),
        ) from error
    download = getattr(tonic.datasets, tonic_class)
    try:
        for options in parts:
            download(save_to=str(folder), **options)
    except Exception as error:  # tonic raises whatever its sources of downloads raise
        raise InputError(f"{name} could not be downloaded to {folder} ({one_line(error)})") from error
