"""Folders of files: what lies in them, without what tools and systems have put there."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mst.errors import InputError
from mst.text import note

_OF_TOOLS = frozenset({
    "__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
    "desktop.ini", "ehthumbs.db", "thumbs.db",
})  # fmt: skip

_SHOWN = 5
_DIGITS = re.compile(r"(\d+)")


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


def natural_key(name: str) -> list[int | str]:
    """Key to sort names by, with the numbers in them as numbers. Names that differ in case only have the same."""
    parts: list[int | str] = [*_DIGITS.split(name.lower())]
    parts[1::2] = map(int, parts[1::2])
    return parts


def natural_order(names: Iterable[str]) -> list[str]:
    """Names in the order of `natural_key`, and then of their characters, whatever order they come in."""
    return sorted(sorted(names), key=natural_key)


def folder_of(path: str) -> str:
    """The folder of a path, as `os.path.dirname` gives it for relative paths, in a fraction of the time."""
    return path.rpartition(os.sep)[0]


def kinds_of(files: Iterable[str]) -> str:
    """Suffixes of files, each with its count: "10 .heic, 2 .txt"."""
    counts = Counter(os.path.splitext(name)[1].lower() or "without a suffix" for name in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def some(texts: Iterable[str]) -> str:
    """The first few texts, separated by commas."""
    shown = list(texts)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")


def report_left_out(
    place: Path, used: Iterable[str], others: Sequence[str], folders: Iterable[str], unread: Collection[str], noun: str
) -> None:
    """Note files that are not samples, and folders without a sample, which are no classes.

    Args:
        place: the folder of the data set.
        used: samples, as paths below it.
        others: other files.
        folders: folders.
        unread: suffixes of files that hold samples of a kind that is not read.
        noun: what a sample is: "image", "recording".

    Raises:
        InputError: a folder has files, and all of them are of kinds that are not read.
    """
    holding = {folder_of(path) for path in used}
    beside: dict[str, list[str]] = defaultdict(list)
    for path in others:
        beside[folder_of(path)].append(path)
    lost = {
        folder: files for folder, files in beside.items()
        if folder and folder not in holding and all(os.path.splitext(name)[1].lower() in unread for name in files)
    }  # fmt: skip
    if lost:
        folder, files = min(lost.items())
        raise InputError(
            f"{len(lost)} folders hold only files of kinds that are not read; {folder} holds {kinds_of(files)}",
            where=str(place), remedy="convert them, or move the folders elsewhere",
        )  # fmt: skip
    above = {parent for folder in holding for parent in _above(folder)}
    empty = [f"{f} ({kinds_of(beside[f]) or 'empty'})" for f in folders if f not in holding and f not in above]
    if empty:
        note(f"{place}: {len(empty)} folders without {noun}s are no classes: {some(empty)}")
    if others:
        note(f"{place}: {len(others)} files that are not read as {noun}s are left out: {kinds_of(others)}")


def _above(folder: str) -> Iterator[str]:
    while folder := folder_of(folder):
        yield folder
