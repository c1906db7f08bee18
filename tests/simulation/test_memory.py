"""Memory of a simulation, as the operating system sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mst
from mst.models import MaskedSpikingTransformer
from mst.simulation import loop


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not report the peak memory of a process")
def test_simulate_peak_memory_does_not_grow_with_time_steps() -> None:
    script = Path(__file__).with_name("peak_memory.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment["NUMBA_DISABLE_JIT"] = "1"  # a compiler, loaded once in the longer run alone, takes 100 MB itself
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    for coding, (of_few_steps, of_many) in json.loads(done.stdout).items():
        assert of_many <= 1.05 * of_few_steps, coding


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_simulate_batch_that_does_not_fit_is_refused_with_remedies(
    tiny_model: MaskedSpikingTransformer, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error("too large")

    snn = mst.convert(tiny_model, "rate", torch.zeros(1, 1, 8, 8).double())
    monkeypatch.setattr(loop, "begin_run", fail)
    with pytest.raises(mst.InputError, match=r"batch of 2 images.*\(too large\); .*batch_size\)$"):
        mst.simulate(snn, torch.zeros(2, 1, 8, 8).double(), 3)
    with pytest.raises(mst.InputError, match="fewer steps"):
        mst.simulate(snn, torch.zeros(2, 1, 8, 8).double(), 3, steps_per_chunk=2)
