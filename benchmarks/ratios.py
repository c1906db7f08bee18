"""Compare ratios of one run with recorded ones; fail when one has fallen by a third.

    python benchmarks/ratios.py [--record]

Each case is a run of `mst benchmark` on a small network with random weights. A ratio of two computations that take
turns holds on other machines better than a time does, and on a busy machine too; --record writes those of this machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

import mst
from mst.experiments.benchmarking import ANN, COUNTED, UNCOUNTED

RECORDED = Path(__file__).with_name("ratios.json")
FALL = 2 / 3
MODEL = "mst_mini_patch2_window7_28"
CASES: dict[str, tuple[mst.CodingOptions, int]] = {
    "rate": (mst.CodingOptions("rate"), 8),
    "lossless, weighted, burst 4": (mst.CodingOptions("lossless", burst=4), 60),
}


def measured() -> dict[str, float]:
    """Name -> a ratio of which more is better: speed-ups over the plain loop; the ANN's time as a share of a run's."""
    ratios: dict[str, float] = {}
    for label, (coding, steps) in CASES.items():
        options = mst.BenchmarkOptions(MODEL, time_steps=steps, batch_size=8, device="cpu", threads=1)
        run = mst.run_benchmark(options, coding)
        for name in (UNCOUNTED, COUNTED):
            speed_up = run.speed_up(name)
            assert speed_up is not None
            ratios[f"{label}, {name}: speed-up over the plain loop, per step"] = speed_up
            ratios[f"{label}, {name}: share of the ANN's pass, per step"] = run.steps / run.ratio(name, ANN)
    return ratios


def main() -> None:
    """Measure, and compare or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the ratios instead of comparing them")
    record = parser.parse_args().record
    known = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    if not (record or known):
        sys.exit(f"no ratios are recorded; run python {sys.argv[0]} --record on a machine without other work")
    ratios = measured()
    fallen = [name for name, ratio in ratios.items() if ratio < FALL * known.get(name, 0.0)]
    for name, ratio in ratios.items():
        mark = "  FALLEN" if name in fallen else ""
        print(f"{ratio:8.3f}  recorded {known.get(name, float('nan')):8.3f}  {name}{mark}")
    if record:
        RECORDED.write_text(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}, indent=2) + "\n")
        print(f"written to {RECORDED}, torch {torch.__version__}")
    elif fallen:
        sys.exit(f"{len(fallen)} of {len(ratios)} ratios have fallen by a third or more")


if __name__ == "__main__":
    main()
