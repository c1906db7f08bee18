"""Errors carry fields, and survive the trip from another process."""

from __future__ import annotations

import pickle

import pytest

from mst.errors import ExplainedError, FileConflictError, InputError, MissingFileError


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
