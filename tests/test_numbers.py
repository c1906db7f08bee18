from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mst.errors import InputError
from mst.numbers import is_finite, real_number, whole_number

NAN = float("nan")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)], ids=repr)
def test_whole_number_becomes_an_int(value: Any) -> None:
    number = whole_number("T", value, 1)
    assert type(number) is int
    assert number == 3


@pytest.mark.parametrize("value", [3.0, np.float32(3), True, "3", None, [3], float("nan"), torch.tensor(3.0)], ids=repr)
def test_whole_number_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="T must be a whole number, got"):
        whole_number("T", value, 1)


def test_whole_number_below_the_least_is_refused() -> None:
    with pytest.raises(InputError, match="T must be at least 1, got 0"):
        whole_number("T", 0, 1)
    with pytest.raises(InputError, match="n must be 0 or more, got -1"):
        whole_number("n", np.int8(-1), 0)
    assert whole_number("seed", -1) == -1


def test_real_number_keeps_whole_numbers_and_plain_types() -> None:
    for value, kind in ((2, int), (np.int64(2), int), (0.5, float), (np.float32(0.5), float)):
        number = real_number("x", value)
        assert type(number) is kind
        assert number == value
    assert real_number("x", float("inf"), may_be_infinite=True) == float("inf")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "x must be a number, got nan"),
        (float("inf"), "x must be finite, got inf"),
        (True, "x must be a number, got True"),
        ("1e-3", "x must be a number, got '1e-3'"),
        (None, "x must be a number, got None"),
        (1j, "x must be a number, got 1j"),
    ],
)
def test_real_number_of_another_kind_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        real_number("x", value)


def test_is_finite_sees_nan_and_infinity_but_not_a_sum_that_overflows() -> None:
    assert is_finite(torch.full((4,), 60000.0, dtype=torch.float16))
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.empty(0))
    assert is_finite(torch.ones(2).to(torch.float8_e4m3fn))
    assert not is_finite(torch.tensor([NAN]).to(torch.float8_e5m2))
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not is_finite(torch.tensor([1.0, bad]))
        assert not is_finite(torch.tensor([1.0, complex(0, bad)]))
    assert not is_finite(torch.tensor([float("inf"), -float("inf")]))
