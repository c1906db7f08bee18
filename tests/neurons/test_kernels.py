"""The compiled neurons against operations of torch, bit for bit."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mst
from mst.neurons import QCFS, SCHEDULES, ScheduleName, chunks, functional, keep_mask, kernels, mask_spikes, parallel
from mst.neurons.chunks import Rows, SignedRule
from mst.neurons.functional import levels_per_unit

pytestmark = pytest.mark.skipif(kernels.numba_version() is None, reason="numba is not installed")

is_on_disk = kernels._is_on_disk  # the tests replace it, see conftest.py


@pytest.fixture(autouse=True, scope="module")
def _compile_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "MIN_NEURON_STEPS", 0)
        yield


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
    numbers = torch.rand([1, *shape], generator=generator).to(like.dtype) + 0.3
    return (numbers * 8).round() / 8 if draw(st.booleans()) else numbers


@settings(max_examples=40)
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


@settings(max_examples=80)
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


def test_levels_are_rounded_twice_and_not_once() -> None:
    # Next to the borders a fused multiply-add, which rounds once, finds other levels.
    scale = torch.rand(3000) * 6 + 1
    rule = SignedRule(3 / scale, 3, 0, None, 3, (1,), False)
    factor = levels_per_unit(scale, rule.threshold, 3)
    assert isinstance(factor, Tensor)
    step = torch.arange(-6, 7, dtype=torch.int32)[:, None]
    x = ((0.5 / factor).view(torch.int32) + step).view(torch.float32)[None]  # the floats around each border
    count = kernels.signed_chunk(x, torch.zeros_like(x[0]), rule, 1).count
    assert same(count, chunks.signed_chunk(x, torch.zeros_like(x[0]), rule, 1).count)
    assert not torch.equal(count, (x[0].double() * factor.double() + 0.5).float().floor())


@settings(max_examples=20)
@given(st.data())
def test_rows_that_are_left_out_keep_their_output(data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    length = data.draw(st.sampled_from([3, 1500]))
    x = torch.rand(2, 4, length, generator=generator)
    rule = SignedRule(torch.tensor([1.0]), 5, 0, None, 2, (1,), False)
    count, out = torch.zeros_like(x), torch.empty_like(x)[None]
    first = kernels.signed_chunk(x[None], count, rule, 2, rows=Rows(length, out=out))
    assert first.output is out
    assert first.changed_rows is not None
    assert first.unsettled_rows is not None
    moved = torch.rand(2, 4, generator=generator) < 0.5
    x[moved] = torch.rand(int(moved.sum()), length, generator=generator)
    whole = chunks.signed_chunk(x[None], count, rule, 2, rows=Rows(length))
    again = kernels.signed_chunk(x[None], count, rule, 2, rows=Rows(length, moved | first.unsettled_rows[0], out))
    for name in ("output", "count", "fired", "unsettled", "changed_rows", "unsettled_rows"):
        assert same(getattr(again, name), getattr(whole, name)), name
    still = kernels.signed_chunk(
        x[None] + 5, count, rule, 2, rows=Rows(length, torch.zeros(2, 4, dtype=torch.bool), out)
    )
    assert same(still.output, whole.output)
    assert int(still.fired) == 0


@pytest.mark.parametrize("is_compiled", [True, False])
def test_signed_kernel_updates_the_counts_of_some_images_in_place(is_compiled: bool) -> None:
    rule = SignedRule(torch.tensor([1.0]), 5, 0, None, 2, (2,), False)
    x, places = torch.rand(1, 4, 7), torch.tensor([0, 3])  # two images of two rows each, of a batch of four
    count = torch.randint(0, 6, (8, 7)).float()
    of_some, before = count.view(4, 2, 7)[places].flatten(0, 1), count.clone()
    expected = chunks.signed_chunk(x, of_some, rule, 2)
    with ExitStack() as stack:
        if not is_compiled:
            stack.enter_context(kernels.without_kernels())
        found = kernels.signed_chunk(x, count, rule, 2, rows=Rows(14, places=places))
    assert found.count is count
    assert same(found.output, expected.output)
    assert same(found.fired, expected.fired)
    assert same(count.view(4, 2, 7)[places].flatten(0, 1), expected.count)
    assert torch.equal(count.view(4, 14)[1:3], before.view(4, 14)[1:3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 2, 4096), (3, 5, 7, 1000), (2, 1, 16384), (1, 4, 16385)])
def test_changes_are_those_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rounding = 32 * torch.finfo(dtype).eps
    now = torch.randn(shape, dtype=dtype)
    parts = torch.randint(-4, 5, shape).to(dtype) / 2
    before = now * (1 + rounding * parts)  # also by exactly what is still rounding
    before.view(-1)[::7], now.view(-1)[::11] = math.inf, math.nan
    before.view(-1)[::13], now.view(-1)[::13] = 0.0, 0.0
    flags = kernels.changed_flags(now, before, rounding)
    assert ("flag_changes", dtype) in kernels._ready
    assert same(flags, functional.changed_flags(now, before, rounding))
    assert 0.2 < flags.mean() < 0.8  # of both kinds
    other = before.movedim(1, -1).contiguous()  # in another order in memory
    assert torch.equal(kernels.changed_flags(now.movedim(1, -1), other, rounding), flags.movedim(1, -1))


@pytest.mark.parametrize("of", ["ELEMENTS_PER_THREAD", "ELEMENTS_PER_TORCH_THREAD"])
@pytest.mark.parametrize("length", [3, 1500])
def test_kernels_work_in_several_threads(length: int, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, of, 1)
    torch.set_num_threads(3)
    x, threshold = torch.randn(3, 4, 9, length), torch.tensor([1.0])
    found = kernels.rate_chunk(x, torch.zeros_like(x[0]), threshold, 2, by_neuron=True)
    rule = SignedRule(threshold, 5, 0, None, 2, (1, 2, 1), False)
    signed = kernels.signed_chunk(x, torch.zeros_like(x[0]), rule, 2, by_neuron=True, rows=Rows(length))
    masks = kernels.keep_mask(torch.arange(7), 9000, 0.5, seed=1, site="a", step=2)
    with kernels.without_kernels():
        expected = kernels.rate_chunk(x, torch.zeros_like(x[0]), threshold, 2, by_neuron=True)
        of_signed = kernels.signed_chunk(x, torch.zeros_like(x[0]), rule, 2, by_neuron=True, rows=Rows(length))
        assert torch.equal(masks, kernels.keep_mask(torch.arange(7), 9000, 0.5, seed=1, site="a", step=2))
    for one, other, names in ((found, expected, RATE), (signed, of_signed, SIGNED)):
        assert all(torch.equal(getattr(one, name).double(), getattr(other, name).double()) for name in names)


RATE = ("output", "fired", "sent", "by_neuron")
SIGNED = (*RATE, "count", "unsettled", "changed_rows", "unsettled_rows")


@pytest.mark.parametrize("schedule", [None, *SCHEDULES])
def test_simulation_is_the_same_with_and_without_kernels(schedule: ScheduleName | None) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), QCFS(8, 0.5), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), QCFS(8, 0.5),
        nn.Flatten(), nn.Linear(96, 5),
    ).eval()  # fmt: skip
    mask_spikes(net, 0.25)
    images = torch.rand(3, 1, 8, 8)
    lossless = {"coding": "lossless", "schedule": schedule, "burst": 2}
    snn = mst.convert(net, example=images[:1], **({} if schedule is None else lossless))
    found = mst.simulate(snn, images, 12, keep_step_logits=True)
    with kernels.without_kernels():
        expected = mst.simulate(snn, images, 12, keep_step_logits=True)
    assert same(found.step_logits, expected.step_logits)
    for site, record in expected.sites.items():
        assert torch.equal(found.sites[site].sent_per_step, record.sent_per_step)
        assert torch.equal(found.sites[site].dropped_per_step, record.dropped_per_step)
    assert int(expected.sites["1"].dropped_per_step.sum()) > 0
    for one, other in zip(found.operations, expected.operations, strict=True):
        assert torch.equal(one.acs_per_step, other.acs_per_step)


class HeadsApart(nn.Module):
    """Products of queries and keys that are slices of one map's output, so that they lie apart in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.of_q, self.of_k, self.product = (
            nn.Linear(6, 12),
            QCFS(6, 0.5),
            QCFS(6, 0.5),
            mst.ActivationProduct(),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.qk(x).reshape(-1, 5, 2, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
        products: Tensor = self.product(self.of_q(q), self.of_k(k).transpose(-1, -2))
        return self.head(products.mean(dim=(1, 2)))


@pytest.mark.parametrize("incremental", [False, True])
def test_whole_runs_stay_in_the_kernels_when_slices_lie_apart_in_memory(
    incremental: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images = HeadsApart().eval(), torch.randn(4, 5, 6)
    images[1] = images[0] / 100  # settles early and leaves
    snn = mst.convert(net, "lossless", images[:1], schedule="free")
    with kernels.without_kernels():
        expected = mst.simulate(snn, images, 30, incremental=incremental)

    def left_to_torch(*_args: object, **_options: object) -> None:
        raise AssertionError("left to torch")

    monkeypatch.setattr(chunks, "signed_chunk", left_to_torch)
    found = mst.simulate(snn, images, 30, incremental=incremental)
    assert found.settled_at is not None
    assert found.settled_at.unique().numel() > 1
    assert torch.equal(found.logits, expected.logits)
    for site, record in expected.sites.items():
        assert torch.equal(found.sites[site].sent_per_step, record.sent_per_step)


# ------------------------------------------------------------------------------ where torch has to do


class OwnTensor(Tensor):
    """A tensor of a user."""


X = torch.rand(2, 3, 4)
NOT_TAKEN = {
    "half precision": X.bfloat16(),
    "no images": X[:, :0],
    "a class of its own": X.as_subclass(OwnTensor),
    "complex": X.to(torch.complex64),
}


@pytest.mark.parametrize("what", NOT_TAKEN)
def test_kernels_leave_to_torch_what_they_cannot_do(what: str) -> None:
    x = NOT_TAKEN[what]
    assert kernels._can_take("rate_units", X, X[0], X[0])
    assert not kernels._can_take("rate_units", x, x[0], None)
    assert not kernels._can_take("rate_units", X, x[0], None)
    with kernels.without_kernels():
        assert not kernels._can_take("rate_units", X, X[0], None)


def test_kernels_leave_to_torch_what_is_transformed() -> None:
    taken = []
    torch.vmap(lambda x: taken.append(kernels._can_take("rate_units", X, X[0], None)) or x)(X)
    assert taken == [False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_torch_and_kernels_take_the_same_arguments(dtype: torch.dtype) -> None:
    x, state, rule = X.to(dtype), torch.zeros_like(X[0]), SignedRule(torch.tensor([1.0]), 5, 0, None, 2, (1, 1), False)
    out = torch.empty_like(x)
    chunk = kernels.signed_chunk(x, state, rule, 3, torch.ones(3, 1, dtype=torch.bool), True, Rows(2, out=out))
    assert chunk.output is out
    assert chunk.changed_rows is not None
    assert chunk.changed_rows.shape == (2, 3, 2)
    assert kernels.rate_chunk(x, state, torch.tensor([1.0]), 3, lambda t: torch.ones(3, 1).bool()).output.dtype == dtype


def test_small_runs_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MIN_NEURON_STEPS", 50)
    monkeypatch.setattr(kernels, "_ready", set())
    kernels._left_to_torch.clear()
    taken = [kernels._can_take("rate_units", X, X[0], None) for _ in range(3)]  # 24 neuron-steps each
    assert taken == [False, False, True]
    assert kernels.description() == "torch"
    kernels._ready.add(("rate_units", torch.float32))
    assert kernels.description() == f"compiled, numba {kernels.numba_version()}"


def test_kernels_do_without_a_folder_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from mst.neurons import compiled

    def njit(*, nogil: bool, cache: bool = False) -> object:
        def decorate(function: object) -> object:
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return "compiled", nogil

        return decorate

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled._entry(lambda: None) == ("compiled", True)


def test_kernels_do_with_a_cache_that_cannot_be_written(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_is_on_disk", is_on_disk)
    monkeypatch.setattr(kernels, "_has_announced", threading.Event())
    calls: list[tuple[int, int]] = []

    loop = SimpleNamespace(__name__="loop_of_a_test", stats=SimpleNamespace(cache_path=None))

    def part(begin: int, end: int) -> None:
        calls.append((begin, end))
        if len(calls) == 1:
            raise PermissionError("disk full")

    with caplog.at_level("INFO", logger="mst.notes"):
        kernels._compile(loop, torch.float32, part)
        kernels._compile(loop, torch.float32, part)
        kernels._compile(loop, torch.float64, part)  # compiled too, without a second note
    assert calls == [(0, 0), (0, 0), (0, 0)]
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "compiling neurons for this machine",
        "the compiled neurons could not be kept for the next time: disk full",
    ]
