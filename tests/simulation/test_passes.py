"""Passes that compute what has changed only: the same run as whole passes, and what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import mst
from conftest import randomise
from mst.errors import InputError
from mst.incremental import Execution
from mst.neurons import QCFS
from mst.simulation import EarlyExit, loop, passes
from mst.simulation.passes import NotIncrementalError, program_for


def network() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(6, 12), QCFS(8, 1.0), nn.Linear(12, 12), QCFS(8, 1.0), nn.Linear(12, 12), QCFS(8, 1.0),
        nn.Linear(12, 3),
    )  # fmt: skip
    randomise(model, 1)
    return model.double().eval()


IMAGES = torch.rand(16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2


def converted(schedule: str = "plain") -> mst.SpikingNetwork:
    return mst.convert(network(), "lossless", IMAGES[:1], schedule=schedule)  # type: ignore[arg-type]


class RowsOfMaps(TorchFunctionMode):
    """Counts the rows that linear maps are given."""

    rows = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is nn.functional.linear:
            self.rows += len(args[0])
        return func(*args, **(kwargs or {}))


def test_incremental_passes_give_maps_the_rows_that_have_changed() -> None:
    rows, results = {}, {}
    for incremental in (True, False):
        for steps in (1, 60):
            with RowsOfMaps() as counted:
                results[incremental] = mst.simulate(converted(), IMAGES, steps, incremental=incremental)
            rows[incremental, steps] = counted.rows
    assert results[True].num_settled == results[False].num_settled == 16
    assert torch.equal(results[True].settled_at, results[False].settled_at)  # type: ignore[arg-type]
    assert results[True].spike_counts == results[False].spike_counts
    assert rows[True, 60] - rows[True, 1] < 0.7 * (rows[False, 60] - rows[False, 1])


def test_answer_is_that_of_the_whole_network_when_what_has_changed_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = Execution.step, []

    def blind(execution: Execution, images: Tensor, all_changed: bool) -> Tensor:
        logits = step(execution, images, all_changed)
        calls.append(1)
        if len(calls) == 2:
            execution._run.unsettled = torch.zeros_like(execution._run.unsettled)  # type: ignore[arg-type]
        return logits

    expected = mst.simulate(converted(), IMAGES, 60, incremental=False)
    monkeypatch.setattr(Execution, "step", blind)
    result = mst.simulate(converted(), IMAGES, 60, incremental=True)
    assert len(calls) == 2  # the trial and the first step; then all is computed
    assert torch.equal(result.settled_at, expected.settled_at)  # type: ignore[arg-type]
    torch.testing.assert_close(result.logits, expected.logits, rtol=0, atol=1e-12)


def test_a_hook_sees_every_step_of_all_images() -> None:
    snn, seen = converted(), []
    handle = snn.network.get_submodule("2").register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    mst.simulate(snn, IMAGES, 5, record_operations=False)
    assert sum(seen) >= 5 * 16
    with pytest.raises(InputError, match="a hook watches a module"):
        mst.simulate(snn, IMAGES, 5, incremental=True)
    handle.remove()
    mst.simulate(snn, IMAGES, 5, incremental=True)


def test_incremental_begins_by_itself_with_the_third_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(loop, "program_for", lambda snn, images: made.append(len(images)) or program_for(snn, images))
    batches = [*IMAGES.split(2), *IMAGES.split(2)][:5]
    expected = mst.simulate(converted(), batches, 60)
    result = mst.simulate(converted(), batches, 60, incremental=None)
    assert made == [2]
    torch.testing.assert_close(result.logits, expected.logits, rtol=0, atol=1e-12)
    assert result.spike_counts == expected.spike_counts
    for one, other in zip(result.operations, expected.operations, strict=True):
        assert torch.equal(one.acs_per_step, other.acs_per_step)


@pytest.mark.parametrize("options", [{"steps_per_chunk": 2}, {"early_exit": EarlyExit("stability", 2)}])
def test_incremental_leaves_out_what_does_not_go_with_it(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "program_for", None)
    monkeypatch.setattr(loop, "WHOLE_BATCHES", 0)
    for snn in (converted(), mst.convert(network(), "rate")):
        mst.simulate(snn, IMAGES, 5, incremental=None, **options)  # type: ignore[arg-type]


def test_incremental_leaves_out_networks_that_do_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise NotIncrementalError("no")

    monkeypatch.setattr(loop, "program_for", refused)
    monkeypatch.setattr(loop, "WHOLE_BATCHES", 0)
    result = mst.simulate(converted(), IMAGES, 60, incremental=None)
    assert torch.equal(result.logits, mst.simulate(converted(), IMAGES, 60).logits)
    with pytest.raises(InputError, match="no"):
        mst.simulate(converted(), IMAGES, 60, incremental=True)


def test_incremental_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(InputError, match="incremental"):
        mst.simulate(mst.convert(network(), "rate"), IMAGES, 5, incremental=True)
    for option in ({"steps_per_chunk": 4}, {"early_exit": EarlyExit("margin", 0.5)}):
        with pytest.raises(InputError, match="one step at a time"):
            mst.simulate(converted(), IMAGES, 5, incremental=True, **option)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="True or False"):
        mst.simulate(converted(), IMAGES, 5, incremental="yes")


class Between(nn.Module):
    """Two sites with a function of the tester's choice between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.one, self.other, self.head = QCFS(8, 1.0), QCFS(8, 1.0), nn.Linear(48, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.other(self.second(self.function(self.one(self.first(x))))).flatten(1))
        return logits


def of_some_images(z: Tensor) -> Tensor:
    dark = (z.amax((1, 2)) < 0.5).nonzero()[:, 0]
    return z.index_fill(0, dark, 0.75) if len(dark) else z


def of_flagged_images(z: Tensor) -> Tensor:
    z = z + 0
    z[z.mean((1, 2)) < 0.5] = 0.0
    return z


def not_of_three(z: Tensor) -> Tensor:
    assert len(z) != 3
    return z


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (of_some_images, "may depend on values"),
        (of_flagged_images, "may depend on values"),
        (not_of_three, "is not possible"),
    ],
    ids=["indices", "flags", "number of images"],
)
def test_incremental_is_refused_where_calls_depend_on_values(function: Callable[[Tensor], Tensor], reason: str) -> None:
    x = torch.rand(16, 6, 8, dtype=torch.float64) * torch.linspace(3, 0.02, 16, dtype=torch.float64)[:, None, None]
    snn = mst.convert(Between(function).double().eval(), "lossless", x[:1])
    with pytest.raises(
        InputError, match=f"incremental simulation of this network is not possible: .*{reason}|{reason}"
    ):
        mst.simulate(snn, x, 4, incremental=True)
    assert mst.simulate(snn, x, 60).num_settled == 16


class Turned(Between):
    """Its first site has an input that lies transposed in memory, so that `contiguous` makes a copy."""

    def __init__(self) -> None:
        super().__init__(torch.abs)

    def forward(self, x: Tensor) -> Tensor:
        z = self.one(self.first(x).transpose(1, 2))
        y = z.contiguous()
        y.mul_(2)
        logits: Tensor = self.head(self.other(self.second((z + y).transpose(1, 2))).flatten(1))
        return logits


def test_incremental_passes_keep_the_order_of_memory_of_the_neurons_input() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 6, 8, dtype=torch.float64) * 2
    snn = mst.convert(Turned().double().eval(), "lossless", x[:1])
    one, other = (mst.simulate(snn, x, 4, incremental=incremental) for incremental in (True, False))
    assert one.spike_counts == other.spike_counts
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-12)


def test_images_settle_in_the_whole_network_at_the_last_step_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x = IMAGES * torch.linspace(0.1, 2, 16, dtype=torch.float64)[:, None]
    images: list[int] = []
    whole = passes.IncrementalPasses._whole
    monkeypatch.setattr(
        passes.IncrementalPasses,
        "_whole",
        lambda self, run, given: images.append(len(given)) or whole(self, run, given),
    )
    settled = mst.simulate(converted(), x, 60).settled_at
    assert settled is not None
    result = mst.simulate(converted(), x, int(settled.max()) - 1, incremental=True)
    assert 0 < result.num_settled < 16
    assert images == [16]
