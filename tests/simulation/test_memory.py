"""Memory of a simulation, as the operating system sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not report the peak memory of a process")
def test_simulate_peak_memory_does_not_grow_with_time_steps() -> None:
    script = Path(__file__).with_name("peak_memory.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    for coding, (of_few_steps, of_many) in json.loads(done.stdout).items():
        assert of_many <= 1.05 * of_few_steps, coding
