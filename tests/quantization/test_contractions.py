"""Sums of products as matrix products: equal to torch's own, with sites where the operands are activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mst.errors import InputError
from mst.neurons import QCFS
from mst.quantization.calibration import acting_as_relu
from mst.quantization.contractions import ACTIVATION as A
from mst.quantization.contractions import CONSTANT as C
from mst.quantization.contractions import Contraction, terms_of


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


CASES: list[tuple[Any, tuple[Any, ...], tuple[str, ...], dict[str, int | None]]] = [
    (torch.einsum, ("bi,ij->bj", drawn(4, 3), drawn(3, 5)), (A, C), {"left": -1}),
    (torch.einsum, ("ij,bj->bi", drawn(3, 5), drawn(4, 5)), (C, A), {"right": -1}),
    (torch.einsum, ("bhqd,bhkd->bhqk", drawn(2, 3, 4, 5), drawn(2, 3, 6, 5)), (A, A), {"left": None, "right": None}),
    (torch.einsum, ("bhqk, bhkd -> bqhd", drawn(2, 3, 4, 6), drawn(2, 3, 6, 5)), (A, A), {"left": None, "right": -1}),
    (torch.einsum, ("bnc,hcd->bhnd", drawn(2, 4, 5), drawn(3, 5, 6)), (A, C), {"left": -1}),
    (torch.einsum, ("...c,cd", drawn(2, 4, 5), drawn(5, 6)), (A, C), {"left": -1}),
    (torch.einsum, ("bn...,mn->bm...", drawn(2, 3, 4, 5), drawn(6, 3)), (A, C), {"left": None}),
    (torch.einsum, ("bchw,bc->bchw", drawn(2, 3, 4, 4), drawn(2, 3)), (A, A), {"left": None, "right": None}),
    (torch.einsum, ("bij,bkl->bik", drawn(2, 3, 4), drawn(2, 5, 6)), (A, A), {"left": None, "right": -1}),
    (torch.einsum, ("bii,bij->bj", drawn(2, 3, 3), drawn(2, 3, 5)), (A, A), {"left": None, "right": -1}),
    (torch.einsum, ("bhk,bhk->bh", drawn(2, 1, 3), drawn(2, 4, 3)), (A, A), {"left": None, "right": None}),
    (torch.einsum, ("ij,jk,bk->bi", drawn(3, 4), drawn(4, 5), drawn(2, 5)), (C, C, A), {"right_2": -1}),
    (torch.einsum, ("bi,ij->bj", [drawn(4, 3), drawn(3, 5)]), (A, C), {"left": -1}),
    (torch.einsum, (drawn(2, 4, 3), [..., 1], drawn(3, 4), [1, 2], [..., 2]), (A, C), {"left": -1}),
    (torch.tensordot, (drawn(2, 3, 4), drawn(3, 4, 5)), (A, C), {"left": None}),
    (torch.tensordot, (drawn(2, 3, 4), drawn(4, 5, 3), ([1, 2], [2, 0])), (A, C), {"left": None}),
    (torch.inner, (drawn(2, 3, 4), drawn(5, 4)), (A, C), {"left": -1}),
    (torch.outer, (drawn(2), drawn(5)), (A, C), {"left": None}),
    (torch.linalg.vecdot, (drawn(2, 3, 4), drawn(3, 4)), (A, C), {"left": -1}),
    (torch.linalg.multi_dot, ([drawn(2, 3), drawn(3, 4), drawn(4)],), (A, C, C), {"left": -1, "left_2": -1}),
    (
        F.bilinear,
        (drawn(2, 7, 3), drawn(2, 7, 4), drawn(5, 3, 4), drawn(5)),
        (A, C, A),
        {"left": -1, "left_2": None, "right_2": None},
    ),
]
"""Function, arguments, roles of the operands, and the axis of scales of each site that is to be there."""


@pytest.mark.parametrize(("function", "args", "roles", "axes"), CASES)
def test_contraction_computes_what_torch_does(
    function: Any, args: tuple[Any, ...], roles: tuple[str, ...], axes: dict[str, int | None]
) -> None:
    module = Contraction(lambda: QCFS(8, min_level=-8), terms_of(function, args, {}), roles)
    with acting_as_relu(module, {}):
        torch.testing.assert_close(module.answer(function, args, {}), function(*args))
    assert {name: each.scale_axis for name, each in module.named_children() if isinstance(each, QCFS)} == axes


@pytest.mark.parametrize("equation", ["bi,bj->ij", "bi,bi->i"])
def test_contraction_over_the_images_is_refused(equation: str) -> None:
    terms = terms_of(torch.einsum, (equation, drawn(2, 3), drawn(2, 3)), {})
    with pytest.raises(InputError, match="sums over the first axis of an activation, that of the images; keep the"):
        Contraction(QCFS, terms, (A, A))
