"""Convolutions whose class pads inside its forward: what each place reaches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

import mst
from mst.operations.padding import padding_inside


class Twice(nn.Conv2d):
    """A convolution that pads and adds up two."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(x, self.weight) + F.conv2d(x.flip(-1), self.weight)


class Circular(nn.Conv2d):
    """A convolution that pads with other places."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "circular"), self.weight)


def test_padding_inside_is_what_the_forward_pads() -> None:
    x = torch.zeros(1, 2, 7, 6)
    assert padding_inside(Conv2dSame(2, 3, 3, stride=2), x) == ((1, 1), (0, 1))
    assert padding_inside(Conv2dSame(2, 3, (5, 2), stride=(1, 2), dilation=(1, 2)), x) == ((2, 2), (0, 1))
    assert padding_inside(nn.Conv2d(2, 3, 3, padding=(2, 0)), x) == ((2, 2), (0, 0))
    assert padding_inside(Twice(2, 3, 3), x) is None
    assert padding_inside(Circular(2, 3, 3), x) is None


def test_spikes_are_counted_where_a_convolution_pads_inside() -> None:
    torch.manual_seed(0)
    same = Conv2dSame(4, 3, 3, stride=2)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), same, nn.ReLU(), Twice(3, 2, 2), nn.Flatten())
    x = torch.randn(1, 2, 7, 6)
    quantized = mst.quantize(model.eval(), 4, x)
    snn = mst.convert(quantized, "lossless", burst=4, schedule="plain")
    counts = {each.operation.name: each for each in mst.simulate(snn, x, 12).operations}
    spikes = (quantized[:2](x) * 4 / quantized[1].threshold).round()  # each neuron sends its level at once
    reached = F.conv2d(F.pad(spikes, (0, 1, 1, 1)), torch.ones_like(same.weight), None, 2)
    assert int(counts["2"].acs_per_step.sum()) == int(reached.sum())
    assert int(counts["2"].macs_per_step.sum()) == 0  # type: ignore[union-attr]
    assert int(counts["4"].acs_per_step.sum()) == 0  # it is not known what a spike reaches there
    assert 0 < int(counts["4"].macs_per_step.sum()) <= counts["4"].operation.dense_macs  # type: ignore[union-attr]
