"""Errors carry fields, and survive the trip from another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mst.errors import ExplainedError, FileConflictError, InputError, MissingFileError, errors_at
from mst.files import write_text
from mst.text import suggestion


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(InputError, ValueError), (MissingFileError, FileNotFoundError), (FileConflictError, FileExistsError)],
)
def test_explained_errors_are_built_in_ones_with_fields(kind: type[ExplainedError], builtin: type[Exception]) -> None:
    error = kind("it is wrong", where="a.yaml", remedy="mend it")
    assert isinstance(error, builtin)
    assert str(error) == "a.yaml: it is wrong; mend it"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.what, copy.where, copy.remedy) == ("it is wrong", "a.yaml", "mend it")
    assert str(kind("it is wrong")) == "it is wrong"


def test_error_of_another_library_loses_its_full_stop_before_a_remedy() -> None:
    assert str(InputError("cannot be read: Bad magic number.", remedy="mend it")) == (
        "cannot be read: Bad magic number; mend it"
    )
    assert str(InputError("cannot be read: Bad magic number.")) == "cannot be read: Bad magic number."


@pytest.mark.parametrize(
    ("name", "otherwise", "text"),
    [
        ("digit", "known: digits, cifar10", "unknown 'digit'; did you mean digits? Known: digits, cifar10"),
        ("digit", "`mst zoo` lists them", "unknown 'digit'; did you mean digits? `mst zoo` lists them"),
        ("digit", "", "unknown 'digit'; did you mean digits?"),
        ("cifar", "", "unknown 'cifar'; did you mean cifar10 or cifar100?"),
        ("zzz", "known: digits, cifar10", "unknown 'zzz'; known: digits, cifar10"),
        ("zzz", "", "unknown 'zzz'"),
    ],
)
def test_suggestion_is_a_remedy_of_whole_sentences(name: str, otherwise: str, text: str) -> None:
    remedy = suggestion(name, ["digits", "cifar10", "cifar100"], otherwise)
    assert str(InputError(f"unknown {name!r}", remedy=remedy)) == text


def test_write_text_refuses_to_replace_what_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder exists and is not a regular file"):
        write_text(tmp_path / "folder", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_errors_at_puts_a_place_before_that_of_the_error() -> None:
    for where, expected in (("", "train_data: bad; mend it"), ("image 3", "train_data, image 3: bad; mend it")):
        with pytest.raises(InputError) as caught, errors_at("train_data"):
            raise InputError("bad", where=where, remedy="mend it")
        assert str(caught.value) == expected
    with pytest.raises(KeyError), errors_at("train_data"):
        raise KeyError("other")
