"""Neurons by Triton against operations of torch, bit for bit: on a CUDA device, or on a CPU by Triton's interpreter.

TRITON_INTERPRET=1 pytest tests/neurons/test_device_kernels.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from mst.neurons import chunks, device_kernels, kernels
from mst.neurons.chunks import SignedRule

HAS_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if HAS_CUDA else "cpu"
IS_INTERPRETED = find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") == "1"

needs_triton = (
    pytest.mark.gpu
    if HAS_CUDA
    else pytest.mark.skipif(not IS_INTERPRETED, reason="needs a CUDA device, or triton and TRITON_INTERPRET=1")
)


@pytest.fixture(autouse=True)
def _is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_kernels, "_is_broken", False)


def same(a: Tensor | None, b: Tensor | None) -> None:
    """Assert that they are equal bit for bit, NaN to NaN."""
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        torch.testing.assert_close(a.to(b.dtype), b, rtol=0, atol=0, equal_nan=True)
        if a.is_floating_point():
            assert torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())


def inputs(dtype: torch.dtype, steps: int, order: tuple[int, ...] = (0, 1, 2, 3)) -> Tensor:
    """[T, B*k, 5, 3] with B = 2 and k = 3, in some memory order, half of its values at the borders of levels."""
    generator = torch.Generator().manual_seed(steps)
    shape = (steps, 6, 5, 3)
    x = torch.rand([shape[axis] for axis in order], generator=generator, dtype=torch.float64) * 2.5 - 1
    borders = (x * 16).round() / 16 + 1 / 32
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.5, x, borders).to(dtype).to(DEVICE)
    return x.permute([order.index(axis) for axis in range(4)])


def thresholds(dtype: torch.dtype, per_channel: bool) -> Tensor:
    return torch.tensor([0.7, 1.0, 1.3] if per_channel else [0.9], dtype=dtype, device=DEVICE)


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "steps", "order", "per_channel", "masked", "by_neuron"),
    [
        (torch.float32, 3, (0, 1, 2, 3), False, False, False),
        (torch.float64, 2, (0, 1, 3, 2), True, True, True),  # channels before places in memory
        (torch.float32, 4, (1, 2, 3, 0), True, True, True),  # steps innermost: copied
        (torch.float16, 2, (0, 1, 2, 3), False, True, False),
    ],
)
def test_rate_neurons_equal_torch(
    dtype: torch.dtype, steps: int, order: tuple[int, ...], per_channel: bool, masked: bool, by_neuron: bool
) -> None:
    x = inputs(dtype, steps, order)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    lam = thresholds(wide, per_channel)
    v = torch.zeros_like(x[0], dtype=wide) + lam / 2
    keeps = torch.rand(steps, 6, 5, 1, device=DEVICE) < 0.6
    keep: Callable[[int], Tensor] | None = keeps.__getitem__ if masked else None
    v_torch = v.clone()
    found = device_kernels.rate_chunk(x, v, lam, 2, keep, by_neuron)
    expected = chunks.rate_chunk(x, v_torch, lam, 2, keep, by_neuron)
    assert found is not None
    assert 0 < int(found.sent.sum()) <= int(found.fired.sum())
    same(v, v_torch)
    for name in ("output", "fired", "sent", "by_neuron"):
        same(getattr(found, name), getattr(expected, name))


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "burst", "weights", "is_free", "levels", "max_powers", "masked"),
    [
        (torch.float32, 1, (1, 1, 0), False, (16, 0), None, False),
        (torch.float64, 4, (8, 4, 2, 1), False, (15, -15), None, True),
        (torch.float32, 3, (6, 3, 1), False, (13, -4), None, True),
        (torch.float64, 1, (1, 1), True, (16, -3), 2, False),
        (torch.float32, 4, (1, 0, 1), True, (100, -100), 3, True),
    ],
)
def test_signed_neurons_equal_torch(
    dtype: torch.dtype,
    burst: int,
    weights: tuple[int, ...],
    is_free: bool,
    levels: tuple[int, int],
    max_powers: int | None,
    masked: bool,
) -> None:
    x = inputs(dtype, len(weights), (0, 1, 3, 2))
    x[:, 3, 2, 1] = float("nan")
    x[:, :3, 0] = 0.0
    rule = SignedRule(thresholds(dtype, masked), levels[0], levels[1], max_powers, burst, weights, is_free)
    count = torch.zeros_like(x[0])
    keep = torch.rand(6, 5, 3, device=DEVICE) < 0.6 if masked else None
    found = device_kernels.signed_chunk(x, count, rule, 2, keep, masked)
    x_sound, sound = x.nan_to_num(0.0), torch.zeros_like(x[0])
    expected = chunks.signed_chunk(x, torch.zeros_like(x[0]), rule, 2, keep, False)
    numbers = chunks.signed_chunk(x_sound, sound, rule, 2, keep, masked)  # counted without NaN, which is no number
    of_sound = device_kernels.signed_chunk(x_sound, sound, rule, 2, keep, masked)
    assert found is not None
    assert of_sound is not None
    assert found.count is count
    for name in ("output", "count", "unsettled"):
        same(getattr(found, name), getattr(expected, name))
        same(getattr(of_sound, name), getattr(numbers, name))
    for name in ("fired", "sent", "by_neuron"):
        same(getattr(of_sound, name), getattr(numbers, name))
    assert int(of_sound.fired.sum()) > 0


@needs_triton
def test_device_neurons_leave_to_torch_what_they_cannot_do() -> None:
    x = torch.rand(2, 4, 3, device=DEVICE)
    lam = torch.ones(1, device=DEVICE)
    assert device_kernels.rate_chunk(x.to(torch.complex64), torch.zeros_like(x[0]), lam, 2) is None
    assert device_kernels.rate_chunk(x, torch.zeros(4, 6, device=DEVICE)[:, ::2], lam, 2) is None  # gaps in memory
    assert device_kernels.rate_chunk(x, torch.zeros_like(x[0]), torch.ones(4, 1, device=DEVICE), 2) is None
    assert device_kernels.rate_chunk(x[:0], torch.zeros_like(x[0]), lam, 2) is None


def test_device_neurons_are_left_to_torch_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_kernels, "_loops", lambda: None)
    x = torch.rand(2, 4, 3)
    assert device_kernels.rate_chunk(x, torch.zeros_like(x[0]), torch.ones(1), 2) is None


@needs_triton
def test_device_neurons_that_cannot_be_compiled_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        rate_units: dict[object, object] = {}  # noqa: RUF012  raises where a loop is launched

    monkeypatch.setattr(device_kernels, "_loops", lambda: Broken)
    x, v = torch.rand(2, 4, 3), torch.zeros(4, 3)
    with caplog.at_level("INFO", logger="mst.notes"):
        assert device_kernels.rate_chunk(x, v, torch.ones(1), 2) is None
    assert "triton is installed but cannot be used" in caplog.text
    assert torch.equal(v, torch.zeros(4, 3))


@pytest.mark.gpu
def test_kernels_use_triton_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    launch = device_kernels._launch

    def noted(loop: str, *rest: object) -> bool:
        used.append(loop)
        return launch(loop, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(device_kernels, "_launch", noted)
    x, lam = torch.rand(2, 4, 3, device="cuda"), torch.ones(1, device="cuda")
    kernels.rate_chunk(x, torch.zeros_like(x[0]), lam, 2)
    kernels.signed_chunk(x, torch.zeros_like(x[0]), SignedRule(lam, 4, 0, None, 1, (1, 1), False), 2)
    assert used == ["rate_units", "signed_units"]
