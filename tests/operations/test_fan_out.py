"""Outputs that a spike reaches, against brute force over the whole product of a convolution's options."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.neurons import QCFS
from mst.operations import conv_fan_out
from mst.operations.fan_out import CONVOLUTIONS, TRANSPOSED, output_places

KERNELS, PLACES = (3, 2, 1), (7, 6, 5)
"""Another size along each axis."""

MODES = ("zeros", "reflect", "replicate", "circular")

Options = dict[str, object]


def convolutions(dims: int) -> Iterator[nn.Module]:
    kernel = KERNELS[:dims]
    for stride, padding, dilation, groups, mode, bias in product(
        (1, 2, 4), (0, 1, 2, "same", "valid"), (1, 2), (1, 2), MODES, (True, False)
    ):  # fmt: skip
        is_allowed = (padding != "same" or stride == 1) and not (dims == 3 and mode == "reflect" and groups == 2)
        if is_allowed:
            yield CONVOLUTIONS[dims - 1](
                2, 4, kernel, stride, padding, dilation, groups, bias, mode
            )  # fmt: skip


def transposed(dims: int) -> Iterator[nn.Module]:
    kernel = KERNELS[:dims]
    for stride, padding, dilation, groups, extra in product((1, 2, 4), (0, 1, 2), (1, 2), (1, 2), (0, 1)):
        if extra < max(stride, dilation):
            yield TRANSPOSED[dims - 1](
                2, 4, kernel, stride, padding, output_padding=extra, groups=groups, dilation=dilation
            )  # fmt: skip


def brute_force(conv: nn.Module, x: Tensor, **options: object) -> int:
    """Accumulations for spikes x: with weights of 1 and no bias, each adds 1 to the output."""
    with torch.no_grad():
        conv.weight.fill_(1.0)  # type: ignore[operator, union-attr]
        if conv.bias is not None:
            conv.bias.zero_()  # type: ignore[operator, union-attr]
        return int(conv(x, **options).sum())


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", [convolutions, transposed])
def test_conv_fan_out_equals_brute_force_for_all_options(kind: object, dims: int) -> None:
    places, number = PLACES[:dims], 0
    spikes = (torch.rand(2, 2, *places) < 0.3).float()
    for conv in kind(dims):  # type: ignore[operator]
        fan_out = conv_fan_out(conv, *places)
        counted = int((spikes.sum(dim=(0, 1)) * fan_out).sum())
        assert counted == brute_force(conv, spikes), conv
        assert output_places(conv, *places) == conv(spikes).shape[2:], conv
        number += 1
    assert number > 50


@pytest.mark.parametrize("mode", MODES)
def test_conv_fan_out_is_that_of_each_place_by_itself(mode: str) -> None:
    conv = nn.Conv2d(2, 6, (3, 2), stride=(2, 1), padding=(2, 1), padding_mode=mode)
    fan_out = conv_fan_out(conv, 5, 4)
    for row, column in product(range(5), range(4)):
        spike = torch.zeros(1, 2, 5, 4)
        spike[0, 1, row, column] = 1.0
        assert brute_force(conv, spike) == (fan_out if isinstance(fan_out, int) else fan_out[row, column])


def test_conv_fan_out_is_one_number_if_all_places_are_equal() -> None:
    assert conv_fan_out(nn.Conv2d(3, 3, 1), 7, 6) == 3
    assert conv_fan_out(nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"), 7, 6) == 54


def test_conv_fan_out_of_a_transposed_convolution_depends_on_the_output_asked_for() -> None:
    conv, spikes = nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1), torch.ones(1, 2, 3, 3)
    for output in ((5, 5), (6, 5), (6, 6)):
        fan_out = conv_fan_out(conv, 3, 3, output=output)
        assert 2 * int(torch.as_tensor(fan_out).sum()) == brute_force(conv, spikes, output_size=output)


class Resized(nn.Module):
    """A transposed convolution that is asked for a size of its own."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.site, self.up, self.size = QCFS(4, 0.5), nn.ConvTranspose2d(1, 2, 3, stride=2, padding=1), size

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.site(x), output_size=None if self.size is None else [self.size, self.size])
        return y.flatten(1)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
@pytest.mark.parametrize("size", [None, 6])
def test_simulate_counts_transposed_convolutions(coding: str, size: int | None) -> None:
    x = torch.rand(2, 1, 3, 3)
    model = Resized(size)
    snn = mst.convert(model, coding, x)
    spikes: list[Tensor] = []
    snn.network.site.register_forward_hook(lambda m, i, y: spikes.append(y.clone()))  # type: ignore[union-attr]
    result = mst.simulate(snn, x, 4, steps_per_chunk=1)
    (count,) = result.operations
    assert result.uncounted == ()
    assert count.operation.dense_macs == 9 * 2 * 9
    with torch.inference_mode():
        shown = torch.stack(spikes[-int(result.steps_taken.max()) :])
    sent = shown if coding == "rate" else torch.cat([shown[:1], shown[1:] - shown[:-1]])
    options = {} if size is None else {"output_size": [size, size]}
    expected = [brute_force(model.up, (step != 0).float(), **options) for step in sent]
    assert count.acs_per_step.tolist()[: len(expected)] == expected
    assert sum(expected) > 0
    assert mst.estimate_energy(result).ann.num_macs == 162


class PaddedInside(nn.Conv2d):
    """A subclass that pads by itself, with other places."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1), "circular"))


def test_simulate_bills_a_convolution_of_unknown_reach_as_dense() -> None:
    model = nn.Sequential(QCFS(4, 0.5), PaddedInside(1, 2, 3), nn.Flatten())
    result = mst.simulate(mst.convert(model, example=torch.rand(1, 1, 4, 4)), torch.rand(2, 1, 4, 4), 3)
    (count,) = result.operations
    assert (count.operation.sources, count.operation.dense_macs) == ((), 2 * 16 * 9)
