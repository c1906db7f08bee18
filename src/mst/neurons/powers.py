"""Whole numbers as sums of signed powers of two: what the spikes of a free schedule carry.

A number of quanta is sent greatest power first, each time the power that is nearest to what is left. This takes as few
powers as any way of writing the number with signs, about a third of its binary digits (Reitwiesner, 1960).
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAREST = 4 / 3 * (1 - 2.0**-20)
EXPONENTS = {torch.float32: (torch.int32, -(1 << 23)), torch.float64: (torch.int64, -(1 << 52))}

MAX_QUANTA = 2**17
"""Largest magnitude that the functions of this file take."""


def nearest_power(quanta: Tensor) -> Tensor:
    """The signed power of two nearest to each value; of two that are equally near, the smaller; 0 for 0.

    Args:
        quanta: whole numbers, any shape, float32 or float64, magnitudes up to `MAX_QUANTA`.

    Returns:
        A new tensor like `quanta`. What is left, quanta - result, is at most a third of `quanta`.
    """
    # From w, 2w is nearer where |e| > 3w/2, which is where 4/3·|e| > 2w; in whole numbers the factor may be a little
    # less, and then decides the tie too. Its sign and exponent are the power.
    scaled = quanta * NEAREST
    as_integer, mask = EXPONENTS[quanta.dtype]
    return scaled.view(as_integer).bitwise_and_(mask).view(quanta.dtype)


def largest_powers(quanta: Tensor, most: int) -> Tensor:
    """The sum of the first `most` powers of two that `nearest_power` finds, each in what the ones before it left.

    Args:
        quanta: as for `nearest_power`.
        most: >= 1.

    Returns:
        A new tensor like `quanta`; `quanta` itself in value where `count_powers` is at most `most`. NaN stays NaN.
    """
    total = nearest_power(quanta)
    for _ in range(most - 1):
        total += nearest_power(quanta - total)
    return quanta - (quanta - total)  # the total, but NaN for NaN, whose bits the powers take for infinity


def count_powers(quanta: Tensor) -> Tensor:
    """Fewest signed powers of two that add up to each value: 1 for 8, 2 for 7 = 8 - 1.

    Args:
        quanta: whole numbers, any shape, magnitudes up to `MAX_QUANTA`.

    Returns:
        A new tensor like `quanta`.

    Source: the non-zero digits of n in the non-adjacent form are the ones of n xor 3n (Prodinger, 2000).
    """
    whole = quanta.abs().to(torch.int32)
    bits = whole ^ (3 * whole)
    bits = bits - ((bits >> 1) & 0x55555555)  # adds the bits in pairs, fours, bytes
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(quanta.dtype)


def most_powers(span: int) -> int:
    """Largest `count_powers` of a whole number up to `span`: 1, 3, 11, 43, ... are the first to take 1, 2, 3, 4, ..."""
    number, first = 0, 1
    while first <= span:
        number, first = number + 1, 4 * first - 1
    return number
