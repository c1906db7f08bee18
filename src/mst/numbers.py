"""Numbers that options and tensors may hold. Importing this file loads no PyTorch."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from mst.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, if it is a whole number of Python, NumPy or PyTorch.

    Args:
        name: of the option, for the error.
        value: as the caller gave it.
        least: smallest value allowed; None allows all.

    Raises:
        InputError: a float, a bool, text or another type, or a value below `least`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if least is not None and number < least:
        raise InputError(f"{name} must be {'0 or more' if least == 0 else f'at least {least}'}, got {number}")
    return number


def real_number(name: str, value: Any, *, may_be_infinite: bool = False) -> float:
    """`value`, if it is a number of Python or NumPy.

    Raises:
        InputError: NaN, infinity unless it is allowed, a bool, text or another type.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not may_be_infinite):
        raise InputError(f"{name} must be {'a number' if math.isnan(number) else 'finite'}, got {number}")
    return operator.index(value) if isinstance(value, Integral) else number


def is_finite(tensor: Tensor) -> bool:
    """True if no element is NaN or infinite."""
    if not tensor.is_floating_point():
        return not tensor.is_complex() or (is_finite(tensor.real) and is_finite(tensor.imag))
    if tensor.element_size() == 1:  # float8, which cannot be summed
        tensor = tensor.float()
    # A sum is finite only if all its terms are, and needs no second tensor; it may overflow nevertheless.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
