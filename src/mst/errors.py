"""Errors that say what is wrong, where, and what to do. People read their text, code reads their fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ExplainedError(Exception):
    """An error in three parts. Its text is "where: what; remedy", parts that are empty left out.

    What is wrong may end in the words of another error. Their full stop is left out in front of a remedy.

    Raise one of the subclasses, which are also the built-in errors that Python programmers expect to catch.

    Args:
        what: what is wrong, with the value.
        where: the file, module path or option that it is about.
        remedy: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(f"{self.problem.removesuffix('.')}; {remedy}" if remedy else self.problem)

    @property
    def problem(self) -> str:
        """The text without the remedy, for a list of several problems."""
        return (f"{self.where}: " if self.where else "") + self.what

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.what, self.where, self.remedy)


def _rebuilt(kind: type[ExplainedError], what: str, where: str, remedy: str) -> ExplainedError:
    return kind(what, where=where, remedy=remedy)


class InputError(ExplainedError, ValueError):
    """A value, an option, a tensor or the content of a file is not what it must be."""


@contextmanager
def errors_at(where: str) -> Iterator[None]:
    """Within the block, put `where` before the place that an `InputError` names."""
    try:
        yield
    except InputError as error:
        if type(error) is not InputError:
            raise
        place = f"{where}, {error.where}" if error.where else where
        raise InputError(error.what, where=place, remedy=error.remedy) from error


class MissingFileError(ExplainedError, FileNotFoundError):
    """A file or folder does not exist."""


class UnfinishedError(ExplainedError, RuntimeError):
    """Parts of a task failed; the others are done."""


class FileConflictError(ExplainedError, FileExistsError):
    """A file or folder exists that must not be overwritten."""
