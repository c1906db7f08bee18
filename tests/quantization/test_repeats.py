"""Modules that are called several times in one pass: a site, and neurons, for each call."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import find_sites
from mst.quantization.calibration import acting_as_relu


class Layer(nn.Module):
    """A layer of a Transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.mlp = nn.Linear(6, 18), nn.LayerNorm(6), nn.Sequential(nn.Linear(6, 6), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.mlp(self.norm(x))


class Deep(nn.Module):
    """One layer for every depth, a position encoding under two names, and a map that reads the image and more."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.depth, self.layer, self.embed, self.head = depth, Layer(), nn.Linear(6, 6), nn.Linear(6, 3)
        position = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.first, self.second = nn.ModuleList([position]), nn.ModuleList([position])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.embed(torch.tanh(self.embed(x)))
        for _ in range(self.depth):
            x = self.layer(x)
        return self.head(self.second[0](self.first[0](x)).mean(1))


def images() -> Tensor:
    return torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def quantized() -> nn.Module:
    return mst.quantize(Deep().double().eval(), 15, images(), placement="products").eval()


def test_module_called_several_times_has_neurons_for_each_call(quantized: nn.Module, tmp_path: Path) -> None:
    x, sites = images(), find_sites(quantized)
    for name in ("layer.qkv.input_site", "layer.attention.query", "layer.mlp.0.input_site", "first.0.0.input_site"):
        again = name.replace("attention", "attention_2") if "attention" in name else f"{name}_2"
        assert not torch.equal(sites[name].threshold, sites[again].threshold)
    assert {"embed.input_site", "embed.input_site_2"} & set(sites) == {
        "embed.input_site"
    }  # its first call reads images
    with torch.no_grad(), acting_as_relu(quantized, {}):
        torch.testing.assert_close(quantized(x), Deep().double().eval()(x), rtol=1e-12, atol=1e-12)
    expected = quantized(x).detach()
    result = mst.simulate(mst.convert(quantized, "lossless", burst=15, schedule="plain"), x, 60)
    torch.testing.assert_close(result.logits, expected, rtol=1e-9, atol=1e-9)
    assert set(result.sites) == set(sites)
    assert [each.operation.name for each in result.operations if int(each.macs_per_step.sum())][:2] == [  # type: ignore[union-attr]
        "embed",
        "layer.attention.softmax",
    ]
    for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert torch.equal(copied(x), expected)
    mst.save_checkpoint(quantized, tmp_path / "x.safetensors")
    loaded = mst.load_checkpoint(
        tmp_path / "x.safetensors", model=mst.quantize(Deep().double(), 15, example=x, placement="products")
    )
    assert torch.equal(loaded.double()(x), expected)


def test_calls_are_told_apart_where_another_object_stands_for_the_module() -> None:
    model = mst.quantize(Deep().double().eval(), 15, images(), placement="products").eval()
    expected = model(images())
    stand_in = nn.Module.__new__(Layer)  # as torch.export does
    stand_in.__class__ = type(model.layer)
    stand_in.__dict__ = model.layer.__dict__
    first = model.layer
    model.register_forward_pre_hook(lambda *_: model._modules.update(layer=first))
    model.layer.register_forward_hook(lambda *_: model._modules.update(layer=stand_in))
    assert torch.equal(model(images()), expected)


def test_call_that_quantize_did_not_see_is_refused(quantized: nn.Module) -> None:
    deeper = copy.deepcopy(quantized)
    deeper.depth = 3
    with pytest.raises(InputError, match="a Linear is called more than 2 times in one pass, as often as when the"):
        deeper(images())
    with pytest.raises(InputError, match="outside the forward of the network, which numbers its calls; call the net"):
        deeper.layer(images())
    deeper.depth = 2
    assert torch.equal(deeper(images()), quantized(images()))  # the failed passes have left nothing behind


def test_network_with_repeated_calls_may_be_part_of_another() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), Deep()).double().eval()
    quantized = mst.quantize(model, 15, images(), placement="products").eval()
    part, whole = quantized[2], quantized(images())
    assert torch.equal(part(quantized[1](quantized[0](images()))), whole)
