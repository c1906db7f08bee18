"""Elementary functions computed with multiplications and additions alone, where a publication prices only those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mst.operations import COMPARISON, ERF, EXP, LOG, RECIPROCAL, ROOT, SINE

from .kinds import CURRENT_ADDITION, MASK_DRAW, SPIKE, THRESHOLD_COMPARISON


@dataclass(frozen=True)
class Algorithm:
    """A way to compute an elementary function of one number."""

    multiplications: int
    """Multiplications of one evaluation."""

    additions: int
    """Additions of one evaluation; a subtraction is one."""

    text: str
    """The algorithm in words."""

    def __str__(self) -> str:
        numbers = {"multiplication": self.multiplications, "addition": self.additions}
        parts = [f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in numbers.items() if number]
        return f"{' and '.join(parts)}: {self.text}"


@dataclass(frozen=True)
class Precision:
    """Degrees and steps that a number format asks for: an error below half a unit in its last place, 2^-bits.

    Exceptions: erf, whose absolute error is 1.5e-7 with 5 terms and 2.5e-5 with 3.

    Source: reductions and Newton's steps are textbook (Muller, Elementary Functions, 2016); erf after Abramowitz and
    Stegun, Handbook of Mathematical Functions, 7.1.25 and 7.1.26. The degrees are ours; the tests check the errors.
    """

    bits: int
    """Digits of the significand, the leading one included."""

    reduction_parts: int
    """Parts of ln 2 or π/2 whose multiples are subtracted one after another, so that the rest r is exact."""

    exp_degree: int
    """Degree of the polynomial for exp(r), |r| <= ln 2 / 2."""

    log_degree: int
    """Degree of the polynomial for log(m), 1/√2 <= m < √2."""

    sine_degree: int
    """Degree in r² of the polynomials for sin(r)/r and cos(r), |r| <= π/4."""

    reciprocal_steps: int
    """Newton's steps from a linear estimate of 1/m, 1/2 <= m < 1."""

    root_steps: int
    """Newton's steps from a linear estimate of 1/√m, 1 <= m < 4."""

    erf_terms: int
    """Terms of the approximation of erf."""

    def algorithms(self) -> Mapping[str, Algorithm]:
        """Kind of elementary operation -> how it is computed."""
        parts = f" (the constant in {self.reduction_parts} parts)" if self.reduction_parts > 1 else ""
        exp = Algorithm(
            1 + self.reduction_parts + self.exp_degree,
            2 + self.reduction_parts + self.exp_degree,
            f"x = n·ln 2 + r{parts}, a polynomial of degree {self.exp_degree} in r, n added to the exponent",
        )
        log = Algorithm(
            1 + self.log_degree,
            1 + self.log_degree,
            f"x = m·2^e, a polynomial of degree {self.log_degree} in m, plus e·ln 2",
        )
        sine = Algorithm(
            3 + self.reduction_parts + self.sine_degree,
            1 + self.reduction_parts + self.sine_degree,
            f"x = n·π/2 + r{parts}, a polynomial of degree {self.sine_degree} in r²",
        )
        reciprocal = Algorithm(
            1 + 2 * self.reciprocal_steps,
            1 + self.reciprocal_steps,
            f"a linear estimate and {self.reciprocal_steps} of Newton's steps y·(2 - x·y)",
        )
        root = Algorithm(
            2 + 3 * self.root_steps,
            1 + self.root_steps,
            f"a linear estimate and {self.root_steps} of Newton's steps y·(3/2 - x/2·y²)",
        )
        erf = Algorithm(
            3 + self.erf_terms + exp.multiplications + reciprocal.multiplications,
            1 + self.erf_terms + exp.additions + reciprocal.additions,
            f"1 - (a1·t + ... + a{self.erf_terms}·t^{self.erf_terms})·exp(-x²), t = 1/(1 + p·|x|)",
        )
        return {
            COMPARISON: Algorithm(0, 1, "a subtraction"),
            EXP: exp,
            LOG: log,
            SINE: sine,
            RECIPROCAL: reciprocal,
            ROOT: root,
            ERF: erf,
        }


FP32 = Precision(24, 2, exp_degree=6, log_degree=8, sine_degree=3, reciprocal_steps=3, root_steps=3, erf_terms=5)
"""32-bit floating point."""

FP16 = Precision(11, 2, exp_degree=3, log_degree=4, sine_degree=2, reciprocal_steps=2, root_steps=2, erf_terms=3)
"""16-bit floating point."""

INT8 = Precision(8, 1, exp_degree=2, log_degree=3, sine_degree=1, reciprocal_steps=1, root_steps=2, erf_terms=3)
"""8-bit integers with a scale; intermediate results in fact need more bits."""


def table_algorithms() -> Mapping[str, Algorithm]:
    """Elementary functions from tables with linear interpolation: one multiplication and one addition each.

    As in tables for inference (NN-LUT, Yu et al., DAC 2022). Reading the table is memory traffic, which is not counted.
    """
    read = Algorithm(1, 1, "a table with linear interpolation")
    return {
        COMPARISON: Algorithm(0, 1, "a subtraction"),
        **dict.fromkeys([EXP, LOG, SINE, RECIPROCAL, ROOT, ERF], read),
    }


def neuron_algorithms() -> Mapping[str, Algorithm]:
    """Parts of a neuron's update, and the draw of a mask."""
    return {
        CURRENT_ADDITION: Algorithm(0, 1, "the constant current is added to the potential"),
        THRESHOLD_COMPARISON: Algorithm(0, 1, "a subtraction"),
        SPIKE: Algorithm(0, 1, "the threshold is subtracted from the potential"),
        MASK_DRAW: Algorithm(1, 2, "a linear congruential generator, and a comparison with the masking ratio"),
    }
