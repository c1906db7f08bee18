"""Frames on disk: found again, never incomplete, never out of date."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from mst.data import cache_folder, cache_size
from mst.data.events.cache import CACHE_VARIABLE, FrameCache


def counting(array: np.ndarray, calls: list[int]):  # type: ignore[no-untyped-def]
    def make() -> np.ndarray:
        calls.append(1)
        return array

    return make


def test_entry_is_made_once_and_comes_back_equal(tmp_path: Path) -> None:
    calls: list[int] = []
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    first = FrameCache(tmp_path).get(("a", 1), counting(array, calls))
    again = FrameCache(tmp_path).get(("a", 1), counting(array, calls))
    assert len(calls) == 1
    assert again.dtype == first.dtype
    assert np.array_equal(first, again)
    FrameCache(tmp_path).get(("a", 2), counting(array, calls))
    assert len(calls) == 2
    assert cache_size(tmp_path)[0] == 2


def test_cache_keeps_in_memory_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mst.data.events.cache.MEMORY_BYTES", 1000)
    calls: list[int] = []
    cache = FrameCache(tmp_path)
    for key in ("small", "large"):
        cache.get((key,), counting(np.ones(100 if key == "small" else 120), calls))[0] = 7  # 800 and 960 bytes
    for entry in tmp_path.glob("??/*.frames"):
        entry.unlink()
    assert cache.get(("small",), counting(np.zeros(100), calls)).sum() == 100
    assert cache.get(("large",), counting(np.zeros(120), calls)).sum() == 0
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:30] + b"\0" + c[31:]])
def test_damaged_entry_is_made_again(damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    calls: list[int] = []
    array = np.arange(400)
    FrameCache(tmp_path).get(("a",), counting(array, calls))
    (entry,) = tmp_path.glob("??/*.frames")
    entry.write_bytes(damage(entry.read_bytes()))
    assert np.array_equal(FrameCache(tmp_path).get(("a",), counting(array, calls)), array)
    assert len(calls) == 2
    assert "is damaged; its frames are made again" in caplog.text
    FrameCache(tmp_path).get(("a",), counting(array, calls))
    assert len(calls) == 2


def test_full_disk_costs_the_cache_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = FrameCache(tmp_path)
    for key in range(3):
        assert cache.get((key,), lambda: np.ones(3)).tolist() == [1, 1, 1]
    assert caplog.text.count("cannot be written (No space left on device)") == 1
    assert list(tmp_path.glob("*/*")) == []


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    assert cache_folder() is None
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mst"


def _fill(folder: Path) -> None:
    cache = FrameCache(folder)
    for key in range(60):
        array = cache.get((key,), lambda key=key: np.full(5_000, key))
        assert (array == key).all()


def test_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("spawn").Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert cache_size(tmp_path)[0] == 60
    assert list(tmp_path.glob("**/*.part")) == []
