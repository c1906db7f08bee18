"""Functions between the sites: their elementary operations, and the counts of them, against counts by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import QCFS, FiringSchedule
from mst.operations import FunctionCount, trace_operations
from mst.simulation import SimulationResult


class Between(nn.Module):
    """A site, any function, a site."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first: nn.Module = QCFS(4, 1.0)
        self.function = function
        self.last: nn.Module = QCFS(4, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.function(self.first(x)))
        return y.flatten(1)


def counted(result: SimulationResult) -> dict[str, FunctionCount]:
    return {count.function.key[1]: count for count in result.functions}


def simulated(model: nn.Module, x: Tensor, stagger: float = 0.0, **options: Any) -> SimulationResult:
    snn = mst.convert(model.eval(), "lossless", x[:1], schedule=FiringSchedule(1, stagger=stagger))
    return mst.simulate(snn, x, 8, **options)


GATE, DIVIDED = "mul", "div"


def functions_of(a: Tensor) -> list[tuple[str, str, tuple[Tensor, ...], Tensor]]:
    """Each function of `Gates` on activations [B, 2, 3]: its name, its scope, its inputs, and its result."""
    mean = a.mean(-1, keepdim=True)
    gate = torch.sigmoid(mean)
    gelu = F.gelu(a)
    gated = gelu * gate
    total = gated.sum(-1, keepdim=True) + 2
    shares = gated / total
    weights = torch.softmax(shares, dim=1)
    normed = F.group_norm(weights.repeat(1, 2, 1), 2)
    return [
        ("sigmoid", "elements", (mean,), gate),
        ("gelu", "elements", (a,), gelu),
        (GATE, "elements", (gelu, gate), gated),
        (DIVIDED, "quotient", (gated, total), shares),
        ("softmax", "rows", (shares.transpose(1, 2),), weights),
        ("group_norm", "rows", (weights.repeat(1, 2, 1).reshape(-1, 2, 6),), normed),
    ]


@pytest.mark.parametrize(
    "options",
    [{}, {"steps_per_chunk": 3}, {"input_steps": 3}, {"drop_settled": True}, {"stagger": 2, "steps_per_chunk": 3}],
    ids=str,
)
def test_functions_are_counted_where_their_input_has_changed(options: dict[str, Any]) -> None:
    """A gate of squeeze and excitation, a division by a sum, a softmax and a norm, replayed with plain tensors."""
    torch.manual_seed(0)
    x = torch.rand(3, 2, 3, dtype=torch.float64)
    x[0, 0, 1:] = 0.0  # never spike
    got = counted(simulated(Between(lambda a: functions_of(a)[-1][3]).double(), x, **options))
    level, before = torch.zeros_like(x), functions_of(torch.zeros_like(x))
    for t in range(8):
        shown = x * min(1.0, (t + 1) / options.get("input_steps", 1))
        target = torch.clamp(torch.floor(shown * 4 + 0.5), 0, 4)
        level = level + (target - level).sign()
        if t < options.get("stagger", 0):  # the last site may not fire yet, so that nothing is computed for it
            assert all(int(count.elements_per_step[t]) == 0 for count in got.values())  # type: ignore[index]
            continue
        now = functions_of(level / 4)
        for (name, scope, inputs, output), (_, _, earlier, _) in zip(now, before, strict=True):
            changes = [(one - other).abs() > 1e-12 for one, other in zip(inputs, earlier, strict=True)]
            if scope == "rows":
                shared = int(changes[0].any(-1).sum())
                elements = shared * inputs[0].shape[-1]
            else:
                elements = int(torch.stack([change.expand_as(output) for change in changes]).any(0).sum())
                shared = int(changes[1].sum()) if scope == "quotient" else 0
            count = got[name]
            assert count.elements_per_step is not None
            assert count.shared_per_step is not None
            assert (int(count.elements_per_step[t]), int(count.shared_per_step[t])) == (elements, shared), (name, t)
        before = now
    assert 0 < int(got["gelu"].elements_per_step.sum()) < 3 * 6 * 8  # type: ignore[union-attr]
    assert int(got[DIVIDED].shared_per_step.sum()) > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.relu, {"comparison": 6}),
        (lambda x: F.silu(x.clone(), inplace=True), {"exp": 6, "addition": 6, "reciprocal": 6, "multiplication": 6}),
        (torch.tanh, {"multiplication": 12, "exp": 6, "addition": 12, "reciprocal": 6}),
        (F.gelu, {"erf": 6, "multiplication": 18, "addition": 6}),
        (
            lambda x: F.gelu(x, approximate="tanh"),
            {"multiplication": 42, "addition": 24, "exp": 6, "reciprocal": 6},
        ),
        (F.hardswish, {"addition": 6, "comparison": 12, "multiplication": 12}),
        (lambda x: x.clamp(0, 1), {"comparison": 12}),
        (lambda x: x * x, {"multiplication": 6}),
        (lambda x: x * 2 + x.sum(-1, keepdim=True) - x.mean(1, keepdim=True), {}),
        (lambda x: torch.where(x > 0, x, x.abs()), {"comparison": 6}),
        (lambda x: x**3, {"multiplication": 12}),
        (lambda x: x.pow(-0.5 * 2), {"reciprocal": 6}),
        (lambda x: torch.sqrt(x), {"reciprocal_root": 6, "multiplication": 6}),
        (lambda x: 1 / (x + 1), {"reciprocal": 6}),
        (lambda x: 3 / (x + 1), {"reciprocal": 6, "multiplication": 6}),
        (lambda x: x / (x.sum(-1, keepdim=True) + 1), {"reciprocal": 2, "multiplication": 6}),
        (lambda x: x / 2, {}),
        (
            lambda x: torch.softmax(x, -1),
            {"comparison": 6, "addition": 12, "exp": 6, "multiplication": 6, "reciprocal": 2},
        ),
        (
            lambda x: F.layer_norm(x, (2, 3), torch.ones(2, 3), torch.ones(2, 3)),
            {"addition": 4 * 6 + 1, "multiplication": 3 * 6 + 2, "reciprocal_root": 1},
        ),
        (lambda x: F.rms_norm(x, (3,)), {"addition": 6 + 2, "multiplication": 2 * 6 + 2, "reciprocal_root": 2}),
        (
            lambda x: F.group_norm(x, 2),
            {"addition": 3 * 6 + 2, "multiplication": 2 * 6 + 2 * 2, "reciprocal_root": 2},
        ),
        (
            lambda x: F.normalize(x, dim=2),
            {"multiplication": 12, "addition": 6, "comparison": 2, "reciprocal_root": 2},
        ),
        (lambda x: x.amax((1, 2), keepdim=True), {"comparison": 6}),
        (
            lambda x: torch.linalg.norm(x, dim=2, keepdim=True) + x.norm(2, -1, True),
            {"multiplication": 2 * (6 + 2), "addition": 12, "reciprocal_root": 4},
        ),
        (lambda x: F.glu(x.repeat(1, 2, 1), 1), {"exp": 6, "addition": 6, "reciprocal": 6, "multiplication": 6}),
    ],
)
def test_functions_are_taken_apart_into_elementary_operations(
    function: Callable[[Tensor], Tensor], expected: dict[str, float]
) -> None:
    """Of one image [1, 2, 3]: numbers derived by hand from the definition of each function."""
    network = Between(function)
    network.first, network.last = nn.Identity(), nn.Identity()
    trace = trace_operations(network, torch.rand(1, 2, 3), any_function=True, is_examined=True)
    total: dict[str, float] = {}
    for each in trace.functions:
        for kind, number in each.elementary(each.elements, each.shared).items():
            total[kind] = total.get(kind, 0) + number
    assert trace.uncounted == ()
    assert total == expected


def test_functions_under_rate_coding_are_computed_at_every_step() -> None:
    class Early(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    model = nn.Sequential(nn.Linear(3, 4), Early(), nn.Linear(4, 4), QCFS(4, 1.0), nn.Linear(4, 2), nn.Softmax(-1))
    x = torch.rand(5, 3)
    estimate = mst.estimate_energy(mst.simulate(mst.convert(model.eval(), "rate", x), x, 6))
    assert [(row.name, row.evaluations) for row in estimate.functions] == [("1 (tanh)", 6.0), ("5 (softmax)", 6.0)]
    tanh = estimate.functions[0]
    assert tanh.ann.operations.counts == {"multiplication": 8, "exp": 4, "addition": 8, "reciprocal": 4}
    assert tanh.snn.operations == tanh.ann.operations.scaled(6)


@pytest.mark.parametrize("images", [1, 3])
def test_functions_find_the_images_on_any_axis(images: int) -> None:
    """The same softmax and gate, once with the images on the second axis."""

    def usual(a: Tensor) -> Tensor:
        return torch.softmax(a, -1) * torch.sigmoid(a)

    def turned(a: Tensor) -> Tensor:
        a = a.transpose(0, 1)
        return (torch.softmax(a, -1) * torch.sigmoid(a)).transpose(0, 1)

    x = torch.rand(images, 2, 3, dtype=torch.float64)
    results = [simulated(Between(function).double(), x, steps_per_chunk=3) for function in (usual, turned)]
    for one, other in zip(*(result.functions for result in results), strict=True):
        assert int(one.elements_per_step.sum()) > 0  # type: ignore[union-attr]
        assert torch.equal(one.elements_per_step, other.elements_per_step)  # type: ignore[arg-type]
        assert torch.equal(one.shared_per_step, other.shared_per_step)  # type: ignore[arg-type]


def test_functions_of_constants_and_of_what_is_not_used_are_not_counted() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.table, self.last = QCFS(4, 1.0), nn.Parameter(torch.rand(3)), QCFS(4, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            a = self.first(x)
            self.seen = torch.tanh(a)
            y: Tensor = self.last(torch.tanh(a + torch.tanh(self.table)))
            return y

    result = simulated(Aside(), torch.rand(2, 3))
    assert [count.function.name for count in result.functions] == ["(the network itself) (tanh) (3)"]


@pytest.mark.parametrize("stagger", [0.0, 3.0])
def test_functions_that_are_modules_with_a_row_count_as_other_functions(stagger: float) -> None:
    """A softmax that is a module counts as the same softmax that is a function, whether its reader waits or not."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.softmax, self.last = QCFS(4, 1.0), nn.Softmax(1), QCFS(4, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            a = self.first(x)
            y: Tensor = self.last(self.softmax(a) + F.softmax(a, 1))
            return y.flatten(1)

    result = simulated(Both(), torch.rand(3, 2, 3), stagger, steps_per_chunk=2)
    module, function = result.functions
    assert int(function.shared_per_step[: int(stagger)].sum()) == 0  # type: ignore[index]
    assert (module.function.operation, function.function.operation) == ("softmax", "")
    assert int(module.shared_per_step.sum()) > 0  # type: ignore[union-attr]
    assert torch.equal(module.shared_per_step, function.shared_per_step)  # type: ignore[arg-type]
    assert torch.equal(module.elements_per_step, function.elements_per_step)  # type: ignore[arg-type]


@pytest.mark.parametrize("reader", ["map", "output"])
def test_functions_do_not_wait_for_a_site_behind_a_map_or_at_the_output(reader: str) -> None:
    """A map that has no site in front of it works on every change."""

    class Unplaced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.map, self.last = QCFS(4, 1.0), nn.Linear(3, 3), QCFS(4, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            gate = torch.tanh(self.first(x))
            y: Tensor = self.last(self.map(gate)) if reader == "map" else self.last(x) + gate
            return y

    (count,) = simulated(Unplaced(), torch.rand(3, 3) + 0.5, 4.0).functions
    assert int(count.elements_per_step[0]) == 9  # type: ignore[index]


def test_functions_inside_a_norm_for_maps_are_rows_of_channels() -> None:
    """A subclass of LayerNorm that moves the channels last; its row counts along the channels too."""

    class MapNorm(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)

    model = nn.Sequential(QCFS(4, 1.0), MapNorm(2), QCFS(4, 1.0), nn.Flatten())
    x = torch.rand(3, 2, 4, 5)
    result = simulated(model, x)
    (norm,), (function,) = result.operations, result.functions
    assert function.function.operation == ""
    assert function.shared_per_step is not None
    assert norm.macs_per_step is not None
    assert int(function.shared_per_step.sum()) > 0
    assert torch.equal(norm.macs_per_step, function.shared_per_step * 2 * 3)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("sort", lambda a: torch.sort(a, -1)[0]),
        ("linalg_norm", lambda a: a + torch.linalg.norm(a, 1, dim=-1, keepdim=True)),
        ("local_response_norm", lambda a: F.local_response_norm(a, 2)),
    ],
)
def test_functions_without_a_price_are_refused_by_name(name: str, function: Callable[[Tensor], Tensor]) -> None:
    result = simulated(Between(function), torch.rand(2, 2, 3))
    assert result.uncounted == (f"(the network itself) ({name})",)
    with pytest.raises(InputError, match=rf"the cost of these is not known: \(the network itself\) \({name}\)"):
        mst.estimate_energy(result)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: torch.tanh(a) if len(a) < 6 else a.tanh_(),
        lambda a: torch.cat([torch.tanh(part) for part in a.split(6)]),
        lambda a: torch.tanh(a.clone()) if len(a) < 6 else torch.tanh(a.flatten(1)).view(a.shape),
    ],
    ids=["another", "as often as needed", "another shape"],
)
def test_functions_that_are_called_otherwise_for_more_images_are_simulated_but_not_priced(
    function: Callable[[Tensor], Tensor],
) -> None:
    snn = mst.convert(Between(function).eval(), "lossless", torch.rand(1, 2, 3))
    result = mst.simulate(snn, torch.rand(8, 2, 3), 20)
    assert result.num_settled == 8
    if "tanh_" in str(function.__code__.co_names):  # the same function, in place
        assert result.uncounted == ()
        return
    assert result.uncounted == ("(the network itself) (tanh)",)


def test_functions_of_images_that_do_not_lie_one_after_another_have_no_price() -> None:
    """The axis of the images has merged with another before it: steps could not be told apart."""
    turned = Between(lambda a: torch.tanh(a.transpose(0, 1).flatten(0, 1)).view(2, -1, 3).transpose(0, 1))
    result = simulated(turned, torch.rand(3, 2, 3))
    assert result.num_settled == 3
    assert result.uncounted == ("(the network itself) (tanh)",)


def test_function_counts_of_two_shares_add_up() -> None:
    x = torch.rand(4, 2, 3)
    model = Between(torch.tanh)
    whole, one, other = (simulated(model, part) for part in (x, x[:2], x[2:]))
    other = dataclasses.replace(other, uncounted=("a call of fewer images",))
    merged = mst.simulation.merge_results([one, other])
    assert merged.uncounted == ("a call of fewer images",)
    assert torch.equal(merged.functions[0].elements_per_step, whole.functions[0].elements_per_step)  # type: ignore[arg-type]
    assert repr(whole.functions[0]).startswith("FunctionCount((the network itself) (tanh), ")
