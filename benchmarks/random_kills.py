"""Kill a training run on digits with SIGKILL at random moments, resume it each time, and compare the losses.

    python benchmarks/random_kills.py --kills 10

Starts the run in a separate process, kills it after a random time, checks that every checkpoint can still be read,
and resumes it; after the last kill it compares the loss of every epoch with that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mst
from mst.training import has_training_state

RUN = ["--config", "digits-mst-masked", "--train.checkpoint-minutes", "0.02"]


def train(output: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start the training run in a separate process."""
    command = [sys.executable, "-m", "mst", "train", *RUN, "--output", str(output), *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(output: Path) -> list[float]:
    """Training loss of each epoch of a finished run."""
    record = json.loads((output / "run_record.json").read_text())
    return [epoch["loss"] for epoch in record["results"]["history"]]


def main() -> None:
    """Run once without and once with kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        began = time.monotonic()
        assert train(whole).wait() == 0
        duration = time.monotonic() - began
        print(f"the uninterrupted run takes {duration:.0f} s and ends with loss {losses(whole)[-1]:.6f}")
        for kill in range(1, arguments.kills + 1):
            flags = ["--resume"] if (cut / "options.json").exists() else []
            process = train(cut, *flags)
            if kill == 1:  # so that the first kill comes in the first epochs
                while not (cut / "options.json").exists():
                    time.sleep(0.05)
            after = draw.uniform(5.0, 5.0 + duration / 8)
            try:
                process.wait(timeout=after)
                print(f"kill {kill}: the run had already ended")
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            for path in cut.glob("*.safetensors"):
                mst.load_checkpoint(path)
            done = "no state yet"
            if has_training_state(cut) and (cut / "last.safetensors").exists():
                done = f"{mst.read_checkpoint_info(cut / 'last.safetensors').provenance['epochs']} epochs done"
            print(f"kill {kill}: after {after:.1f} s, {done}, {len(list(cut.glob('.*.partial')))} partial file(s)")
        assert train(cut, "--resume").wait() == 0
        one, two = losses(whole), losses(cut)
        worst = max(abs(a - b) for a, b in zip(one, two, strict=True))
        print(f"final loss {two[-1]:.6f}; largest difference of any epoch's loss: {worst:.3g}")
        assert worst <= 1e-6
        assert not list(cut.glob(".*.partial"))


if __name__ == "__main__":
    main()
