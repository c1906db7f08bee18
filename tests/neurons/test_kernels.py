"""The compiled neurons against operations of torch, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mst.neurons import chunks, keep_mask, kernels
from mst.neurons.chunks import Rows, SignedRule

pytestmark = pytest.mark.skipif(kernels.numba_version() is None, reason="numba is not installed")

STEPS, IMAGES = st.integers(1, 4), st.integers(1, 3)
DTYPES = st.sampled_from([torch.float32, torch.float64])


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal bit for bit, NaN to NaN, with equal strides."""
    if a is None or b is None:
        return a is b
    if a.is_floating_point():
        as_integer = torch.int32 if a.dtype == torch.float32 else torch.int64
        bits_a, bits_b = (x.masked_fill(x.isnan(), math.nan).view(as_integer) for x in (a, b))
        strides_a, strides_b = ([s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1] for x in (a, b))
        return strides_a == strides_b and torch.equal(bits_a, bits_b)
    return torch.equal(a, b)


@st.composite
def inputs(draw: st.DrawFn, low: float = -1.0, high: float = 1.5) -> tuple[Tensor, int, torch.Generator]:
    """[T, B*k, ...] in some memory order, with values at the borders of levels; B; a generator for the rest."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    steps, images = draw(STEPS), draw(IMAGES)
    shape = [steps, images * draw(st.integers(1, 3)), *draw(st.lists(st.integers(1, 5), max_size=3))]
    if draw(st.booleans()):
        shape[-1] = draw(st.sampled_from([700, 5000])) if len(shape) > 2 else shape[-1]
    order = draw(st.permutations(range(2, len(shape))))
    gap = draw(st.integers(0, 2))
    memory = [*shape[:2], *(shape[axis] for axis in order)]
    memory[-1] += gap
    x = torch.empty(memory, dtype=draw(DTYPES)).uniform_(low, high, generator=generator)
    borders = (x * 16).round() / 16 + draw(st.sampled_from([0.0, 1 / 32]))
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.5, x, borders)
    x = x[..., : memory[-1] - gap] if draw(st.booleans()) else x[..., gap:]
    back = [0, 1, *(2 + order.index(axis) for axis in range(2, len(shape)))]
    return x.permute(back), images, generator


def broadcast(draw: st.DrawFn, like: Tensor, generator: torch.Generator, axes: int) -> Tensor:
    """Numbers in (0.3, 1.3) that broadcast to `like`, with an entry for each of some of its last axes."""
    shape = [length if draw(st.booleans()) else 1 for length in like.shape[1 : 1 + axes]]
    return torch.rand([1, *shape], generator=generator).to(like.dtype) + 0.3


@settings(max_examples=60)
@given(st.data())
def test_rate_kernel_equals_torch(data: st.DataObject) -> None:
    x, images, generator = data.draw(inputs())
    threshold = broadcast(data.draw, x[0], generator, x.dim() - 2)
    keeps = None
    if data.draw(st.booleans()):
        shape = [x.shape[1], *(length if data.draw(st.booleans()) else 1 for length in x.shape[2:])]
        keeps = torch.rand([len(x), *shape], generator=generator) < 0.5
    if data.draw(st.booleans()):
        x[0, 0] = math.nan
    v = torch.zeros_like(x[0]) + threshold * 0.5
    other = v.clone()
    options = images, None if keeps is None else keeps.__getitem__, data.draw(st.booleans())
    found = kernels.rate_chunk(x, v, threshold, *options)
    expected = chunks.rate_chunk(x, other, threshold, *options)
    assert same(v, other)
    assert same(found.output, expected.output)
    assert same(found.fired, expected.fired)
    assert same(found.sent, expected.sent)
    assert (
        expected.by_neuron is None
        if found.by_neuron is None
        else torch.equal(found.by_neuron.double(), expected.by_neuron)
    )


@settings(max_examples=200)
@given(st.data())
def test_signed_kernel_equals_torch(data: st.DataObject) -> None:
    x, images, generator = data.draw(inputs())
    threshold = broadcast(data.draw, x[0], generator, x.dim() - 2) if data.draw(st.booleans()) else torch.tensor([0.7])
    has_nan = data.draw(st.booleans())
    if has_nan:
        x[data.draw(st.integers(0, len(x) - 1)), 0] = math.nan
    levels = data.draw(st.sampled_from([1, 3, 16, 200]))
    lowest = -data.draw(st.sampled_from([0, 0, 2, levels]))
    is_free = data.draw(st.booleans())
    rule = SignedRule(
        threshold, levels, lowest, data.draw(st.sampled_from([None, None, 1, 2])), data.draw(st.integers(1, 4)),
        tuple(data.draw(st.sampled_from([0, 1] if is_free else [0, 1, 2, 5, 8])) for _ in x), is_free,
    )  # fmt: skip
    keep = None
    if data.draw(st.booleans()):
        keep = (
            torch.rand([x.shape[1], *(n if data.draw(st.booleans()) else 1 for n in x.shape[2:])], generator=generator)
            < 0.5
        )
    low, high = rule.levels
    count = torch.empty_like(x[0]).uniform_(low, high, generator=generator).round_().add_(0.0)
    n = count.numel() // images
    lengths = [length for length in range(1, n + 1) if n % length == 0]
    rows = Rows(data.draw(st.sampled_from(lengths))) if data.draw(st.booleans()) else None
    options = images, keep, data.draw(st.booleans()), rows
    expected = chunks.signed_chunk(x, count, rule, *options)
    found = kernels.signed_chunk(x, count.clone(), rule, *options)
    names = ("output", "count", "unsettled", "unsettled_rows") + (() if has_nan else ("fired", "sent", "changed_rows"))
    for name in names:
        assert same(getattr(found, name), getattr(expected, name)), (name, rule)
    if found.by_neuron is not None and not has_nan:
        assert torch.equal(found.by_neuron.double(), expected.by_neuron)


@given(st.integers(1, 3), st.integers(0, 2**63), st.sampled_from([0.0, 0.3, 0.999]), st.integers(0, 70))
def test_mask_kernel_equals_torch(images: int, seed: int, ratio: float, step: int) -> None:
    indices, number = torch.arange(images) * 7919, kernels.MIN_DRAWS + seed % 5
    options = {"seed": seed, "site": "a.b", "step": step}
    assert torch.equal(
        kernels.keep_mask(indices, number, ratio, **options), keep_mask(indices, number, ratio, **options)
    )
