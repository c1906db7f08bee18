from __future__ import annotations

import pytest
import torch
from torch import nn

from mst.measure import measure_throughput


def test_throughput_is_images_over_time_and_leaves_the_mode_alone() -> None:
    class Slow(nn.Linear):
        passes = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            Slow.passes += 1
            torch.linalg.svd(torch.randn(60, 60))
            return super().forward(x)

    model = Slow(3, 2)
    rate = measure_throughput(model, torch.zeros(5, 3), seconds=0.2)
    assert rate > 0
    assert 5 * (Slow.passes - 2) / rate >= 0.2  # two passes warm up
    assert model.training
    with pytest.raises(ValueError, match="at least one image"):
        measure_throughput(model, torch.zeros(0, 3))
