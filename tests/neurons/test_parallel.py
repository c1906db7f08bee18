"""Threads of compiled loops: every unit once, on torch's own threads where these can be had."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from mst.neurons import parallel

needs_openmp = pytest.mark.skipif(parallel._torch_threads() is None, reason="torch does not use GNU's OpenMP here")
MANY = 1 << 30
"""Elements that are worth every thread."""


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["torch", "Python"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, three_threads: None) -> str:
    if request.param == "Python":
        monkeypatch.setattr(parallel, "_torch_threads", lambda: None)
    elif parallel._torch_threads() is None:
        pytest.skip("torch does not use GNU's OpenMP here")
    return str(request.param)


@pytest.mark.parametrize("units", [1, 2, 3, 7, 100])
def test_every_unit_is_taken_once(kind: str, units: int) -> None:
    taken: Counter[int] = Counter()
    parallel.run_in_threads(lambda begin, end: taken.update(range(begin, end)), units, MANY)
    assert taken == Counter(range(units))


def test_error_in_a_thread_is_raised(kind: str) -> None:
    def loop(begin: int, end: int) -> None:
        raise ValueError(f"unit {begin}")

    with pytest.raises(ValueError, match="unit"):
        parallel.run_in_threads(loop, 30, MANY)
    assert not parallel._works
    assert not parallel._errors
    test_every_unit_is_taken_once(kind, 30)


def threads_that_take_part() -> set[int]:
    """Of a loop in which each of three threads waits for the others."""
    seen: set[int] = set()
    together = threading.Barrier(3)

    def loop(begin: int, end: int) -> None:
        if threading.get_native_id() not in seen:
            seen.add(threading.get_native_id())
            together.wait(timeout=60)

    parallel.run_in_threads(loop, 30, MANY)
    return seen


def test_all_threads_take_part(kind: str) -> None:
    assert len(threads_that_take_part()) == 3


@needs_openmp
def test_threads_are_those_of_torch(three_threads: None) -> None:
    first = threads_that_take_part()
    of_python = {thread.native_id for thread in threading.enumerate()}
    torch.rand(1 << 22).exp_()
    assert threads_that_take_part() == first
    assert threading.get_native_id() in first
    assert len(first & of_python) == 1  # OpenMP's own, beside the one that calls


@needs_openmp
@pytest.mark.parametrize(("elements", "expected"), [(3 << 16, 3), ((3 << 16) - 1, 0)])
def test_torch_threads_are_called_all_together_or_not_at_all(
    elements: int, expected: int, three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def start(callback: object, number: int, threads: int, flags: int) -> None:
        asked.append(threads)
        parallel._run_work(number)

    monkeypatch.setattr(parallel, "_torch_threads", lambda: start)
    taken: Counter[int] = Counter()
    parallel.run_in_threads(lambda begin, end: taken.update(range(begin, end)), 30, elements)
    assert taken == Counter(range(30))
    assert asked == ([expected] if expected else [])


FORKED = """
import os, torch
from mst.neurons import parallel
torch.set_num_threads(2)
def run():
    seen = []
    parallel.run_in_threads(lambda begin, end: seen.extend(range(begin, end)), 30, 1 << 30)
    assert sorted(seen) == list(range(30)), seen
run()
child = os.fork()
if not child:
    run()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
run()
"""


@pytest.mark.skipif(not hasattr(parallel.os, "fork"), reason="this system has no fork")
def test_forked_process_does_not_wait_for_threads_that_are_gone() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=120)


def maps(*paths: str) -> str:
    """A memory map of a process that has loaded these files."""
    lines = [f"7f00-7f01 r-xp 00000000 fe:01 42   {path}" for path in paths for _ in range(2)]
    return "\n".join(["5500-5501 rw-p 00000000 00:00 0   [heap]", "7f10-7f11 rw-p 00000000 00:00 0", *lines])


@pytest.mark.parametrize(
    ("loaded", "found"),
    [
        (["/packages/torch/lib/libgomp.so.1", "/packages/numpy/core.so"], "/packages/torch/lib/libgomp.so.1"),
        (["/packages/sklearn.libs/libgomp-a1.so", "/packages/torch/lib/libgomp-b2.so.1"],
         "/packages/torch/lib/libgomp-b2.so.1"),
        (["/usr/lib/libgomp.so.1.0.0"], "/usr/lib/libgomp.so.1.0.0"),
        (["/my packages/torch/lib/libgomp.so.1"], "/my packages/torch/lib/libgomp.so.1"),
        (["/usr/lib/libgomp.so.1", "/conda/lib/libiomp5.so"], None),
        (["/packages/sklearn.libs/libgomp-a1.so", "/usr/lib/libgomp.so.1"], None),
        (["/conda/lib/libomp.so"], None),
        ([], None),
    ],
    ids=["torch", "two", "system", "space", "other OpenMP", "not certain", "LLVM", "none"],
)  # fmt: skip
def test_openmp_of_torch(loaded: list[str], found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "/my packages/torch" if "my packages" in "".join(loaded) else "/packages/torch"
    monkeypatch.setattr(parallel.torch, "__file__", f"{folder}/__init__.py")
    assert parallel._openmp_of_torch(maps(*loaded)) == found
