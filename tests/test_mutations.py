"""The list of mutations fits the code: `make mutations` applies it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import mutations


def test_mutations_can_be_applied() -> None:
    listed = mutations.read_mutations()
    assert [line for each in listed for line in mutations.faults(each)] == []
    assert len({each.name for each in listed}) == len(listed)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"text": "no such text"}, "occurs 0 times"),
        ({"text": "return"}, "times in"),
        ({"file": "src/mst/none.py"}, "there is no src/mst/none.py"),
        ({"tests": ("tests/none.py",)}, "there is no tests/none.py"),
        ({"tests": ()}, "names no tests"),
    ],
)
def test_mutation_that_does_not_fit_is_refused(changes: dict[str, object], fault: str) -> None:
    wrong = replace(mutations.read_mutations()[0], **changes)  # type: ignore[arg-type]
    assert fault in mutations.faults(wrong)[0]
