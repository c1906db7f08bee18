"""Exact p-values, and the number of images that a promise takes."""

from __future__ import annotations

from math import comb

import pytest

from mst.simulation.risk_control import check_confidence, images_needed, least_rate, p_value


@pytest.mark.parametrize(
    ("num_errors", "num_images", "allowed"), [(0, 7, 0.3), (2, 9, 0.25), (9, 9, 0.5), (30, 400, 0.1)]
)
def test_p_value_is_the_binomial_sum(num_errors: int, num_images: int, allowed: float) -> None:
    expected = sum(comb(num_images, k) * allowed**k * (1 - allowed) ** (num_images - k) for k in range(num_errors + 1))
    assert p_value(num_errors, num_images, allowed) == pytest.approx(expected, rel=1e-10)


def test_p_value_of_many_images_neither_overflows_nor_exceeds_one() -> None:
    assert p_value(0, 1_000_000, 0.01) == 0.0
    assert p_value(1_000_000, 1_000_000, 0.01) == pytest.approx(1.0)
    assert p_value(10_000, 1_000_000, 0.01) == pytest.approx(0.5, abs=0.01)


def test_p_value_of_a_rate_of_zero_refutes_nothing() -> None:
    assert p_value(0, 10**6, 0.0) == 1.0


def test_p_value_is_above_its_level_with_the_probability_of_the_level_at_most() -> None:
    """Under the null hypothesis, P(p <= level) <= level: what makes the test valid."""
    images, allowed = 120, 0.05
    mass = [comb(images, k) * allowed**k * (1 - allowed) ** (images - k) for k in range(images + 1)]
    for level in (0.01, 0.05, 0.2):
        passes = sum(mass[k] for k in range(images + 1) if p_value(k, images, allowed) <= level)
        assert level / 5 < passes <= level


@pytest.mark.parametrize(("allowed", "confidence", "needed"), [(0.005, 0.95, 598), (0.001, 0.95, 2995), (0.5, 0.5, 1)])
def test_images_needed_are_the_fewest_that_pass_without_an_error(
    allowed: float, confidence: float, needed: int
) -> None:
    assert images_needed(allowed, confidence) == needed
    assert p_value(0, needed, allowed) <= 1 - confidence
    assert needed == 1 or p_value(0, needed - 1, allowed) > 1 - confidence


def test_images_needed_for_a_rate_of_zero_are_not_a_number() -> None:
    assert images_needed(0.0, 0.95) is None


def test_least_rate_is_what_the_images_can_show() -> None:
    least = least_rate(100, 0.9)
    assert images_needed(1.001 * least, 0.9) == 100
    assert images_needed(0.999 * least, 0.9) == 101


@pytest.mark.parametrize("confidence", [0.49, 1.0, -1.0, float("nan")])
def test_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence is a probability from 0.5 to below 1, got"):
        check_confidence(confidence)


def test_confidence_in_per_cent_is_explained() -> None:
    with pytest.raises(ValueError, match="for 95 % write 0.95"):
        check_confidence(95)
