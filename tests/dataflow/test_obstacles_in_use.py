"""Only what reaches a neuron or the output is an obstacle, and its remedy depends on its role."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.dataflow import Dataflow, trace_dataflow
from mst.neurons import QCFS, IFNeuron

Function = Callable[["Net", Tensor], Tensor]


def neuron(site: str) -> IFNeuron:
    return IFNeuron.from_qcfs(QCFS(4, 1.0), site)


class Net(nn.Module):
    """Linear map, neuron, a function, linear map, neuron, head."""

    def __init__(self, function: Function, end: nn.Module | None = None) -> None:
        super().__init__()
        self.fc, self.a, self.inner, self.b, self.head = (
            nn.Linear(4, 4), neuron("a"), nn.Linear(4, 4), neuron("b"), nn.Linear(4, 4)
        )  # fmt: skip
        self.end = nn.Identity() if end is None else end
        self.table, self.rate = nn.Parameter(torch.rand(4)), torch.zeros(())
        self.register_buffer("kept", torch.zeros(()))
        self.seen: list[object] = []
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        h = self.function(self, self.a(self.fc(x)))
        y: Tensor = self.end(self.head(self.b(self.inner(h))))
        return y


IMAGE = torch.rand(1, 4)


def traced(function: Function, end: nn.Module | None = None, **options: bool) -> Dataflow:
    return trace_dataflow(Net(function, end).eval(), IMAGE, **options)


def beside(look: Callable[[Net, Tensor], object]) -> Function:
    """A function that looks at the activations and passes them on."""

    def function(net: Net, h: Tensor) -> Tensor:
        look(net, h)
        return h

    return function


def check(is_fine: bool) -> None:
    assert is_fine


def fail(is_bad: bool) -> None:
    if is_bad:
        raise ValueError


SIDE: dict[str, Function] = {
    "an assertion": beside(lambda net, h: check(bool(torch.isfinite(h).all()))),
    "an error that is raised": beside(lambda net, h: fail(torch.isnan(h).any())),  # type: ignore[arg-type]
    "an assertion of a number": beside(lambda net, h: check(h.abs().max().item() < 1e4)),
    "a list of rates": beside(lambda net, h: net.seen.append((h != 0).float().mean())),
    "a list of numbers": beside(lambda net, h: net.seen.append(float((h > 0).float().mean()))),
    "a list of arrays": beside(lambda net, h: net.seen.append(h.detach().numpy().copy())),
    "a metric in a buffer": beside(lambda net, h: net.kept.copy_((h == 0).float().mean())),  # type: ignore[operator]
    "a metric in an attribute": beside(lambda net, h: setattr(net, "rate", torch.sigmoid(h).mean())),
    "a draw": beside(lambda net, h: net.seen.append(h * torch.rand(4))),
    "a draw with a seed": lambda net, h: h + torch.rand(4, generator=torch.Generator().manual_seed(0)),
    "text": beside(lambda net, h: net.seen.append(f"{h.tanh().mean()} {h.relu()}")),
    "a repair that is not needed": lambda net, h: torch.nan_to_num(h) if torch.isnan(h).any() else h,
    "casts between floats": lambda net, h: h.double().to(torch.float32).type(torch.float64).float(),
}


@pytest.mark.parametrize("any_function", [False, True])
@pytest.mark.parametrize("name", SIDE)
def test_trace_dataflow_accepts_what_reaches_neither_neuron_nor_output(name: str, any_function: bool) -> None:
    seen = traced(SIDE[name], any_function=any_function)
    assert (seen.obstacles, seen.analog, seen.uncounted) == ([], [], [])


def test_trace_dataflow_accepts_a_monitor_hook() -> None:
    net, rates = Net(lambda net, h: h).eval(), []
    net.inner.register_forward_pre_hook(lambda m, args: rates.append((args[0] != 0).float().mean()))
    assert trace_dataflow(net, IMAGE).obstacles == []
    assert rates


def into_view(net: Net, h: Tensor) -> Tensor:
    y = torch.zeros(len(h), 4)
    y[:, :2].copy_(h[:, 2:].tanh())
    return y


def through_view(net: Net, h: Tensor) -> Tensor:
    h = h * 1.0
    h[:, :2].tanh_()
    return h


def through_numpy(net: Net, h: Tensor) -> Tensor:
    return torch.from_numpy(h.detach().numpy() * 2)


def branch(net: Net, h: Tensor) -> Tensor:
    return h * 2 if h.sum() > 1e4 else h


def limit(net: Net, h: Tensor) -> Tensor:
    return h if h.max().item() < 1e4 else h / 2


USED: dict[str, tuple[Function, str]] = {
    "a branch": (branch, "bool() makes a value of Python"),
    "a limit as a number": (limit, "item() makes a value of Python"),
    "a factor as a number": (lambda net, h: h * float(h.max()), "float() makes a value of Python"),
    "an index as a number": (lambda net, h: h.roll(int(h.argmax()), 1), "int() makes a value of Python"),
    "an array": (through_numpy, "numpy() makes a value of Python"),
    "a comparison": (lambda net, h: h if torch.allclose(h, h + 1) else h + 1, "allclose() makes a value of Python"),
    "a write into a view": (through_view, "tanh in the forward of Net"),
    "a copy into a view": (into_view, "its input was made by code that torch does not show"),
    "a mask": (lambda net, h: h * (h > 0.5), "gt in the forward of Net"),
    "an index": (lambda net, h: h[:, h.argsort()[0]], "argsort in the forward of Net"),
}


@pytest.mark.parametrize("name", USED)
def test_trace_dataflow_refuses_what_comes_back(name: str) -> None:
    function, what = USED[name]
    assert what in " ".join(map(str, traced(function).obstacles))


def test_trace_dataflow_refuses_values_of_python_under_every_coding() -> None:
    (obstacle,) = traced(branch, any_function=True).obstacles
    assert "bool() makes a value of Python of activations, and the answer depends on it" in str(obstacle)


CASTS: dict[str, Function] = {
    "to": lambda net, h: h.to(torch.int32).float(),
    "long": lambda net, h: h.long() * 1.0,
    "int": lambda net, h: h.int() + net.table,
    "byte": lambda net, h: h.byte().float(),
    "bool": lambda net, h: h.bool().float(),
    "type": lambda net, h: h.type(torch.int64).type(torch.float32),
    "type by name": lambda net, h: h.type("torch.IntTensor").float(),
    "type_as": lambda net, h: h.type_as(torch.zeros(1, dtype=torch.int64)).float(),
    "to another tensor's": lambda net, h: h.to(torch.zeros(1, dtype=torch.int64)).float(),
    "copy_": lambda net, h: torch.zeros(1, 4, dtype=torch.int64).copy_(h).float(),
    "setitem": lambda net, h: written(h).float(),
    "view": lambda net, h: h.view(torch.int32).float(),
    "sum": lambda net, h: h[..., None].sum(-1, dtype=torch.int64).float(),
    "float8": lambda net, h: h.to(torch.float8_e4m3fn).float(),
    "aten": lambda net, h: torch.ops.aten._to_copy(h, dtype=torch.int64).float(),
    "rounding": lambda net, h: torch.div(h, 0.3, rounding_mode="floor"),
}


def written(h: Tensor) -> Tensor:
    y = torch.zeros(1, 4, dtype=torch.int64)
    y[:, :] = h
    return y


@pytest.mark.parametrize("name", CASTS)
def test_trace_dataflow_refuses_a_cast_that_computes(name: str) -> None:
    seen = traced(CASTS[name])
    assert len(seen.obstacles) >= 1
    assert traced(CASTS[name], any_function=True).analog == seen.obstacles


def test_trace_dataflow_reports_that_a_cast_to_half_precision_rounds() -> None:
    seen = traced(lambda net, h: h.half().float())
    assert seen.obstacles == []
    (place,) = seen.approximate
    assert "half from float32 to float16 rounds the values of each step" in place.what


@pytest.mark.parametrize(
    "function",
    [
        lambda net, h: F.dropout(h, 0.5),
        lambda net, h: h + torch.rand_like(h),
        lambda net, h: h[:, torch.randperm(4)],
        lambda net, h: h * torch.empty(4).bernoulli_(0.5),
        lambda net, h: h if torch.rand(1).item() < 0.5 else h * 2,
    ],
)
@pytest.mark.parametrize("any_function", [False, True])
def test_trace_dataflow_refuses_chance_under_every_coding(function: Function, any_function: bool) -> None:
    (obstacle,) = traced(function, any_function=any_function).obstacles
    assert "random" in obstacle.what or "value of Python" in obstacle.what


def test_trace_dataflow_refuses_batch_statistics_also_before_the_first_neuron() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.a = nn.BatchNorm2d(2, track_running_stats=False), neuron("a")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(self.norm(x))
            return y

    for any_function in (False, True):
        (obstacle,) = trace_dataflow(First().eval(), torch.rand(1, 2, 3, 3), any_function=any_function).obstacles
        assert "BatchNorm without running statistics mixes images" in obstacle.what


class Constant(nn.Module):
    """A learned token, a table and its MLP beside the image."""

    def __init__(self, reads_image: bool = True) -> None:
        super().__init__()
        self.fc, self.a, self.head = nn.Linear(4, 4), neuron("a"), nn.Linear(4, 2)
        self.table, self.mlp, self.b = nn.Parameter(torch.rand(3, 5)), nn.Linear(5, 4), neuron("b")
        self.reads_image = reads_image

    def forward(self, x: Tensor) -> Tensor:
        bias = self.b(self.mlp(torch.tanh(self.table))).mean(0)
        y: Tensor = self.head(self.a(self.fc(x)) + bias if self.reads_image else bias[None].expand(len(x), 4))
        return y


def test_trace_dataflow_finds_constants() -> None:
    seen = trace_dataflow(Constant(), IMAGE, (nn.Linear,))
    assert seen.obstacles == []
    assert seen.constants == ["b"]


def test_trace_dataflow_refuses_an_output_that_depends_on_no_image() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(1, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * 2

    (obstacle,) = trace_dataflow(Deaf(), IMAGE).obstacles
    assert str(obstacle).startswith("(the network itself): the output depends on no image")


READ_OUT = "read the network out before it: convert it without this function, and apply that to result.logits"

ENDS: list[tuple[nn.Module, str]] = [
    (nn.LogSoftmax(-1), READ_OUT),
    (nn.Sigmoid(), READ_OUT),
    (nn.Tanh(), READ_OUT),
    (nn.Sequential(nn.GELU(), nn.Flatten()), READ_OUT),
    (nn.Sequential(nn.GELU(), nn.Linear(4, 2)), "also=(GELU,)"),
    (nn.Sequential(nn.Sigmoid(), nn.Linear(4, 2)), "also=(Sigmoid,)"),
    (nn.Sequential(nn.PReLU(), nn.Linear(4, 2)), "also=(PReLU,)"),
    (nn.Sequential(nn.LogSoftmax(-1), nn.Linear(4, 2)), "leave it out, or build it from linear maps"),
]


@pytest.mark.parametrize(("end", "remedy"), ENDS, ids=lambda each: each if isinstance(each, str) else repr(each))
def test_remedy_depends_on_whether_the_function_is_the_output(end: nn.Module, remedy: str) -> None:
    (obstacle,) = traced(lambda net, h: h, end).obstacles
    assert remedy in obstacle.remedy


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (lambda net, h: h.amax(-1, keepdim=True).expand(1, 4), "nn.AdaptiveMaxPool2d(1)"),
        (lambda net, h: h.max(-1, keepdim=True)[0].expand(1, 4), "nn.AdaptiveMaxPool2d(1)"),
        (lambda net, h: F.lp_pool1d(h[:, None], 2, 2).repeat(1, 1, 2)[:, 0], "nn.AvgPool1d or nn.MaxPool1d"),
        (lambda net, h: h * torch.sigmoid(net.fc(h)), "leave out the gate"),
        (lambda net, h: torch.sigmoid(net.fc(h)), "make it a module of its own"),
        (lambda net, h: h.sort(-1)[0], "leave it out, or build it from linear maps"),
    ],
)
def test_remedy_fits_the_function(function: Function, remedy: str) -> None:
    assert remedy in traced(function).obstacles[0].remedy


@pytest.mark.parametrize("end", [nn.Softmax(-1), nn.LayerNorm(4)])
def test_softmax_and_norm_at_the_output_are_approximate_under_rate_coding(end: nn.Module) -> None:
    (place,) = traced(lambda net, h: h, end).approximate
    assert "at the output is computed at each step" in place.what
    assert traced(lambda net, h: h, end, any_function=True).approximate == []
    assert traced(lambda net, h: h, nn.Sequential(end, nn.Linear(4, 2))).approximate == []


def test_trace_dataflow_reports_that_the_network_returns_no_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ValueError, match="Pair: it returns a tuple of Tensor, Tensor, but a network takes one tensor"):
        trace_dataflow(Pair(), IMAGE)


class Swish(nn.Module):
    """An activation that a user has written: no parts, no weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Scaled(nn.Module):
    """Not an activation: a QCFS in its place would lose its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * self.weight


def test_remedy_replaces_a_module_only_if_nothing_is_lost() -> None:
    for obstacle in traced(lambda net, h: h, nn.Sequential(Swish(), nn.Linear(4, 2))).obstacles:
        assert "also=(Swish,)" in obstacle.remedy
    (obstacle,) = traced(lambda net, h: h, nn.Sequential(Scaled(), nn.Linear(4, 2))).obstacles
    assert "put the activation into a module of its own" in obstacle.remedy


def test_remedy_for_a_maximum_over_the_batch_is_not_a_pool() -> None:
    for function in (lambda net, h: h - h.max(), lambda net, h: h - h.amax(0)):
        assert traced(function).obstacles[0].remedy == "let it act on each image alone, not on the batch"


class Gated(nn.Module):
    """A gate whose sigmoid is a module of a user's class."""

    def __init__(self) -> None:
        super().__init__()

        class Sigmoid(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.sigmoid(x)

        self.fc, self.gate, self.head = nn.Linear(4, 4), Sigmoid(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x * self.gate(self.fc(x)))
        return y


def test_remedy_for_a_gate_of_a_users_class_leaves_the_gate_out() -> None:
    gate, product = traced(lambda net, h: h, Gated()).obstacles
    assert "leave out the gate" in gate.remedy
    assert "leave a gate" in product.remedy
