"""Neurons on a CUDA device, in one pass over memory. Needs triton, which torch installs with its builds for CUDA.

Each function has a form in torch of the same name (`chunks`), which it equals bit for bit. It returns None where it
does not apply, and the caller then computes by torch: without triton, for other types, for rows of an incremental
simulation, and where the images do not lie one after another in memory. Nothing here waits for the device.

Letters: T steps, B images, k rows of an image on the batch axis, n neurons of an image.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mst.text import note, one_line

from .chunks import Chunk, Keep, SignedChunk, SignedRule
from .functional import levels_per_unit, quantum
from .layouts import IS_NAN, MISSING, Frame, frame_of
from .powers import EXPONENTS

BLOCK = 1024
"""Neurons that a program takes."""

_RATE_INPUTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_is_broken = False


@cache
def _loops() -> Any:
    """The module of loops; None without triton."""
    return import_module("mst.neurons.triton_loops") if find_spec("triton") is not None else None


def rate_chunk(
    x_TB: Tensor,
    v: Tensor,
    threshold: Tensor,
    batch_size: int,
    keep: Keep | None = None,
    by_neuron: bool = False,
) -> Chunk | None:
    """`chunks.rate_chunk`; None where it does not apply."""
    frame = _frame(x_TB, v, batch_size)
    if frame is None or x_TB.dtype not in _RATE_INPUTS:
        return None
    lam = _by_image(threshold.detach().to(v.dtype), v, frame)
    if lam is None:
        return None
    steps, spikes_TB = len(x_TB), _like_state(x_TB, v)
    keeps = x_TB
    if keep is not None:
        keeps = _like_state(x_TB, v, torch.uint8)
        for t in range(steps):
            keeps[t].copy_(keep(t))
    counts = torch.zeros(2, steps, dtype=torch.int64, device=x_TB.device)
    numbers = _numbers(steps, frame, by_neuron, x_TB.device)
    arguments = (
        _copied(x_TB, v), v, lam, keeps, spikes_TB, counts[0], counts[1], numbers,
        frame.neurons, -(-frame.neurons // BLOCK), v.numel(), steps, lam.numel() > 1, keep is not None, by_neuron,
    )  # fmt: skip
    if not _launch("rate_units", frame, arguments, x_TB):
        return None
    return Chunk(spikes_TB, counts[0], counts[1], _in_order(numbers, frame) if by_neuron else None)


def signed_chunk(
    x_TB: Tensor,
    count: Tensor,
    rule: SignedRule,
    batch_size: int,
    keep: Tensor | None = None,
    by_neuron: bool = False,
) -> SignedChunk | None:
    """`chunks.signed_chunk` without rows; `count` is updated in place and returned itself. None where it does not
    apply."""
    frame = _frame(x_TB, count, batch_size)
    if frame is None or x_TB.dtype != count.dtype or x_TB.requires_grad:
        return None
    scale, value = (
        _by_image(torch.as_tensor(each, dtype=count.dtype, device=count.device), count, frame)
        for each in (f(x_TB, rule.threshold, rule.num_levels) for f in (levels_per_unit, quantum))
    )
    if scale is None or value is None:
        return None
    steps, y_TB, device = len(x_TB), _like_state(x_TB, count), x_TB.device
    keeps = count if keep is None else _like_state(count[None], count, torch.uint8)[0].copy_(keep)
    counts = torch.zeros(2, steps, dtype=torch.int64, device=device)
    numbers = _numbers(steps, frame, by_neuron, device)
    states = torch.zeros(steps, batch_size, dtype=torch.int32, device=device)
    arguments = (
        _copied(x_TB, count), count, scale, value, keeps, y_TB, _weights(rule.weights, device), counts[0], counts[1],
        numbers, states, frame.neurons, -(-frame.neurons // BLOCK), batch_size, count.numel(), steps,
        float(rule.min_level), float(rule.num_levels), *map(float, rule.levels), rule.burst, rule.max_powers or 0,
        rule.is_free, scale.numel() > 1, keep is not None, by_neuron,
    )  # fmt: skip
    if not _launch("signed_units", frame, arguments, x_TB):
        return None
    unsettled = (states & (MISSING | IS_NAN)) == MISSING
    return SignedChunk(
        y_TB, counts[0], counts[1], _in_order(numbers, frame) if by_neuron else None, count, unsettled
    )  # fmt: skip


def _launch(loop: str, frame: Frame, arguments: tuple[Any, ...], x: Tensor) -> bool:
    """Run a loop; False if it cannot be compiled here, which is reported once."""
    global _is_broken
    programs = frame.images * -(-frame.neurons // BLOCK)
    try:
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            getattr(_loops(), loop)[(programs,)](*arguments, BLOCK, num_warps=4, enable_fp_fusion=False)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler that does not work here may raise anything; nothing has run then
        _is_broken = True
        note(f"neurons are computed by torch: triton is installed but cannot be used ({one_line(error)})")
        return False
    return True


def _frame(x_TB: Tensor, state: Tensor, batch_size: int) -> Frame | None:
    """The order in which the neurons of an image lie in memory; None where no loop applies."""
    if _is_broken or _loops() is None or state.dtype not in EXPONENTS or x_TB.shape[1:] != state.shape:
        return None
    return frame_of(x_TB.shape[1:], state.stride(), batch_size) if x_TB.numel() else None


def _like_state(x_TB: Tensor, state: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An empty tensor of the shape of x_TB whose steps lie in memory one after another, each as the state does."""
    strides = (state.numel(), *state.stride())
    return torch.empty_strided(x_TB.shape, strides, dtype=dtype or x_TB.dtype, device=x_TB.device)


def _copied(x_TB: Tensor, state: Tensor) -> Tensor:
    """x_TB in this order: itself, or a copy."""
    expected = (state.numel(), *state.stride())
    lies_so = all(a == b or n == 1 for a, b, n in zip(x_TB.stride(), expected, x_TB.shape, strict=True))
    return x_TB.detach() if lies_so else _like_state(x_TB, state).copy_(x_TB)


def _by_image(numbers: Tensor, state: Tensor, frame: Frame) -> Tensor | None:
    """Numbers that broadcast to the state: one, or one for each neuron of an image in the order of its memory; None if
    images differ."""
    if numbers.numel() == 1:
        return numbers
    of_image = state[: frame.shape[0]]
    if numbers.dim() == state.dim() and numbers.shape[0] > 1 and frame.images > 1:
        return None
    return torch.empty_strided(of_image.shape, of_image.stride(), dtype=state.dtype, device=state.device).copy_(numbers)


def _numbers(steps: int, frame: Frame, is_wanted: bool, device: torch.device) -> Tensor:
    return torch.zeros(steps, frame.neurons if is_wanted else 1, dtype=torch.int32, device=device)


def _in_order(numbers: Tensor, frame: Frame) -> Tensor:
    """[T, n] in the order of the memory -> in the order of the axes."""
    by_axes = numbers.as_strided((len(numbers), *frame.shape), (frame.neurons, *frame.strides))
    return by_axes.reshape(len(numbers), -1)


@lru_cache(maxsize=256)
def _weights(weights: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(weights, dtype=torch.int32, device=device)
