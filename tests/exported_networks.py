"""Small quantised networks that NIR holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mst
from conftest import randomise

IMAGES = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 0.7


class Branched(nn.Module):
    """What residual and inception networks are made of: sums, shortcuts, norms, groups, joined channels, factors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 1, 1)
        self.late_norm = nn.BatchNorm2d(4)
        self.pool = nn.AvgPool2d(2)
        self.act1, self.act2, self.act3, self.act4 = nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm(self.stem(x)))
        y = self.depthwise(x)
        y += x * 0.5
        y = self.act2(y)
        z = self.late_norm(torch.cat([self.left(y), self.right(x)], dim=1))
        z = self.act3(z - y / 4 + x + x)
        z = nn.functional.pad(self.pool(self.act4(-z + 0.25)), (0, 0)) + 0.1
        return self.head(z.flatten(1)) + 1.0


def branched(**options: object) -> nn.Module:
    network = Branched()
    randomise(network)
    return mst.quantize(network, 4, calibration=IMAGES, **options).eval()  # type: ignore[arg-type]


def simple() -> nn.Module:
    """One convolution, a mean over places, one linear map."""
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.ReLU(),
        nn.Linear(4, 3),
    )  # fmt: skip
    randomise(network)
    return mst.quantize(network, 4, calibration=IMAGES).eval()
