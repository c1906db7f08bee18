from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mst.neurons import SCHEDULES, FiringSchedule, halving_weights, named_schedule, signed_if_step


def test_schedule_weights_follow_the_clock_of_each_site() -> None:
    schedule = FiringSchedule(2, (4, 2, 1), stagger=0.5)
    assert [schedule.start(depth) for depth in range(5)] == [0, 0, 1, 1, 2]
    assert [schedule.weight(step, 0) for step in range(-1, 5)] == [0, 4, 2, 1, 4, 2]
    assert [schedule.weight(step, 4) for step in range(6)] == [0, 0, 4, 2, 1, 4]
    assert [FiringSchedule().weight(step, 9) for step in (-1, 0, 7)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("levels", "weights"),
    [(1, (1,)), (2, (1, 1)), (3, (2, 1, 1)), (4, (2, 1, 1)), (8, (4, 2, 1, 1)), (16, (8, 4, 2, 1, 1))],
)
def test_halving_weights_reach_every_level_in_one_round(levels: int, weights: tuple[int, ...]) -> None:
    assert halving_weights(levels) == weights
    for level in range(levels + 1):
        x, count = torch.tensor([level / levels]), torch.zeros(1)
        for weight in weights:
            count += weight * signed_if_step(x, count, torch.tensor([1.0]), levels, weight=weight)[0]
        assert int(count) == level


def test_schedules_with_a_name() -> None:
    assert named_schedule("plain", 16, 2) == FiringSchedule(2)
    assert named_schedule("staggered", 16) == FiringSchedule(1, stagger=0.25)
    assert named_schedule("staggered", 16, 2) == FiringSchedule(2, stagger=0.125)
    assert named_schedule("weighted", 16) == FiringSchedule(1, (8, 4, 2, 1, 1), 0.5)
    assert named_schedule("free", 16, 2) == FiringSchedule(2, stagger=0.25, is_free=True)
    assert [named_schedule(name, 4).burst for name in SCHEDULES] == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="unknown schedule 'fast'; choose from"):
        named_schedule("fast", 16)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burst": 0}, "a whole number, at least 1, got 0"),
        ({"burst": 1.5}, "a whole number, at least 1, got 1.5"),
        ({"burst": True}, "a whole number, at least 1, got True"),
        ({"weights": (2, 0)}, "whole quanta, at least 1"),
        ({"weights": (1.5, 1)}, "whole quanta, at least 1"),
        ({"weights": (4, 2)}, "without a spike of one quantum a neuron cannot reach every level"),
        ({"weights": (2, 1), "is_free": True}, "choose their weights themselves, got weights"),
        ({"stagger": -1.0}, "a number of steps, at least 0"),
        ({"stagger": math.nan}, "a number of steps, at least 0"),
        ({"stagger": math.inf}, "a number of steps, at least 0"),
    ],
)
def test_schedule_value_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiringSchedule(**options)


def test_free_schedule_refuses_more_levels_than_it_can_send() -> None:
    with pytest.raises(ValueError, match="a free schedule takes up to 65536 levels, got 65537"):
        named_schedule("free", 65537)
