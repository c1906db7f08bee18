"""The tracer on small networks, and how facts about tensors combine."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.dataflow import Flow, trace_dataflow
from mst.dataflow.values import averaged, computed, moved, tensors_in
from mst.neurons import QCFS, IFNeuron

A, B = frozenset("a"), frozenset("b")


def neuron(site: str) -> IFNeuron:
    return IFNeuron.from_qcfs(QCFS(4, 1.0), site)


class Chain(nn.Module):
    """Image -> convolution, norm, neuron, (function) -> linear map -> neuron -> head."""

    def __init__(self, function: object = None) -> None:
        super().__init__()
        self.conv, self.norm, self.a = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), neuron("a")
        self.fc, self.b, self.head = nn.Linear(32, 4), neuron("b"), nn.Linear(4, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.norm(self.conv(x))).flatten(1)
        x = x if self.function is None else self.function(x)  # type: ignore[operator]
        y: Tensor = self.head(self.b(self.fc(x)))
        return y


IMAGE = torch.rand(1, 1, 4, 4)


def test_trace_dataflow_finds_depths_drivers_and_norms_that_fold() -> None:
    seen = trace_dataflow(Chain().eval(), IMAGE, (nn.Linear, nn.Conv2d))
    assert seen.obstacles == []
    assert seen.depths == {"a": 0, "b": 1}
    assert seen.foldable == {"norm": "conv"}
    assert seen.free_norms == {"norm"}
    assert [call.path for call in seen.calls] == ["conv", "fc", "head"]
    flows = [call.flows[0] for call in seen.calls]
    assert [flow.spikes_of for flow in flows if flow is not None] == [frozenset(), A, B]
    assert [flow.is_static for flow in flows if flow is not None] == [True, False, False]


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (torch.tanh, "tanh in the forward of Chain"),
        (lambda x: x * x, "mul of two activations"),
        (lambda x: 1 / (x + 1), "division by an activation"),
        (lambda x: x / (x.sum() + 1), "div of two activations"),
        (lambda x: torch.sigmoid(x), "sigmoid has no"),
    ],
)
def test_trace_dataflow_notes_a_function_as_obstacle_or_as_analog(function: object, what: str) -> None:
    network = Chain(function).eval()
    (obstacle,) = trace_dataflow(network, IMAGE).obstacles
    assert obstacle.what.startswith(what)
    carried = trace_dataflow(network, IMAGE, any_function=True)
    assert carried.obstacles == []
    assert carried.analog == [obstacle]


def test_trace_dataflow_names_functions_whose_cost_is_not_known() -> None:
    def attention(x: Tensor) -> Tensor:
        x = x.view(1, 4, 8)
        return F.scaled_dot_product_attention(x, x, x).flatten(1)

    seen = trace_dataflow(Chain(attention).eval(), IMAGE, (nn.Linear,), any_function=True)
    assert seen.uncounted == ["conv (conv2d)", "(the network itself) (scaled_dot_product_attention)"]
    (analog,) = seen.analog
    assert "hides products of activations and a softmax" in analog.what
    fused = nn.MultiheadAttention(4, 2, batch_first=True).eval()

    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.attention = neuron("a"), fused

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            y: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return y

    obstacles = trace_dataflow(Fused().eval(), torch.rand(1, 3, 4)).obstacles
    assert any("hides products of activations and a softmax" in each.what for each in obstacles)


def test_trace_dataflow_of_changing_images_refuses_functions_before_the_first_neuron() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = neuron("a")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(torch.tanh(x))
            return y

    assert trace_dataflow(Before(), torch.rand(1, 3)).obstacles == []
    (obstacle,) = trace_dataflow(Before(), torch.rand(1, 3), is_static=False).obstacles
    assert "tanh" in obstacle.what


def test_moved_spikes_are_spikes_if_all_are() -> None:
    a, b, analog = Flow(A, is_static=False, depth=1), Flow(B, is_static=False, depth=2), Flow(depth=3)
    assert moved([a, b]).spikes_of == A | B
    assert moved([a, analog]).spikes_of == frozenset()
    assert moved([a, analog]).depth == 3
    assert not moved([a, analog]).is_static
    assert moved([a, Flow(B, pooled=4)]).spikes_of == frozenset()
    assert moved([Flow(A, pooled=4, since_map=(7,))]).pooled == 4
    assert moved([Flow(since_map=(7,))]).since_map == (7,)
    assert moved([Flow(since_map=(7,)), analog]).since_map == ()


def test_computed_values_are_analog_and_keep_what_awaits_a_neuron() -> None:
    norm = frozenset({("norm", "layer_norm")})
    flow = computed([Flow(A, awaiting=norm, depth=2), Flow(is_static=False)])
    assert (flow.spikes_of, flow.awaiting, flow.depth, flow.is_static) == (frozenset(), norm, 2, False)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "pooled"),
    [
        ("avg_pool2d", (2,), {}, 4),
        ("avg_pool2d", ((1, 2),), {}, 2),
        ("avg_pool2d", (3, 1, 1), {}, 9),
        ("avg_pool2d", (3, 1, 1), {"count_include_pad": False}, None),
        ("avg_pool2d", (3,), {"ceil_mode": True}, None),
        ("avg_pool2d", (2,), {"divisor_override": 3}, None),
        ("adaptive_avg_pool2d", (2,), {}, 4),
        ("adaptive_avg_pool2d", (3,), {}, None),
    ],
)
def test_averaged_spikes_add_up_where_windows_are_equal(
    name: str, args: tuple[object, ...], kwargs: dict[str, object], pooled: int | None
) -> None:
    source = torch.rand(1, 1, 4, 4)
    output = getattr(F, name)(source, *args, **kwargs)
    flow = averaged(name, Flow(A, is_static=False), source, output, (source, *args), kwargs)
    assert flow.spikes_of == (frozenset() if pooled is None else A)
    assert flow.pooled == (pooled or 1)


def test_tensors_in_looks_into_lists_and_dictionaries() -> None:
    x, y, z = torch.rand(3, 1)
    assert [int(torch.equal(each, expected)) for each, expected in zip(
        tensors_in([x, (1, [y]), {"z": z, "n": None}]), (x, y, z), strict=True)] == [1, 1, 1]  # fmt: skip


def test_trace_dataflow_reports_a_tensor_that_meets_a_single_number_of_the_batch() -> None:
    seen = trace_dataflow(Chain(lambda x: x + torch.maximum(torch.zeros(3), x.max()).sum()).eval(), IMAGE)
    assert any("maximum" in each.what for each in seen.obstacles)
