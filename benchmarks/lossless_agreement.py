"""Compare a settled network with its ANN on real images, and the ANN with itself in batches of another size.

python benchmarks/lossless_agreement.py runs/fashion/last.safetensors [--max-images 10000] [--double-images 500]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset

import mst
from mst.data import first_readable
from mst.experiments import OpenedRun


def ann_logits(opened: OpenedRun, count: int, batch_size: int, dtype: torch.dtype) -> Tensor:
    """Logits of the first `count` images, computed in `dtype` with `batch_size` images at once."""
    model = opened.model.to(dtype)
    images = [opened.images[i][0] for i in range(count)]
    with torch.no_grad():
        batches = (images[start : start + batch_size] for start in range(0, count, batch_size))
        return torch.cat([model(torch.stack(batch).to(dtype)) for batch in batches])


def describe(name: str, a: Tensor, b: Tensor) -> None:
    """Print how far the logits `a` and `b` [images, classes] agree."""
    same = int((a.argmax(1) == b.argmax(1)).sum())
    difference = (a - b).abs().amax(1)
    print(
        f"{name:<52}{same:>7,} of {len(a):,} answers equal; logits differ by {difference.median():.1e} (median), "
        f"{difference.max():.1e} (max); by more than 0.01 in {int((difference > 0.01).sum()):,} images",
        flush=True,
    )


def main() -> None:
    """Compare in float32 and in float64."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="trained network")
    parser.add_argument("--max-images", type=int, default=10_000, help="number of test images compared in float32")
    parser.add_argument("--double-images", type=int, default=500, help="number of test images compared in float64")
    options = parser.parse_args()
    opened = mst.open_checkpoint(
        mst.CheckpointOptions(options.checkpoint, batch_size=32, max_images=options.max_images, device="cpu")
    )
    for dtype, count in ((torch.float32, opened.num_images), (torch.float64, options.double_images)):
        count = min(count, opened.num_images)
        kind = str(dtype).removeprefix("torch.")
        expected = ann_logits(opened, count, 32, dtype)
        describe(f"{kind}: ANN, batches of 500 and of 32 images", ann_logits(opened, count, 500, dtype), expected)
        snn = mst.convert(opened.model.to(dtype), "lossless", first_readable(opened.images)[0][None], burst=4)
        images = Subset(opened.images, range(count))
        result = mst.simulate(snn, images, 100, record_operations=False)
        describe(f"{kind}: settled SNN ({result.num_settled:,} images) and ANN", result.logits, expected)


if __name__ == "__main__":
    main()
