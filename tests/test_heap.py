"""The setting of the C library's heap."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from mst import heap


def test_keep_freed_memory_sets_what_the_user_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda what, value: calls.append((what, value)) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(heap.sys, "platform", "linux")
    for name in heap._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert heap.keep_freed_memory()
    assert calls == [(-4, 0), (-1, 2**31 - 1)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not heap.keep_freed_memory()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # another C library
    assert not heap.keep_freed_memory()
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert not heap.keep_freed_memory()
    assert len(calls) == 2


def test_freed_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=calls.append))
    monkeypatch.setattr(heap.sys, "platform", "linux")
    heap.give_back_freed_memory()
    assert calls == [0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # another C library
    heap.give_back_freed_memory()
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    heap.give_back_freed_memory()
    assert calls == [0]
