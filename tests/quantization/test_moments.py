"""A linear fit from sums over places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mst.quantization.moments import Moments, fit_change


def fitted(x: Tensor, error: Tensor, has_shift: bool) -> tuple[Tensor, Tensor]:
    rows = x.shape[1] * 3 // 4
    return fit_change(Moments.of(x[:, :rows], error[:, :rows]), Moments.of(x[:, rows:], error[:, rows:]), has_shift)


def test_moments_of_parts_add_up_and_move_to_other_centres() -> None:
    torch.manual_seed(0)
    x, error = torch.randn(2, 9, 3, dtype=torch.float64), torch.randn(2, 9, 4, dtype=torch.float64)
    parts = Moments.of(x[:, :5], error[:, :5]) + Moments.of(x[:, 5:], error[:, 5:])
    centre, shift, change = torch.randn(2, 3).double(), torch.randn(2, 4).double(), torch.randn(2, 3, 4).double()
    found, moved = parts.around(centre, shift), (x - centre[:, None], error - shift[:, None])
    for name, value in vars(Moments.of(*moved)).items():
        torch.testing.assert_close(getattr(found, name), value)
    assert found.lacking(change) == pytest.approx(float((moved[1] - moved[0] @ change).square().sum()))


def test_fit_finds_the_change_that_removes_an_error_and_none_where_there_is_only_noise() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 400, 3, dtype=torch.float64) + 1
    change, shift = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    found, moved = fitted(x, x @ change.transpose(1, 2) + shift[:, None], has_shift=True)
    torch.testing.assert_close(found, change, rtol=0.1, atol=0.05)
    torch.testing.assert_close(moved, shift, rtol=0.1, atol=0.05)
    assert not fitted(x, x @ change.transpose(1, 2), has_shift=False)[1].any()
    noise = torch.randn(1, 40, 2, dtype=torch.float64)
    x = torch.randn(1, 40, 30, dtype=torch.float64)
    noise[:, 30:] = -x[:, 30:, :2]  # what the first three quarters show makes the last quarter worse
    noise[:, :30] = x[:, :30, :2]
    found, moved = fitted(x, noise, has_shift=True)
    assert not found.any()
    torch.testing.assert_close(moved, noise.mean(dim=1))
