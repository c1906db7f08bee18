"""A linear fit from sums over places, which are taken part by part.

Letters: G groups, R places, U weights of one output channel, V output channels of a group.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

RIDGES = (0.01, 0.1, 1.0, 10.0)
"""λ to choose from, as multiples of the mean of the diagonal of XᵀX."""


@dataclass(frozen=True)
class Moments:
    """Sums over places of products of x, what the weights multiply, and e, what the output lacks. In float64."""

    count: int
    """R."""

    x: Tensor
    """Σ x, [G, U]."""

    error: Tensor
    """Σ e, [G, V]."""

    xx: Tensor
    """Σ x·xᵀ, [G, U, U]."""

    xe: Tensor
    """Σ x·eᵀ, [G, U, V]."""

    ee: Tensor
    """Σ |e|², [G]."""

    @classmethod
    def of(cls, x: Tensor, error: Tensor) -> Moments:
        """x [G, R, U], error [G, R, V]."""
        x, error = x.double(), error.double()
        turned = x.transpose(1, 2)
        return cls(
            x.shape[1], x.sum(dim=1), error.sum(dim=1), turned @ x, turned @ error, error.square().sum(dim=(1, 2))
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def around(self, x: Tensor, error: Tensor) -> Moments:
        """The sums of x - x̄ and e - ē; x̄ [G, U], ē [G, V]."""
        n, left = self.count, self.x - self.count * x
        xx = self.xx - _outer(x, self.x) - _outer(left, x)
        xe = self.xe - _outer(x, self.error) - _outer(left, error)
        ee = self.ee - ((2 * self.error - n * error) * error).sum(dim=1)
        return Moments(n, left, self.error - n * error, xx, xe, ee)

    def lacking(self, change: Tensor) -> float:
        """Σ |e - xᵀ·change|²; change [G, U, V]."""
        return float(self.ee.sum() + ((self.xx @ change - 2 * self.xe) * change).sum())


def fit_change(fitted: Moments, rest: Moments, has_shift: bool) -> tuple[Tensor, Tensor]:
    """ΔW [G, V, U] and Δb [G, V] of least error, fitted to all places.

    Args:
        fitted, rest: of places apart. λ is the one with which a fit to the first has the least error on the others.
        has_shift: False leaves Δb 0.
    """
    means, roots, vectors, along = _decomposed(fitted, has_shift)
    held_back = rest.around(*means)
    tried = {ridge: held_back.lacking(vectors @ (along / (roots + ridge))) for ridge in RIDGES}
    ridge = min(tried, key=tried.__getitem__)
    is_better = tried[ridge] < float(held_back.ee.sum())
    means, roots, vectors, along = _decomposed(fitted + rest, has_shift)
    change = (vectors @ (along / (roots + ridge))).transpose(1, 2) * is_better
    return change, means[1] - (change @ means[0][..., None])[..., 0]


def _decomposed(moments: Moments, has_shift: bool) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
    """Means of x and e; eigenvalues of XᵀX over the mean of its diagonal, its vectors; Xᵀ·e along these."""
    means = moments.x / moments.count * has_shift, moments.error / moments.count * has_shift
    centred = moments.around(*means)
    size = centred.xx.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None].clamp_min(1e-30)
    roots, vectors = torch.linalg.eigh(centred.xx / size)
    return means, roots.clamp_min(0)[..., None], vectors, vectors.transpose(1, 2) @ centred.xe / size


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left[:, :, None] * right[:, None]
