"""Biases corrected for the shift that quantisation makes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.experiments.options import Placement
from mst.quantization.site_errors import quantising


def images(count: int = 300) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.3


class Net(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.activations = nn.ModuleList([copy.deepcopy(activation) for _ in range(2)])
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3, bias=False)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.free = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activations[1](self.norm(self.second(self.activations[0](self.first(x)))))
        return self.free(torch.tanh(self.head(x.mean((2, 3)))))


def means(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Mean of each channel of the layers that are corrected."""
    found: list[Tensor] = []
    hooks = [
        getattr(model, name).register_forward_hook(
            lambda layer, _, y: found.append(y.movedim(1, -1).flatten(0, -2).mean(0))
        )
        for name in ("norm", "head")
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("placement", ["products", "activations"])
def test_corrected_biases_give_each_channel_its_mean_back(placement: Placement) -> None:
    x = images(200).double()
    plain = Net(nn.GELU() if placement == "products" else nn.ReLU()).double().eval()
    model = mst.quantize(plain, 3, x, placement=placement).eval()
    with quantising(model, ()):
        wanted = means(model, x)
    before = means(model, x)
    assert mst.correct_biases(model, x) == ("first", "norm", "head")  # neither `second` nor `free` has a bias
    assert max(float((a - b).abs().max()) for a, b in zip(before, wanted, strict=True)) > 1e-3
    for after, each in zip(means(model, x), wanted, strict=True):
        torch.testing.assert_close(after, each, rtol=0, atol=1e-9)


def test_bias_correction_changes_biases_alone_and_is_saved(tmp_path: Path) -> None:
    plain, x = Net(nn.GELU()).eval(), images()
    plain.norm.running_mean.normal_()
    model = mst.quantize(plain, 3, x, placement="products").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    by_option = mst.quantize(plain, 3, x, placement="products", bias_correction=True).eval()
    mst.correct_biases(model, x)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"norm.bias", "head.bias"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in by_option.state_dict().items())
    mst.save_checkpoint(by_option, tmp_path / "x.safetensors")
    again = mst.load_checkpoint(tmp_path / "x.safetensors", model=mst.quantize(plain, 3, x, placement="products"))
    assert torch.equal(again.eval()(images(50)), model(images(50)))


def test_biases_of_layers_that_are_called_several_times_or_shared_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.other, self.last = (nn.Linear(72, 72) for _ in range(4))
            self.other.bias = self.last.bias

        def forward(self, x: Tensor) -> Tensor:
            x = self.again(self.again(self.first(x.flatten(1)).tanh()).tanh())
            return self.last(self.other(x).tanh())

    model = mst.quantize(Shared(), 7, images(20), placement="products")
    assert mst.correct_biases(model, images(20)) == ("first",)


def test_correct_biases_refuses_what_it_cannot_correct() -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(72, 8, bias=False), nn.GELU(), nn.Linear(8, 3, bias=False))
    model = mst.quantize(bare, 7, images(20), placement="products")
    with pytest.raises(InputError, match="no linear map, convolution or BatchNorm with a bias of its own"):
        mst.correct_biases(model, images(20))
    with pytest.raises(InputError, match="there are no images to correct biases with"):
        mst.correct_biases(model, images(0))
    trained = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), mst.QCFS(63, 0.05), nn.Linear(8, 3))
    with pytest.raises(
        InputError, match="was trained with quantisation, and its weights and biases are fitted to its levels"
    ):
        mst.correct_biases(trained, images(20))
    with pytest.raises(InputError, match="bias_correction .*give calibration"):
        mst.quantize(bare, 7, example=images(2), placement="products", bias_correction=True)
