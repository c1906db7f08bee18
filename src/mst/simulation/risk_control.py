"""Promises about a rate of errors that hold with a stated confidence over the draw of the images.

A rule is tested against the null hypothesis that it errs on more than a fraction α of all images. Of N images drawn
independently of the rule, k show the error; the p-value is exact:

p = P(Binomial(N, α) <= k)

Rules in an order that does not depend on these images are tested one after another, each at 1 - confidence, until one
fails. All that have passed keep α at once with that confidence, however many were tested: for a false promise the first
rule in the order that errs too often must pass, and that has a probability of at most 1 - confidence.

Source: Angelopoulos et al., "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control" (2021),
fixed-sequence testing.
"""

from __future__ import annotations

import math

from mst.errors import InputError

DEFAULT_CONFIDENCE = 0.95
"""Probability, over the draw of the images, that a promise is kept."""


def check_confidence(confidence: float) -> float:
    """`confidence` itself.

    Raises:
        InputError: it is not in [0.5, 1).
    """
    if not 0.5 <= confidence < 1:
        hint = f"for {confidence:g} % write {confidence / 100:g}" if 50 <= confidence < 100 else ""
        raise InputError(f"confidence is a probability from 0.5 to below 1, got {confidence}", remedy=hint)
    return confidence


def p_value(num_errors: int, num_images: int, allowed: float) -> float:
    """P(Binomial(N, α) <= k): how probable so few errors are if the rate of errors is at least α.

    Args:
        num_errors: k, images with an error, from 0 to N.
        num_images: N.
        allowed: α, rate of errors, in [0, 1).

    Returns:
        A probability; 1 for α = 0, which no number of images can show.
    """
    if allowed == 0:
        return 1.0
    log_odds, log_correct = math.log(allowed) - math.log1p(-allowed), num_images * math.log1p(-allowed)
    ways, terms = 0.0, []  # ways: logarithm of N over k
    for errors in range(num_errors + 1):
        terms.append(math.exp(ways + errors * log_odds + log_correct))
        ways += math.log(num_images - errors) - math.log(errors + 1) if errors < num_images else 0.0
    return min(1.0, math.fsum(terms))


def images_needed(allowed: float, confidence: float = DEFAULT_CONFIDENCE) -> int | None:
    """Fewest images that can show a rate of errors of at most α, if none of them has an error; None for α = 0.

    Raises:
        InputError: confidence outside [0.5, 1).
    """
    check_confidence(confidence)
    if allowed == 0:
        return None
    images = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-allowed)) - 1)
    while p_value(0, images, allowed) > 1 - confidence:  # the quotient is rounded
        images += 1
    return images


def least_rate(num_images: int, confidence: float = DEFAULT_CONFIDENCE) -> float:
    """Smallest α that this many images can show, if none of them has an error: N = `images_needed(α)`.

    Raises:
        InputError: confidence outside [0.5, 1).
    """
    return -math.expm1(math.log1p(-check_confidence(confidence)) / num_images)
