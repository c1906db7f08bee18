"""Computations that rate coding cannot carry are refused where they are; what is constant over time is carried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mst


class GELUBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.act = nn.Linear(6, 6), mst.QCFS()
        self.norm = nn.LayerNorm(6)
        self.rnn = nn.LSTM(6, 6, batch_first=True)
        self.encoder = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.map(x))
        x = self.act(self.norm(x))
        x = torch.ops.aten.gelu(x)  # functions that are not modules
        x, _ = self.rnn(x)
        x, _ = self.encoder(x, x, x)
        x = 1.0 / (1.0 + x * x)
        return torch.where(x > 0.5, x, -x).mean(dim=1)


def test_convert_lists_all_places_at_once_also_those_in_c_functions() -> None:
    with pytest.raises(mst.ConversionError) as refused:
        mst.convert(GELUBlock(), example=torch.rand(2, 3, 6))
    said = {str(obstacle).partition(";")[0] for obstacle in refused.value.obstacles}
    assert said == {
        "norm: layer_norm before the neuron act",
        "act: used several times in one pass",
        "(the network itself): gelu in the forward of GELUBlock has no spiking counterpart",
        "rnn: lstm hides its activations in one function",
        "encoder: multi_head_attention_forward hides products of activations and a softmax in one function",
        "(the network itself): mul of two activations",
        "(the network itself): division by an activation",
        "(the network itself): gt in the forward of GELUBlock has no spiking counterpart",
        "(the network itself): where in the forward of GELUBlock has no spiking counterpart",
    }


def test_simulate_examines_a_network_converted_without_an_image() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act = nn.Linear(4, 4), mst.QCFS()

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.act(self.map(x)))

    snn = mst.convert(Hidden())
    assert not snn.examined
    for record in (True, False):
        with pytest.raises(mst.ConversionError, match="tanh in the forward of Hidden has no spiking counterpart"):
            mst.simulate(snn, torch.rand(2, 4), 2, record_operations=record)


def test_what_comes_before_the_first_neuron_may_be_anything_constant() -> None:
    model = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), mst.QCFS(4, 1.0), nn.Linear(6, 2)).double()
    x = torch.rand(3, 6).double()
    result = mst.simulate(mst.convert(model, example=x), x, 4)
    torch.testing.assert_close(result.logits, model(x), rtol=1e-12, atol=1e-12)


def test_a_gate_that_depends_on_the_image_alone_is_a_weight() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.map, self.act, self.head = (
                nn.Linear(4, 4),
                nn.Linear(4, 4),
                mst.QCFS(4, 1.0),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.map(x)) * torch.sigmoid(self.gate(x)) / (1 + x.square()))

    model, x = Gated().double(), torch.rand(3, 4).double()
    result = mst.simulate(mst.convert(model, example=x), x, 4)
    torch.testing.assert_close(result.logits, model(x), rtol=1e-12, atol=1e-12)


def test_batch_norm_without_running_statistics_is_refused() -> None:
    layers = [nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)]
    model = nn.Sequential(*layers, nn.Flatten())
    with pytest.raises(mst.ConversionError, match="3: BatchNorm without running statistics mixes images and steps"):
        mst.convert(mst.quantize(model, 4, [torch.rand(8, 1, 3, 3)]))


def test_values_from_untraced_code_are_refused_where_they_are_used() -> None:
    class Shifted(nn.Module):
        def __init__(self, in_view: bool) -> None:
            super().__init__()
            self.conv, self.act, self.head, self.in_view = nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), in_view

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.conv(x))
            out = torch.zeros_like(h)
            if self.in_view:
                out[:, 2:].copy_(h[:, :2])
            else:
                out[:, 2:] = h[:, :2]
            return self.head(out).mean((2, 3))

    x = torch.rand(3, 2, 4, 4)
    snn = mst.convert(mst.quantize(Shifted(in_view=False), 4, [x]))
    result = mst.simulate(snn, x, 4)
    assert result.operations[1].operation.sources == ("act",)
    with pytest.raises(mst.ConversionError, match="the output was made by code that torch does not show"):
        mst.convert(mst.quantize(Shifted(in_view=True), 4, [x]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_function_is_refused() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act, self.head = nn.Linear(4, 4), mst.QCFS(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(hidden(self.act(self.map(x))))

    def plain(x: Tensor) -> Tensor:
        return torch.exp(-x)

    hidden = torch.jit.script(plain)
    with pytest.raises(mst.ConversionError, match="code that torch does not show|no spiking counterpart"):
        mst.convert(Scripted(), example=torch.rand(2, 4))
