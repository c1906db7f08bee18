"""Errors carry fields, and survive the trip from another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mst.errors import ExplainedError, FileConflictError, InputError, MissingFileError, errors_at
from mst.files import write_text


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
