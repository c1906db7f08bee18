"""The command that installs an optional extra, right for a clone and for an installed package."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PACKAGE = "masked-spiking-transformer"


def install_command(extra: str) -> str:
    """Command that adds an extra to this installation, whatever folder it is typed in.

    A clone is named by its folder. An installed package is named by its name: pip adds the extra to the version that
    is there, and asks no index for mst itself.

    Args:
        extra: one of those in pyproject.toml.
    """
    clone = _clone()
    return f'pip install "{PACKAGE}[{extra}]"' if clone is None else f'pip install -e "{clone}[{extra}]"'


def _clone() -> Path | None:
    """Folder of an editable installation, or of sources that run without being installed."""
    try:
        origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return Path(__file__).parents[2]
    return Path(url2pathname(urlsplit(origin["url"]).path)) if origin.get("dir_info", {}).get("editable") else None
