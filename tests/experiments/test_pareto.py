"""Pareto fronts of costs and values."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mst
from mst.errors import InputError


def test_pareto_front_is_what_no_other_point_beats() -> None:
    assert mst.pareto_front([1, 2, 3, 2, 4], [80, 90, 90, 85, 95]) == [True, True, False, False, True]


def test_pareto_front_of_equal_points_has_the_first() -> None:
    assert mst.pareto_front([2, 1, 1], [90, 90, 90]) == [False, True, False]
    assert mst.pareto_front([], []) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_pareto_front_agrees_with_the_definition(points: list[tuple[int, int]]) -> None:
    def beats(i: int, j: int) -> bool:
        (cost, value), (other_cost, other_value) = points[i], points[j]
        return cost <= other_cost and value >= other_value and (points[i] != points[j] or i < j)

    beaten = {j for i, j in product(range(len(points)), repeat=2) if beats(i, j)}
    front = mst.pareto_front([cost for cost, _ in points], [value for _, value in points])
    assert front == [index not in beaten for index in range(len(points))]


def test_pareto_front_refuses_costs_without_values() -> None:
    with pytest.raises(InputError, match="got 2 costs and 1 values"):
        mst.pareto_front([1, 2], [3])
