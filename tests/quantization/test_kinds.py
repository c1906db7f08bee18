"""Products that are functions, in every spelling: equal to torch's own, settled, and counted one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.neurons import SpikingNeuron, current_run
from mst.quantization.calibration import acting_as_relu

Reach = Callable[[Any, dict[str, Tensor]], Tensor]


class Net(nn.Module):
    """Two maps of the image, a product of what they return, and a head."""

    def __init__(self, how: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.how, self.first, self.second = how, nn.Linear(6, 6), nn.Linear(6, 6)
        self.matrix, self.kernel = nn.Parameter(torch.randn(6, 6) / 3), nn.Parameter(torch.randn(4, 2, 3) / 3)
        self.cube, self.bias = nn.Parameter(torch.randn(5, 6, 6) / 4), nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.how(self, self.first(x), self.second(x))
        return self.head(F.gelu(y.flatten(2).transpose(1, 2)[..., :1].mean(1).expand(-1, 6) + self.bias))


def heads(x: Tensor) -> Tensor:
    """[B, N, 6] -> [B, 2, N, 3]."""
    return x.unflatten(-1, (2, 3)).transpose(1, 2)


def both(name: str, multiply: Callable[[Tensor, Tensor], Tensor]) -> Reach:
    """Values that the spikes of two operands reach."""

    def reach(net: Any, spikes: dict[str, Tensor]) -> Tensor:
        left, right = spikes[f"{name}.left"], spikes[f"{name}.right"]
        return multiply(left, torch.ones_like(right)) + multiply(torch.ones_like(left), right)

    return reach


def ones(parameter: Tensor) -> Tensor:
    return torch.ones_like(parameter, requires_grad=False)


FORMS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], Reach]] = {
    "einsum of two": (
        lambda net, a, b: torch.einsum("bid,bjd->bij", a, b),
        both("einsum", lambda a, b: torch.einsum("bid,bjd->bij", a, b)),
    ),
    "einsum of weights": (
        lambda net, a, b: torch.einsum("bni,oij->bnoj", a, net.cube).flatten(2),
        lambda net, spikes: torch.einsum("bni,oij->bnoj", spikes["einsum.left"], ones(net.cube)),
    ),
    "bilinear": (
        lambda net, a, b: F.bilinear(a, b, net.cube),
        lambda net, spikes: torch.cat(
            [
                torch.einsum("bni,oij->bnoj", spikes["einsum.left"], ones(net.cube)).flatten(),
                spikes["einsum.left_2"].flatten(),
                torch.einsum("bnj,o->bnoj", spikes["einsum.right_2"], ones(net.bias[:5])).flatten(),
            ]
        ),
    ),
    "addmm": (
        lambda net, a, b: torch.addmm(net.bias, a[:, 0], net.matrix, beta=0.5, alpha=2)[..., None],
        lambda net, spikes: spikes["addmm.left"] @ ones(net.matrix),
    ),
    "baddbmm": (
        lambda net, a, b: torch.baddbmm(input=b[..., :5], batch1=a, batch2=b.mT, beta=0),
        both("addmm", lambda a, b: a @ b),
    ),
    "convolution": (
        lambda net, a, b: F.conv1d(a[:, :4], net.kernel, None, 2, 1, groups=2),
        lambda net, spikes: F.conv1d(spikes["convolution.input_site"], ones(net.kernel), None, 2, 1, groups=2),
    ),
    "transposed": (
        lambda net, a, b: F.conv_transpose1d(a[:, :4], net.kernel, stride=2, padding=1, output_padding=1),
        lambda net, spikes: F.conv_transpose1d(
            spikes["convolution.input_site"], ones(net.kernel), stride=2, padding=1, output_padding=1
        ),
    ),
    "keys for all heads": (
        lambda net, a, b: heads(a) @ b[:, None, :, :3].mT,
        both("matmul", torch.matmul),
    ),
}
"""A product of two activations [B, 5, 6] -> [B, ...], and the values that the spikes of its sites reach."""


@pytest.mark.parametrize("form", FORMS)
def test_product_settles_and_each_spike_is_counted_at_all_that_it_reaches(form: str) -> None:
    how, reach = FORMS[form]
    x = torch.randn(1, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Net(how).double().eval()
    quantized = mst.quantize(model, 6, x, placement="products").eval()
    with torch.no_grad(), acting_as_relu(quantized, {}):
        torch.testing.assert_close(quantized(x), model(x), rtol=1e-12, atol=1e-12)
    snn = mst.convert(quantized, "lossless", x, schedule="plain")
    values: dict[Any, dict[str, list[Tensor]]] = {}  # run -> site -> what it sends, at rest and in each step
    for site, neuron in snn.network.named_modules():
        if isinstance(neuron, SpikingNeuron):
            neuron.register_forward_hook(
                lambda *call, site=site: (
                    values.setdefault(current_run(), {}).setdefault(site, []).append(call[2].clone())
                )
            )
    assert snn.longest_settling is not None
    result = mst.simulate(snn, x, snn.longest_settling, steps_per_chunk=1)
    torch.testing.assert_close(result.logits, quantized(x).detach(), rtol=1e-9, atol=1e-9)
    *_, seen = values.values()
    expected = 0.0
    for step in range(1, len(seen["head.input_site"])):
        spikes = {site: (sent[step] != sent[step - 1]).double() for site, sent in seen.items()}
        expected += float(reach(model, spikes).sum())
    products = [
        each for each in result.operations if each.operation.module.split(".")[0] not in ("first", "second", "head")
    ]
    assert expected > 0
    assert sum(int(each.acs_per_step.sum()) for each in products) == expected
    assert sum(int(each.macs_per_step.sum()) for each in products) == 0  # type: ignore[union-attr]
