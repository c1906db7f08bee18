"""Peak memory of simulations that differ in T alone, each in a process of its own: one line of JSON.

A fresh process is needed: the heap of the tests has holes enough to hide what a simulation leaves behind.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch

import mst
from mst.models import MaskedSpikingTransformer, MSTConfig

STEPS = (16, 256)


def peak_of(snn: mst.SpikingNetwork, images: torch.Tensor, num_steps: int, options: dict[str, Any]) -> int:
    """Peak resident memory of a child process that simulates."""
    child = os.fork()
    if child == 0:
        mst.simulate(snn, images, num_steps, record_operations=False, steps_per_chunk=1, **options)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_maxrss


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = MSTConfig(
        img_size=16, patch_size=2, in_chans=1, num_classes=3, embed_dim=32, depths=(1,), num_heads=(2,), window_size=4
    )
    model, images = MaskedSpikingTransformer(config).eval(), torch.randn(8, 1, 16, 16)
    rate, lossless = mst.convert(model, "rate", images[:1]), mst.convert(model, "lossless", images[:1], burst=4)
    peaks = {
        "rate": [peak_of(rate, images, steps, {}) for steps in STEPS],
        "lossless": [peak_of(lossless, images, steps, {"input_steps": steps}) for steps in STEPS],
    }
    sys.stdout.write(json.dumps(peaks))


if __name__ == "__main__":
    main()
