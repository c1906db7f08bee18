"""Weights corrected for the errors that quantisation makes in what they multiply."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.experiments.quantizing_options import QuantizingOptions
from mst.quantization.weights import _Call, _operands


def images(count: int = 100) -> Tensor:
    return torch.randn(count, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(4, 8, 1)
        self.wide = nn.Conv2d(8, 8, 3, padding="same", groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head, self.free = nn.Linear(8, 6), nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.wide(F.relu(self.stem(x)))))
        return self.free(F.gelu(self.head(x.mean((2, 3)))))


def error(model: nn.Module, plain: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - plain(x)).norm() / plain(x).norm())


def test_corrected_weights_bring_other_images_nearer_to_the_float_network() -> None:
    plain, x = Net().eval(), images(300)
    model = mst.quantize(plain, 3, x[:200], placement="products").eval()
    by_biases = copy.deepcopy(model)
    mst.correct_biases(by_biases, x[:200])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = error(model, plain, x[200:])
    assert mst.correct_weights(model, x[:200]) == ("stem", "wide", "head", "free")
    assert error(model, plain, x[200:]) < 0.8 * min(start, error(by_biases, plain, x[200:]))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"wide.weight", "norm.running_mean", "head.weight", "head.bias", "free.weight"}


def test_corrected_weights_are_saved(tmp_path: Path) -> None:
    model = mst.quantize(Net().eval(), 3, images(), placement="products").eval()
    mst.correct_weights(model, images())
    mst.save_checkpoint(model, tmp_path / "x.safetensors")
    again = mst.load_checkpoint(
        tmp_path / "x.safetensors", model=mst.quantize(Net(), 3, images(), placement="products")
    )
    assert torch.equal(again.eval()(images(9)), model(images(9)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 6),
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2),
        nn.Conv2d(4, 4, (5, 3), padding="same", groups=4),
        nn.Conv3d(4, 2, 2, padding="valid"),
    ],
)
def test_operands_of_a_map_times_its_weights_are_its_output(layer: nn.Module) -> None:
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    kernel = layer.weight.dim() - 2
    x = torch.randn(3, *((5, 4) if not kernel else (4, *(5, 6, 4)[:kernel])))
    y = layer(x).detach()
    names = ("stride", "padding", "dilation", "groups") if kernel else ()
    options = {name: getattr(layer, name) for name in names} | {"weight_shape": tuple(layer.weight.shape)}
    channels_last = y.movedim(1, -1) if kernel else y
    places = torch.tensor([0, 2, 5, len(channels_last.flatten(0, -2)) - 1])
    rows = _operands(_Call(x, layer.weight, layer.bias, options, lambda: y), y, places)
    weight = layer.weight.reshape(len(rows), -1, rows.shape[2])
    found = (rows @ weight.transpose(1, 2)).transpose(0, 1).reshape(len(places), -1) + layer.bias
    torch.testing.assert_close(found, channels_last.flatten(0, -2)[places])


def test_weights_of_maps_that_are_called_several_times_or_shared_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.other, self.last = (nn.Linear(144, 144) for _ in range(4))
            self.other.weight = self.last.weight

        def forward(self, x: Tensor) -> Tensor:
            x = self.again(self.again(self.first(x.flatten(1)).tanh()).tanh())
            return self.last(self.other(x).tanh())

    model = mst.quantize(Shared(), 7, images(20), placement="products")
    assert mst.correct_weights(model, images(20)) == ("first",)


def test_correct_weights_refuses_what_it_cannot_correct() -> None:
    twice = nn.Linear(144, 144)
    model = mst.quantize(nn.Sequential(nn.Flatten(), twice, nn.GELU(), twice), 7, images(20), placement="products")
    with pytest.raises(InputError, match="no linear map or convolution that is called once"):
        mst.correct_weights(model, images(20))
    with pytest.raises(InputError, match="there are no images to correct weights with"):
        mst.correct_weights(model, images(0))
    trained = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), mst.QCFS(63, 0.05), nn.Linear(8, 3))
    with pytest.raises(InputError, match="was trained with quantisation, and its weights and biases are fitted"):
        mst.correct_weights(trained, images(20))
    with pytest.raises(InputError, match="weight_correction corrects biases too"):
        QuantizingOptions(Path("x.safetensors"), bias_correction=True, weight_correction=True)
