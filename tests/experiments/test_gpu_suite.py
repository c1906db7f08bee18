"""The GPU suite without a GPU: what it refuses, how it continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import mst
from mst.experiments import gpu_suite


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_suite_is_refused_without_a_cuda_device(tmp_path: Path) -> None:
    with pytest.raises(mst.InputError, match="needs a CUDA device"):
        mst.run_gpu_suite(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_gpu_suite_continues_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def part(name: str, fails: bool = False) -> gpu_suite.Part:
        def run(context: gpu_suite.SuiteContext) -> Mapping[str, Any]:
            calls.append(name)
            if fails and calls.count(name) == 1:
                raise RuntimeError("no luck")
            return {"found": name}

        return run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_suite, "PARTS", {"a": (part("a"), 1), "b": (part("b", True), 1), "c": (part("c"), 500)})
    first = mst.run_gpu_suite(tmp_path, budget=100)
    assert calls == ["a", "b"]
    assert first["b"]["error"] == "RuntimeError: no luck"
    second = mst.run_gpu_suite(tmp_path)
    assert calls == ["a", "b", "b", "c"]
    assert {name: found["found"] for name, found in second.items()} == {"a": "a", "b": "b", "c": "c"}
    assert json.loads((tmp_path / "gpu_suite.json").read_text())["parts"] == second
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "other card")
    with pytest.raises(mst.InputError, match="of card, this device is other card"):
        mst.run_gpu_suite(tmp_path)
    with pytest.raises(mst.InputError, match="got 'cpu'"):
        mst.run_gpu_suite(tmp_path, device="cpu")
