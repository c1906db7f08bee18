"""Words for people: the nearest known name, notes, errors in one line."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence


def suggestion(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """Remedy for an unknown name: the nearest known ones as a question, if any are near; then `otherwise`.

    Args:
        name: the unknown name.
        known: the known ones.
        otherwise: what else the reader can do; it becomes a sentence of its own behind the question.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if not near:
        return otherwise
    return f"did you mean {' or '.join(near)}? {otherwise[:1].upper()}{otherwise[1:]}".rstrip()


_notes = logging.getLogger("mst.notes")


def note(text: str) -> None:
    """Tell the user something that is not a result: logged at level INFO by the logger "mst.notes".

    The command line prints these lines on standard error; a program that wants them adds a handler to that logger.
    """
    _notes.info("%s", text)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
