"""Elementary functions from multiplications and additions: are they as exact as their number format?"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mst.measure import COST_MODELS
from mst.measure.algorithms import FP16, FP32, INT8, Precision
from mst.operations import ELEMENTARY

FORMATS = pytest.mark.parametrize("precision", [FP32, FP16, INT8], ids=["fp32", "fp16", "int8"])


def interpolated(function: Callable[[Tensor], Tensor], degree: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Places, and a polynomial of this degree there, through the function at Chebyshev's nodes."""
    nodes = torch.cos(math.pi * (torch.arange(degree + 1, dtype=torch.float64) + 0.5) / (degree + 1))
    powers = torch.linalg.solve(
        nodes[:, None] ** torch.arange(degree + 1), function((high - low) / 2 * nodes + (high + low) / 2)
    )
    places = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    return (high - low) / 2 * places + (high + low) / 2, (places[:, None] ** torch.arange(degree + 1)) @ powers


@FORMATS
def test_algorithms_of_polynomials_reach_the_precision_of_their_number_format(precision: Precision) -> None:
    limit = 2.0**-precision.bits
    x, y = interpolated(torch.exp, precision.exp_degree, -math.log(2) / 2, math.log(2) / 2)
    assert float((y / x.exp() - 1).abs().max()) < limit
    x, y = interpolated(torch.log, precision.log_degree, 0.5**0.5, 2**0.5)
    assert float((y - x.log()).abs().max()) < limit
    x, y = interpolated(lambda u: u.sqrt().cos(), precision.sine_degree, 0.0, (math.pi / 4) ** 2)
    assert float((y - x.sqrt().cos()).abs().max()) < limit


@FORMATS
def test_algorithms_of_newton_reach_the_precision_of_their_number_format(precision: Precision) -> None:
    limit = 2.0**-precision.bits
    m = torch.linspace(0.5, 1, 1001, dtype=torch.float64)
    y = 48 / 17 - 32 / 17 * m
    for _ in range(precision.reciprocal_steps):
        y = y * (2 - m * y)
    assert float((m * y - 1).abs().max()) < limit
    m = torch.linspace(1, 4, 1001, dtype=torch.float64)
    y = 1.0664 - 0.15234 * m  # the line of the smallest relative error, 0.086
    for _ in range(precision.root_steps):
        y = y * (1.5 - 0.5 * m * y * y)
    assert float((y * m.sqrt() - 1).abs().max()) < limit


@pytest.mark.parametrize(
    ("coefficients", "p", "error"),
    [
        ((0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429), 0.3275911, 1.5e-7),
        ((0.3480242, -0.0958798, 0.7478556), 0.47047, 2.5e-5),
    ],
)
def test_algorithms_of_erf_have_the_error_that_is_stated(
    coefficients: tuple[float, ...], p: float, error: float
) -> None:
    x = torch.linspace(0, 4, 1001, dtype=torch.float64)
    t = 1 / (1 + p * x)
    series = sum(a * t ** (k + 1) for k, a in enumerate(coefficients))
    assert float((1 - series * torch.exp(-x * x) - torch.erf(x)).abs().max()) < error
    assert len(coefficients) in (FP32.erf_terms, FP16.erf_terms)


def test_algorithms_price_every_elementary_operation() -> None:
    for model in COST_MODELS.values():
        assert all(model.knows(kind) for kind in ELEMENTARY) == model.name.startswith("45nm")
    energies = [COST_MODELS[f"45nm-{name}"].energy_of("exp") for name in ("fp32", "fp16", "int8", "fp32-tables")]
    by_hand = [9 * 3.7 + 10 * 0.9, 6 * 1.1 + 7 * 0.4, 4 * 0.2 + 5 * 0.03, 3.7 + 0.9]
    assert energies == pytest.approx(by_hand, rel=1e-12)
    text = COST_MODELS["45nm-fp32"].of_function_in_words("exp")
    assert text.startswith("exp 42.3 pJ (derived: 9 multiplications and 10 additions: x = n·ln 2 + r")
    assert COST_MODELS["45nm-fp32"].of_function_in_words("multiplication") == "multiplication 3.7 pJ"
    read = COST_MODELS["45nm-fp32-tables"].of_function_in_words("comparison"), FP32.algorithms()["comparison"]
    assert (
        read[0] == f"comparison 0.9 pJ (derived: {read[1]})" == "comparison 0.9 pJ (derived: 1 addition: a subtraction)"
    )
