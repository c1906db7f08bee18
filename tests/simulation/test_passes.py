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
from mst.simulation import EarlyExit, passes


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
        with RowsOfMaps() as counted:
            results[incremental] = mst.simulate(converted(), IMAGES, 60, incremental=incremental, steps_per_chunk=1)
        rows[incremental] = counted.rows
    assert results[True].num_settled == results[False].num_settled == 16
    assert torch.equal(results[True].settled_at, results[False].settled_at)  # type: ignore[arg-type]
    assert results[True].spike_counts == results[False].spike_counts
    assert rows[True] < 0.9 * rows[False]


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


@pytest.mark.parametrize("exit_rule", [EarlyExit("margin", 0.5), EarlyExit("margin", 0.7)], ids=str)
def test_images_leave_incremental_passes_early_as_they_leave_whole_ones(exit_rule: EarlyExit) -> None:
    one, other = (
        mst.simulate(converted(), IMAGES, 40, early_exit=exit_rule, incremental=incremental)
        for incremental in (True, False)
    )
    assert len(set(one.steps_taken.tolist())) > 1
    assert torch.equal(one.steps_taken, other.steps_taken)
    assert one.spike_counts == other.spike_counts
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-12)


def test_a_hook_sees_every_step_of_all_images() -> None:
    snn, seen = converted(), []
    handle = snn.network.get_submodule("2").register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    mst.simulate(snn, IMAGES, 5, record_operations=False)
    assert sum(seen) >= 5 * 16
    with pytest.raises(InputError, match="a hook watches a module"):
        mst.simulate(snn, IMAGES, 5, incremental=True)
    handle.remove()
    mst.simulate(snn, IMAGES, 5, incremental=True)


@pytest.mark.parametrize(
    ("number", "options", "used"),
    [
        (8, {}, True),
        (7, {}, False),
        (8, {"steps_per_chunk": 1}, False),
        (2, {"incremental": True}, True),
        (8, {"incremental": False}, False),
    ],
)
def test_passes_are_incremental_where_that_pays(
    number: int, options: dict[str, Any], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    program_of: Callable[..., Any] = passes.program_of
    monkeypatch.setattr(passes, "program_of", lambda *given: made.append(1) or program_of(*given))
    mst.simulate(converted(), IMAGES[:number], 5, **options)
    assert bool(made) == used


def test_incremental_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(InputError, match="incremental"):
        mst.simulate(mst.convert(network(), "rate"), IMAGES, 5, incremental=True)
    with pytest.raises(InputError, match="one step at a time"):
        mst.simulate(converted(), IMAGES, 5, incremental=True, steps_per_chunk=4)
    with pytest.raises(InputError, match="True, False or None"):
        mst.simulate(converted(), IMAGES, 5, incremental="yes")
