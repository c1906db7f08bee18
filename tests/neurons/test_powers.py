"""Sums of signed powers of two: the fewest, the nearest, exactly."""

from __future__ import annotations

import math

import pytest
import torch

from mst.neurons import count_powers, largest_powers, nearest_power
from mst.neurons.powers import MAX_QUANTA, most_powers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_power_leaves_a_third_at_most_and_takes_the_smaller_of_two(dtype: torch.dtype) -> None:
    quanta = torch.arange(-MAX_QUANTA, MAX_QUANTA + 1, dtype=dtype)
    power = nearest_power(quanta)
    assert power[MAX_QUANTA - 7 : MAX_QUANTA + 8].tolist() == [-8, -4, -4, -4, -2, -2, -1, 0, 1, 2, 2, 4, 4, 4, 8]
    left = (quanta - power).abs()
    assert bool((3 * left <= quanta.abs()).all())
    for other in (2 * power, power / 2):
        assert bool((left <= (quanta - other).abs()).all())


def test_largest_powers_reach_every_number_with_as_few_as_any_digits_with_signs() -> None:
    fewest = {0: 0}  # by brute force: sums of signed powers, one more at each turn
    for number in range(1, 5):
        sums = {a + sign * 2**k for a in list(fewest) for k in range(9) for sign in (1, -1)}
        fewest |= {each: number for each in sums if each not in fewest}
    quanta = torch.arange(-170, 171, dtype=torch.float64)
    counted = count_powers(quanta)
    assert counted.tolist() == [fewest[n] for n in range(-170, 171)]
    for most in range(1, 5):
        rounded = largest_powers(quanta, most)
        assert bool((count_powers(rounded) <= most).all())
        assert torch.equal(rounded == quanta, counted <= most)
        assert bool((rounded.diff() >= 0).all())  # rounding keeps the order
    assert [most_powers(n) for n in range(171)] == [max(fewest[k] for k in range(n + 1)) for n in range(171)]


def test_count_powers_of_every_number_that_is_allowed_is_that_of_the_powers_found() -> None:
    quanta = torch.arange(MAX_QUANTA + 1, dtype=torch.float32)
    left, found = quanta, torch.zeros_like(quanta)
    while bool(left.any()):
        power = nearest_power(left)
        left, found = left - power, found + (power != 0)
    assert torch.equal(count_powers(quanta), found)
    assert int(found.max()) == most_powers(MAX_QUANTA) == 9


def test_largest_powers_keep_nan() -> None:
    number = torch.tensor([math.nan, 7.0, -math.nan, 0.0])
    for most in (1, 2):
        assert largest_powers(number, most).isnan().tolist() == [True, False, True, False]
