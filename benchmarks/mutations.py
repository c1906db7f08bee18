"""Breaks each formula of tests/mutations.yaml once, in a temporary copy, and runs the tests that must notice.

python benchmarks/mutations.py [PART OF A NAME ...]: only the mutations whose names contain one of these texts.
Exit code 1 if a mutation survives: no named test fails. 2 if the list does not fit the code, or the tests
fail without any mutation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MUTATIONS = ROOT / "tests" / "mutations.yaml"
TEST_FAILED = 1
"""Exit code of pytest if tests ran and some failed; a collection error has another, and proves nothing."""


@dataclass(frozen=True)
class Mutation:
    """A change that breaks a formula."""

    name: str
    """What is wrong afterwards."""

    file: str
    """File that is changed, from the root of the repository."""

    text: str
    """Text that is replaced; occurs exactly once in the file."""

    becomes: str
    """Text in its place."""

    tests: tuple[str, ...]
    """Test files of which at least one test must fail."""


def read_mutations(path: Path = MUTATIONS) -> list[Mutation]:
    """The mutations of a list."""
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in yaml.safe_load(path.read_text())]


def faults(mutation: Mutation, root: Path = ROOT) -> list[str]:
    """Reasons why a mutation cannot be applied; none if it can."""
    found = [f"{mutation.name}: there is no {test}" for test in mutation.tests if not (root / test).is_file()]
    if not (root / mutation.file).is_file():
        return [*found, f"{mutation.name}: there is no {mutation.file}"]
    number = (root / mutation.file).read_text().count(mutation.text)
    if number != 1:
        found.append(f"{mutation.name}: its text occurs {number} times in {mutation.file}, not once")
    if mutation.text == mutation.becomes or not mutation.tests:
        found.append(f"{mutation.name}: it changes nothing, or names no tests")
    return found


def tests_fail(name: str, tests: Sequence[str], root: Path) -> bool:
    """True if one of these test files fails in the copy `root`.

    Raises:
        RuntimeError: the tests could not be run.
    """
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, TEST_FAILED):
        raise RuntimeError(f"{name}: the tests could not be run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == TEST_FAILED


def is_noticed(mutation: Mutation, root: Path) -> bool:
    """True if a named test fails in the copy `root` while the mutation is applied.

    Raises:
        RuntimeError: the tests could not be run.
    """
    file = root / mutation.file
    before = file.read_text()
    file.write_text(before.replace(mutation.text, mutation.becomes))
    try:
        return tests_fail(mutation.name, mutation.tests, root)
    finally:
        file.write_text(before)


def main(words: Sequence[str]) -> int:
    """Apply the mutations and print which survive; returns the exit code."""
    chosen = [each for each in read_mutations() if not words or any(word in each.name for word in words)]
    wrong = [line for each in chosen for line in faults(each)]
    if wrong or not chosen:
        print("\n".join(wrong or ["no mutation of that name"]), file=sys.stderr)
        return 2
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("src", "tests", "benchmarks", "configs", "docs"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__", "figures"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        tests = sorted({test for each in chosen for test in each.tests})
        if tests_fail("unchanged code", tests, Path(folder)):
            print("the tests fail without any mutation; mend them first", file=sys.stderr)
            return 2
        for mutation in chosen:
            noticed = is_noticed(mutation, Path(folder))
            print(f"{'noticed ' if noticed else 'SURVIVES'}  {mutation.name}", flush=True)
            if not noticed:
                survivors.append(mutation.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
