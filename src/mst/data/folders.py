"""Folders of files: what lies in them, without what tools and systems have put there."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mst.errors import InputError
from mst.text import note

_OF_TOOLS = frozenset({
    "__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
    "desktop.ini", "ehthumbs.db", "thumbs.db",
})  # fmt: skip

_SHOWN = 5


def is_hidden(name: str) -> bool:
    """True for names that begin with a dot and for those that tools and systems give: no sample, and no class."""
    return name.startswith(".") or name.casefold() in _OF_TOOLS


@dataclass
class Listing:
    """Files and folders below a folder, as paths relative to it. Hidden ones are not among them."""

    files: list[str] = field(default_factory=list)
    """Files, at any depth."""

    folders: list[str] = field(default_factory=list)
    """Folders, at any depth."""

    hidden: list[str] = field(default_factory=list)
    """Hidden folders, which are not searched."""

    loops: list[str] = field(default_factory=list)
    """Links to a folder that they lie in, which are not followed."""

    def report(self, root: Path) -> None:
        """Note what was not searched."""
        for paths, what in (
            (self.hidden, "hidden folders and those of tools"), (self.loops, "links to a folder that they lie in")
        ):  # fmt: skip
            if paths:
                note(f"{root}: {what} are left out ({len(paths)}): {some(paths)}")


def list_folder(root: Path) -> Listing:
    """Everything below `root`, links followed.

    Raises:
        InputError: a folder cannot be read.
    """
    found = Listing()
    for place, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        inside = os.path.relpath(place, root) if place != str(root) else ""
        here = os.path.realpath(place)
        found.files += [os.path.join(inside, name) for name in sorted(files) if not is_hidden(name)]
        folders.sort()
        for name in folders[:]:
            path = os.path.join(inside, name)
            full = os.path.join(place, name)
            leads_back = os.path.islink(full) and f"{here}{os.sep}".startswith(f"{os.path.realpath(full)}{os.sep}")
            if leads_back or is_hidden(name):
                folders.remove(name)
            (found.loops if leads_back else found.hidden if is_hidden(name) else found.folders).append(path)
    return found


def _refuse(error: OSError) -> None:
    raise InputError(
        f"the folder cannot be read ({error.strerror})", where=str(error.filename), remedy="change its permissions"
    ) from error


def natural_key(name: str) -> tuple[list[int | str], str]:
    """Key to sort names by, with the numbers in them as numbers; no two names have the same."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"(\d+)", name.lower()))], name


def kinds_of(files: Iterable[str]) -> str:
    """Suffixes of files, each with its count: "10 .heic, 2 .txt"."""
    counts = Counter(os.path.splitext(name)[1].lower() or "without a suffix" for name in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def some(texts: Iterable[str]) -> str:
    """The first few texts, separated by commas."""
    shown = list(texts)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
