"""Sums of products over shared axes, as torch.einsum writes them: terms, and matrix products that compute them.

An axis is a number: letters of an equation by their code, axes of an ellipsis from -1 down, counted from the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import ActivationProduct

from .products import MakeSite, operand_site

Labels = tuple[int, ...]

CONSTANT, IMAGE, ACTIVATION = "constant", "image", "activation"
"""Operands of a product: independent of the image; the image itself; computed from it."""


@dataclass(frozen=True)
class Terms:
    """A sum of products, out[...] = Σ a[...]·b[...]·..., over the labels that `out` lacks."""

    operands: tuple[Tensor, ...]
    """The factors."""

    labels: tuple[Labels, ...]
    """For each factor, the label of each axis."""

    out: Labels
    """Labels of the axes of the result."""


# ------------------------------------------------------------------------------------ calls of torch


def terms_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Terms:
    """The sum of products that a call of one of `CONTRACTIONS` computes."""
    return CONTRACTIONS[function](*args, **{name: value for name, value in kwargs.items() if name != "out"})


def _einsum(*args: Any) -> Terms:
    first, *others = args
    if isinstance(first, str):
        operands = tuple(others[0]) if len(others) == 1 and isinstance(others[0], list | tuple) else tuple(others)
        left, arrow, right = first.replace(" ", "").replace("...", ".").partition("->")
        inputs = [[Ellipsis if letter == "." else ord(letter) for letter in part] for part in left.split(",")]
        output = [Ellipsis if letter == "." else ord(letter) for letter in right] if arrow else None
    else:  # operands and lists of numbers, in turn
        operands, inputs = tuple(args[0 : len(args) // 2 * 2 : 2]), [list(each) for each in args[1::2]]
        output = list(args[-1]) if len(args) % 2 else None
    labels, widest = [], 0
    for operand, given in zip(operands, inputs, strict=True):
        hidden = operand.dim() - len(given) + 1 if Ellipsis in given else 0
        widest = max(widest, hidden)
        labels.append(_spelt_out(given, hidden))
    if output is None:
        flat = [label for each in labels for label in each if label >= 0]
        output = [*range(-widest, 0), *sorted(label for label in set(flat) if flat.count(label) == 1)]
    return Terms(operands, tuple(labels), _spelt_out(output, widest))


def _spelt_out(labels: Sequence[Any], hidden: int) -> Labels:
    found: list[int] = []
    for label in labels:
        found.extend(range(-hidden, 0) if label is Ellipsis else (label,))
    return tuple(found)


def _tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Terms:
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = (range(a.dim() - dims, a.dim()), range(dims))
    left, right = list(range(a.dim())), [a.dim() + axis for axis in range(b.dim())]
    for one, other in zip(*dims, strict=True):
        right[other] = left[one]
    kept = [label for label in (*left, *right) if (label in left) != (label in right)]
    return Terms((a, b), (tuple(left), tuple(right)), tuple(kept))


def _inner(input: Tensor, other: Tensor) -> Terms:
    return _tensordot(input, other, ([input.dim() - 1], [other.dim() - 1]))


def _outer(input: Tensor, vec2: Tensor) -> Terms:
    return Terms((input, vec2), ((0,), (1,)), (0, 1))


def _dot(input: Tensor, other: Tensor) -> Terms:
    return Terms((input, other), ((0,), (0,)), ())


def _vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Terms:
    axes = max(x.dim(), y.dim())
    labels = tuple(range(-axes, 0))
    summed = labels[dim] if dim < 0 else labels[axes - x.dim() :][dim]
    return Terms((x, y), (labels[axes - x.dim() :], labels[axes - y.dim() :]), tuple(i for i in labels if i != summed))


def _chain(*matrices: Any) -> Terms:
    """The product of matrices, of which the first and the last may be a vector."""
    operands = tuple(matrices[0]) if isinstance(matrices[0], list | tuple) else matrices
    labels = [(number, number + 1) for number in range(len(operands))]
    if operands[0].dim() == 1:
        labels[0] = (1,)  # type: ignore[assignment]
    if operands[-1].dim() == 1:
        labels[-1] = labels[-1][:1]  # type: ignore[assignment]
    out = (0,) * (operands[0].dim() - 1) + (len(operands),) * (operands[-1].dim() - 1)
    return Terms(operands, tuple(labels), out)


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Terms:
    batch = tuple(range(-(input1.dim() - 1), 0))
    return Terms((input1, weight, input2), ((*batch, 0), (2, 0, 1), (*batch, 1)), (*batch, 2))


def _addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, **options: Any) -> Terms:
    return Terms((batch1, batch2), ((0, 1, 2), (0, 2, 3)), (1, 3))


CONTRACTIONS: dict[Any, Callable[..., Terms]] = {
    torch.einsum: _einsum,
    torch.tensordot: _tensordot,
    **dict.fromkeys([torch.inner, Tensor.inner], _inner),
    **dict.fromkeys([torch.outer, Tensor.outer, torch.ger, Tensor.ger], _outer),
    torch.linalg.vecdot: _vecdot,
    **dict.fromkeys([torch.dot, Tensor.dot, torch.vdot, Tensor.vdot], _dot),
    **dict.fromkeys([torch.linalg.multi_dot, torch.chain_matmul], _chain),
    F.bilinear: _bilinear,
    **dict.fromkeys([torch.addbmm, Tensor.addbmm], _addbmm),
}
"""Function -> the terms of a call."""


# ------------------------------------------------------------------------------------ as matrix products


@dataclass(frozen=True)
class _Factor:
    """A tensor with its labels."""

    x: Tensor
    labels: Labels

    def reduced(self, needed: frozenset[int]) -> _Factor:
        """Each label once, and a sum over those that are not needed."""
        x, labels = self.x, list(self.labels)
        for label in dict.fromkeys(labels):
            while labels.count(label) > 1:
                first = labels.index(label)
                second = labels.index(label, first + 1)
                x = x.diagonal(dim1=first, dim2=second).movedim(-1, first)
                del labels[second]
        summed = [axis for axis, label in enumerate(labels) if label not in needed]
        return _Factor(x.sum(summed) if summed else x, _reduced(self.labels, needed))

    def arranged(self, groups: Sequence[Labels], sizes: Mapping[int, int]) -> Tensor:
        """The axes in the order of the groups, each group as one axis; axes of length 1 are repeated."""
        order = [label for group in groups for label in group]
        x = self.x.permute([self.labels.index(label) for label in order])
        x = x.expand([sizes[label] for label in order])
        return x.reshape([math.prod(sizes[label] for label in group) for group in groups])


def _reduced(labels: Labels, needed: frozenset[int]) -> Labels:
    return tuple(dict.fromkeys(label for label in labels if label in needed))


class _Groups:
    """Labels of two factors of a matrix product, of which the left one has the images on its first axis.

    Args:
        left, right: each label once.
        kept: labels that are needed afterwards.
    """

    def __init__(self, left: Labels, right: Labels, kept: frozenset[int]) -> None:
        others = left[1:]
        self.images = left[:1]
        self.batch = tuple(label for label in others if label in right and label in kept)
        self.rows = tuple(label for label in others if label not in right)
        self.columns = tuple(label for label in right if label not in left)
        self.summed = tuple(label for label in others if label in right and label not in kept)
        self.result = (*self.images, *self.batch, *self.rows, *self.columns)


@dataclass(frozen=True)
class _Step:
    """One product of two operands, of which the first may be the result of the step before."""

    labels: tuple[Labels, Labels]
    """Labels of both, as they are given."""

    kept: frozenset[int]
    """Labels that are needed afterwards."""

    is_swapped: bool
    """True if the second one is the left factor, because the first is a constant."""

    @property
    def reduced(self) -> tuple[Labels, Labels]:
        """Labels of both once each has been summed over what no other operand needs."""
        first, second = self.labels
        return _reduced(first, self.kept.union(second)), _reduced(second, self.kept.union(first))

    @property
    def groups(self) -> _Groups:
        """The labels as those of a matrix product."""
        first, second = self.reduced
        return _Groups(second, first, self.kept) if self.is_swapped else _Groups(first, second, self.kept)

    def scale_axis(self, number: int, is_by_constant: bool) -> int | None:
        """-1 if each entry of the last axis of an operand may have a scale of its own, else None: the scale of an axis
        that is summed over goes into the other operand, which must be a constant."""
        is_left = (number == 1) == self.is_swapped
        last = self.groups.columns if not is_left else self.groups.summed if is_by_constant else ()
        return -1 if last and last == self.reduced[number][-1:] else None

    def product(self, one: _Factor, other: _Factor, multiply: nn.Module) -> _Factor:
        """The product of two reduced factors."""
        left, right = (other, one) if self.is_swapped else (one, other)
        groups, sizes = self.groups, dict[int, int]()
        for factor in (left, right):
            for label, size in zip(factor.labels, factor.x.shape, strict=True):
                sizes[label] = max(sizes.get(label, 1), size)
        images = [groups.images] * bool(groups.images)
        rows = left.arranged([*images, groups.batch, groups.rows, groups.summed], sizes)
        shared = images if set(groups.images) <= set(right.labels) else []
        columns = right.arranged([*shared, groups.batch, groups.summed, groups.columns], sizes)
        y = multiply(rows, columns).reshape([sizes[label] for label in groups.result])
        return _Factor(y, groups.result)


def steps_of(terms: Terms, roles: Sequence[str]) -> list[_Step]:
    """The products of two operands that make up a sum of products, from left to right.

    Raises:
        InputError: it sums over the images.
    """
    for role, labels in zip(roles, terms.labels, strict=True):
        if role != CONSTANT and not set(labels[:1]) <= set(terms.out):
            raise InputError(
                "it sums over the first axis of an activation, that of the images",
                remedy="keep the images apart, on the first axis",
            )
    steps: list[_Step] = []
    before, is_constant = terms.labels[0], roles[0] == CONSTANT
    for number in range(1, len(roles)):
        kept = frozenset(terms.out).union(*terms.labels[number + 1 :])
        steps.append(_Step((before, terms.labels[number]), kept, is_constant and roles[number] != CONSTANT))
        before, is_constant = steps[-1].groups.result, is_constant and roles[number] == CONSTANT
    return steps


class Contraction(nn.Module):
    """A sum of products of two or more tensors, taken from left to right, with a site at each operand that is computed
    from the image, also at the result of one product that the next one multiplies.

    Args:
        make_site: returns a new QCFS.
        terms: the sum of products; its operands are not looked at.
        roles: `CONSTANT`, `IMAGE` or `ACTIVATION` for each operand.
    """

    def __init__(self, make_site: MakeSite, terms: Terms, roles: tuple[str, ...]) -> None:
        super().__init__()
        self._roles, before = roles, roles[0]
        for number, step in enumerate(steps_of(terms, roles)):
            pair = (before, roles[number + 1])
            for operand, name in enumerate(("left", "right")):
                axis = step.scale_axis(operand, pair[1 - operand] == CONSTANT)
                is_site = pair[operand] == ACTIVATION
                self.add_module(_name(name, number), operand_site(make_site, name, axis) if is_site else nn.Identity())
            self.add_module(_name("product", number), ActivationProduct())
            before = CONSTANT if pair == (CONSTANT, CONSTANT) else ACTIVATION

    def forward(self, terms: Terms) -> Tensor:
        """The sum of products."""
        result = _Factor(terms.operands[0], terms.labels[0])
        for number, step in enumerate(steps_of(terms, self._roles)):
            pair = [result, _Factor(terms.operands[number + 1], terms.labels[number + 1])]
            for operand, name in enumerate(("left", "right")):
                reduced = pair[operand].reduced(step.kept.union(step.labels[1 - operand]))
                pair[operand] = replace(reduced, x=getattr(self, _name(name, number))(reduced.x))
            result = step.product(pair[0], pair[1], getattr(self, _name("product", number)))
        return result.x.permute([result.labels.index(label) for label in terms.out])

    def answer(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of the call that this module stands for."""
        y: Tensor = self(terms_of(function, args, kwargs))
        if function is F.bilinear:
            bias = kwargs.get("bias", args[3] if len(args) > 3 else None)
            return y if bias is None else y + bias
        return added(y, args, kwargs) if function in ADDED else y


def _name(name: str, number: int) -> str:
    return f"{name}_{number + 1}" if number else name


ADDED = frozenset({
    torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm, torch.addmv, Tensor.addmv, torch.addbmm, Tensor.addbmm,
})  # fmt: skip
"""Functions that add a product to a tensor: beta·input + alpha·product."""


def added(product: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The result of a call of one of `ADDED`, given its product."""
    given: Tensor = args[0] if args else kwargs["input"]
    alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)
    y = product if alpha == 1 else product * alpha
    if beta == 0:
        return y
    return y + (given if beta == 1 else given * beta)
