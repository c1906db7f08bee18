"""Compiled neurons: what `functional` and `signed` compute, in one pass over memory. Needs numba (extra `fast`) on a
CPU, and triton on a CUDA device (`device_kernels`).

Each function here has a form in torch of the same name (`chunks`, `functional`), which it equals bit for bit and which
it calls where the compiled form does not apply: without numba, on another device, in half precision, while torch traces
or transforms the code, for tensors of other classes, and where the images do not lie one after another in memory.

Letters: T steps, B images, k rows of an image on the batch axis, n neurons of an image, `...` further axes.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mst.text import note

from . import chunks, device_kernels, functional
from .chunks import Chunk, Keep, Rows, SignedChunk, SignedRule
from .functional import is_transformed, levels_per_unit, quantum
from .image_rows import put_rows, take_rows
from .layouts import CHANGED, FIRST_ROW, IS_NAN, MISSING, Array, Frame, Operand, flat, frame_of
from .parallel import run_in_threads
from .powers import EXPONENTS, NEAREST
from .signed import outermost_levels

RATE_UNIT, SIGNED_UNIT = 1 << 14, 1 << 12
"""Bytes of the neurons that are taken at once through all steps: with input, output and constants such a unit fits
nearly into the first cache (32 KiB)."""

MIN_NEURON_STEPS = 1 << 24
"""Neurons times steps of one type that are left to torch before a loop for this type is compiled, or read from the
disk, which takes some seconds and half a second: small runs do without."""

MOST_QUANTA = 1 << 20
"""Range of levels, times 3, above which signed neurons are left to torch, see `compiled._weighted_spikes`."""

MIN_DRAWS = 1 << 12
"""Draws of a mask, or values to compare, that are worth a call of the compiled form."""

PIECE = 1 << 14
"""Values that are compared at once."""

_CLASSES = (Tensor, torch.nn.Parameter)
_KINDS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
_ONE = torch.ones(1)
_ready: set[tuple[str, torch.dtype]] = set()
_has_announced = threading.Event()
"""Set once the user knows that loops are compiled: there are several, and one note is enough."""
_left_to_torch: Counter[tuple[str, torch.dtype]] = Counter()
_lock = threading.Lock()
_OFF: ContextVar[bool] = ContextVar("mst_kernels_off", default=False)
_AT_ONCE: ContextVar[bool] = ContextVar("mst_kernels_at_once", default=False)


@cache
def numba_version() -> str | None:
    """Version of numba if kernels can be compiled here; None without numba, or with NUMBA_DISABLE_JIT=1."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return None
    try:
        return version("numba")
    except PackageNotFoundError:
        return None


def description() -> str:
    """How this process has computed neurons on a CPU: "compiled, numba 0.61.0", or "torch" if it has compiled none."""
    return f"compiled, numba {numba_version()}" if _ready else "torch"


@contextmanager
def without_kernels() -> Iterator[None]:
    """Compute all neurons by operations of torch within the block, which the kernels equal."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


@contextmanager
def kernels_at_once() -> Iterator[None]:
    """Compile the loops that are used within the block, however little there is to compute."""
    token = _AT_ONCE.set(True)
    try:
        yield
    finally:
        _AT_ONCE.reset(token)


@cache
def _loops() -> Any:
    """The module of compiled loops; None if numba does not work on this machine."""
    try:
        return import_module("mst.neurons.compiled")
    except ImportError as error:
        note(f"neurons are computed by torch: numba is installed but cannot be used ({error})")
        return None


def _can_take(loop: str, x_TB: Tensor, state: Tensor, other: Tensor | None, is_part: bool = False) -> bool:
    """True if a loop takes these operands (input, state, threshold if it has the type of both) and is to be used;
    is_part: the state is that of more images than the input."""
    dtype = x_TB.dtype
    return (
        dtype in EXPONENTS
        and not _OFF.get()
        and x_TB.shape[1 + is_part :] == state.shape[is_part:]
        and x_TB.numel() > 0
        and _is_plain(x_TB, dtype)
        and _is_plain(state, dtype)
        and (other is None or _is_plain(other, dtype))
        and _is_usable(loop, dtype, x_TB.numel())
    )


def _is_usable(loop: str, dtype: torch.dtype, elements: int) -> bool:
    """True if kernels can be used here, and this one has been compiled or is worth it."""
    if numba_version() is None or is_transformed():
        return False
    if (loop, dtype) not in _ready and not _AT_ONCE.get():
        _left_to_torch[loop, dtype] += elements
        if _left_to_torch[loop, dtype] <= MIN_NEURON_STEPS:
            return False
    return _loops() is not None


def _is_on_device(x_TB: Tensor, state: Tensor) -> bool:
    """True if `device_kernels` may be used."""
    are_there = all(type(each) in _CLASSES and each.is_cuda for each in (x_TB, state))
    return are_there and not _OFF.get() and not is_transformed() and not x_TB.is_neg()


def _is_plain(x: Tensor, dtype: torch.dtype) -> bool:
    return x.is_cpu and x.dtype == dtype and type(x) in _CLASSES and x.layout is torch.strided and not x.is_neg()


def rate_chunk(
    x_TB: Tensor,
    v: Tensor,
    threshold: Tensor,
    batch_size: int,
    keep: Keep | None = None,
    by_neuron: bool = False,
) -> Chunk:
    """`chunks.rate_chunk` in one pass over memory."""
    if _is_on_device(x_TB, v):
        on_device = device_kernels.rate_chunk(x_TB, v, threshold, batch_size, keep, by_neuron)
        if on_device is not None:
            return on_device
    threshold = threshold.detach().to(v.dtype)
    memory = _memory(x_TB, v, batch_size) if _can_take("rate_units", x_TB, v, threshold) else None
    of_threshold = None if memory is None else _same_in_all_images(memory[0].operand(threshold))
    if memory is None or of_threshold is None:
        return chunks.rate_chunk(x_TB, v, threshold, batch_size, keep, by_neuron)
    frame, spikes_TB = memory
    steps, neurons = len(x_TB), frame.neurons
    x, of_keep = frame.operand(x_TB, True), _no_mask()
    if keep is not None:
        masks = [keep(t) for t in range(steps)]
        found = frame.operand(masks[0][None] if steps == 1 else torch.stack(masks), True)
        if found is None:
            return chunks.rate_chunk(x_TB, v, threshold, batch_size, keep, by_neuron)
        of_keep = found
    size = min(neurons, RATE_UNIT // v.itemsize)
    units = -(-neurons // size)
    counts = np.zeros((2, units, steps), np.int64)
    numbers = np.zeros((steps, neurons) if by_neuron else (0, 0), np.int32)
    state, spikes, loop = flat(v, v.numel()), flat(spikes_TB, x_TB.numel()), _loops().rate_units

    def part(begin: int, end: int) -> None:
        span = (steps, batch_size, neurons, size, begin, end)
        loop(x, state, of_threshold, of_keep, spikes, (counts[0], counts[1], numbers), span)

    _compile(loop, v.dtype, part)
    run_in_threads(part, units, spikes.size)
    fired, sent = _sums(counts)
    return Chunk(spikes_TB, fired, sent, _in_order(numbers, frame) if by_neuron else None)


def keep_mask(images: Tensor, num_elements: int, masking_ratio: float, *, seed: int, site: str, step: int) -> Tensor:
    """`functional.keep_mask` in one pass over memory."""
    draws = len(images) * num_elements
    can = draws >= MIN_DRAWS and not _OFF.get() and type(images) is Tensor and images.is_cpu
    if not can or not _is_usable("draw_masks", torch.bool, draws):
        return functional.keep_mask(images, num_elements, masking_ratio, seed=seed, site=site, step=step)
    keys = functional.mask_keys(images, num_elements, seed=seed, site=site, step=step)
    of_images, of_elements = (key.numpy().view(np.uint32) for key in keys)
    keep, least = torch.empty(len(images), num_elements, dtype=torch.bool), functional.least_kept(masking_ratio)
    bits, loop, factors = keep.numpy(), _loops().draw_masks, np.array(functional.MASK_FACTORS, np.uint32)

    def part(begin: int, end: int) -> None:
        loop(of_images[begin:end], of_elements, factors, least, bits[begin:end])

    _compile(loop, torch.bool, part)
    run_in_threads(part, len(images), draws)
    return keep


def changed_flags(now: Tensor, before: Tensor, rounding: float) -> Tensor:
    """`functional.changed_flags` in one pass over memory."""
    number = now.numel()
    can = (
        number >= MIN_DRAWS
        and not _OFF.get()
        and now.dtype in EXPONENTS
        and now.shape == before.shape
        and all(_is_plain(each, now.dtype) and each.is_contiguous() for each in (now, before))
    )
    if not can or not _is_usable("flag_changes", now.dtype, number):
        return functional.changed_flags(now, before, rounding)
    flags = torch.empty_like(now)
    of_now, of_before, of_flags = (flat(each, number) for each in (now, before, flags))
    factor, loop = np.array([rounding], of_now.dtype), _loops().flag_changes

    def part(begin: int, end: int) -> None:
        here = slice(begin * PIECE, end * PIECE)
        loop(of_now[here], of_before[here], factor, of_flags[here])

    _compile(loop, now.dtype, part)
    run_in_threads(part, -(-number // PIECE), number)
    return flags


def signed_chunk(
    x_TB: Tensor,
    count: Tensor,
    rule: SignedRule,
    batch_size: int,
    keep: Tensor | None = None,
    by_neuron: bool = False,
    rows: Rows | None = None,
) -> SignedChunk:
    """`chunks.signed_chunk` in one pass over memory; `count` is updated in place, and is returned itself."""
    if rows is None and _is_on_device(x_TB, count):
        on_device = device_kernels.signed_chunk(x_TB, count, rule, batch_size, keep, by_neuron)
        if on_device is not None:
            return on_device
    found = _signed_in_one_pass(x_TB, count, rule, batch_size, keep, by_neuron, rows)
    if found is not None:
        return found
    places = None if rows is None else rows.places
    if places is None:
        return chunks.signed_chunk(x_TB, count, rule, batch_size, keep, by_neuron, rows)
    images = len(count) // (x_TB.shape[1] // batch_size)
    found = chunks.signed_chunk(x_TB, take_rows(count, images, places), rule, batch_size, keep, by_neuron, rows)
    assert found.count is not None
    put_rows(count, images, places, found.count)
    return replace(found, count=count)


def _signed_in_one_pass(
    x_TB: Tensor,
    count: Tensor,
    rule: SignedRule,
    batch_size: int,
    keep: Tensor | None,
    by_neuron: bool,
    rows: Rows | None,
) -> SignedChunk | None:
    """See `signed_chunk`; None where the loop does not apply."""
    threshold = None if rule.threshold.numel() == 1 else rule.threshold
    is_part = rows is not None and rows.places is not None
    can = not x_TB.requires_grad and _can_take("signed_units", x_TB, count, threshold, is_part) and _is_exact(rule)
    memory = _memory(x_TB, count, batch_size, rows) if can else None
    quanta = None if memory is None else _quanta(memory[0], x_TB, rule)
    of_keep = None if memory is None else _no_mask() if keep is None else memory[0].operand(keep)
    if memory is None or quanta is None or of_keep is None:
        return None
    frame, y_TB = memory
    x, steps, neurons = frame.operand(x_TB, True), len(x_TB), frame.neurons
    units = _units(neurons, neurons if rows is None else rows.length, SIGNED_UNIT // count.itemsize)
    counts = np.zeros((2, units.number, steps), np.int64)
    numbers = np.zeros((steps, neurons) if by_neuron else (0, 0), np.int32)
    states = np.zeros((steps, batch_size, units.states), np.uint8)
    results = counts[0], counts[1], numbers, states, units.active(rows)
    of_rule = _rule_of(count.dtype, (rule.min_level, rule.num_levels), rule.burst, rule.max_powers, rule.is_free)
    weights = np.array(rule.weights, np.int64)
    places = _all_places(batch_size) if rows is None or rows.places is None else rows.places.numpy()
    arrays, loop = (flat(count, count.numel()), places, flat(y_TB, x_TB.numel())), _loops().signed_units

    def part(begin: int, end: int) -> None:
        span = (steps, batch_size, units.length, units.rows, begin, end), units.firsts, weights
        loop(x, quanta, of_keep, arrays, results, of_rule, span)

    _compile(loop, count.dtype, part)
    run_in_threads(part, units.number, x_TB.numel())
    fired, sent = _sums(counts)
    of_rows = None if rows is None else units.by_row(states)
    return SignedChunk(
        y_TB,
        fired,
        sent,
        _in_order(numbers, frame) if by_neuron else None,
        count,
        _is_missing(np.bitwise_or.reduce(states, axis=2) if units.states > 1 else states[:, :, 0]),
        None if of_rows is None else torch.from_numpy((of_rows & CHANGED) > 0),
        None if of_rows is None else _is_missing(of_rows),
    )


@lru_cache(maxsize=64)
def _all_places(images: int) -> Array:
    return np.arange(images)


def _is_exact(rule: SignedRule) -> bool:
    """True if the loop divides whole numbers exactly."""
    lowest, highest = rule.levels
    return 3 * (highest - lowest) + max(rule.weights) < MOST_QUANTA


@dataclass(frozen=True)
class _Units:
    """The neurons of an image cut into units, each within a row or of whole rows."""

    firsts: Array
    """int64 [units + 1]: neurons with which the units begin."""

    length: int
    """Neurons of a row, or of a unit where a row has several."""

    rows: int
    """Rows of a unit, 1 where a row has several units."""

    parts: int
    """Units of a row, 1 where a unit has several rows."""

    @property
    def number(self) -> int:
        """Units of an image."""
        return len(self.firsts) - 1

    @property
    def states(self) -> int:
        """States that the loop keeps for an image."""
        return self.number if self.parts > 1 else int(self.firsts[-1]) // self.length

    def active(self, rows: Rows | None) -> Array:
        """uint8 [B, states]: 0 for what is to be left out; of size 0 without such rows."""
        if rows is None or rows.active is None:
            return np.empty((0, 0), np.uint8)
        return np.repeat(rows.active.view(torch.uint8).numpy(), self.parts, axis=1)

    def by_row(self, states: Array) -> Array:
        """States [T, B, states] -> [T, B, rows]."""
        whole: Array = np.bitwise_or.reduce(states.reshape(*states.shape[:2], -1, self.parts), axis=3)
        return whole


@lru_cache(maxsize=1024)
def _units(neurons: int, row: int, size: int) -> _Units:
    """Units of about `size` neurons for rows of this length."""
    if row <= size:
        size = size // row * row
        firsts = np.minimum(np.arange(-(-neurons // size) + 1, dtype=np.int64) * size, neurons)
        return _Units(firsts, row, size // row, 1)
    parts = -(-row // size)
    in_row = np.arange(parts, dtype=np.int64) * size
    firsts = (np.arange(neurons // row, dtype=np.int64)[:, None] * row + in_row).reshape(-1)
    return _Units(np.append(firsts, neurons), size, 1, parts)


def _memory(x_TB: Tensor, state: Tensor, batch_size: int, rows: Rows | None = None) -> tuple[Frame, Tensor] | None:
    """The frame of a site, and a tensor for its output that lies in memory as its state does."""
    frame = frame_of(x_TB.shape[1:], state.stride(), batch_size)
    if frame is None or not _are_pieces(rows, frame.neurons, state):
        return None
    out = torch.empty_like(x_TB) if rows is None or rows.out is None else rows.out
    return (frame, out) if _lies_alike(out.shape, out.stride(), state.stride()) else None


def _are_pieces(rows: Rows | None, neurons: int, state: Tensor) -> bool:
    """True if rows of an image of so many neurons are pieces of its memory."""
    if rows is None or rows.length == neurons:
        return True
    return neurons % rows.length == 0 and state.is_contiguous()


@lru_cache(maxsize=1024)
def _lies_alike(shape: tuple[int, ...], strides: tuple[int, ...], of_step: tuple[int, ...]) -> bool:
    """True if each step of an output lies in memory as the state does, and they follow each other."""
    expected = (math.prod(shape[1:]), *of_step)
    return all(a == b or length == 1 for a, b, length in zip(strides, expected, shape, strict=True))


@cache
def _no_mask() -> Operand:
    return np.empty(0, np.uint8), np.zeros(FIRST_ROW + 1, np.int64)


def _same_in_all_images(operand: Operand | None) -> Operand | None:
    return None if operand is None or operand[1][1] != 0 else operand


def _quanta(frame: Frame, x: Tensor, rule: SignedRule) -> tuple[Array, Array, Array] | None:
    """L/λ and λ/L as `to_levels` and `quantum` compute them, and the layout of both; None if there is none."""
    scale, value = levels_per_unit(x, rule.threshold, rule.num_levels), quantum(x, rule.threshold, rule.num_levels)
    if not isinstance(scale, Tensor) or not isinstance(value, Tensor):
        kind, layout = _KINDS[x.dtype], frame.operand(_ONE)
        assert layout is not None
        return np.array([scale], kind), np.array([value], kind), layout[1]
    operand = _same_in_all_images(frame.operand(scale))
    if operand is None or scale.stride() != value.stride():
        return None
    return operand[0], flat(value, operand[0].size), operand[1]


@lru_cache(maxsize=1024)
def _rule_of(
    dtype: torch.dtype, levels: tuple[int, int], burst: int, max_powers: int | None, is_free: bool
) -> tuple[Array, tuple[Any, Array], tuple[int, int, bool]]:
    """What the loop needs to know of a rule; levels: n and L."""
    as_integer, mask = EXPONENTS[dtype]
    kind = _KINDS[dtype]
    numbers = np.array([0.5, *levels, burst, *outermost_levels(levels[1], levels[0], max_powers)], kind)
    powers = kind(NEAREST), np.array([mask], np.int32 if as_integer == torch.int32 else np.int64)
    return numbers, powers, (burst, max_powers or 0, is_free)


def _sums(counts: Array) -> Tensor:
    """[2, units, T] -> [2, T]."""
    return torch.from_numpy(counts.sum(axis=1) if counts.shape[1] > 1 else counts[:, 0])


def _is_missing(states: Array) -> Tensor:
    return torch.from_numpy((states & (MISSING | IS_NAN)) == MISSING)


def _in_order(numbers: Array, frame: Frame) -> Tensor:
    """[T, n] in the order of the memory -> in the order of the axes."""
    by_axes = torch.from_numpy(numbers).as_strided((len(numbers), *frame.shape), (frame.neurons, *frame.strides))
    return by_axes.reshape(len(numbers), -1)


def _compile(loop: Any, dtype: torch.dtype, part: Callable[[int, int], None]) -> None:
    """Compile a loop for a type, or read it from the disk, before its first use."""
    with _lock:
        if (loop.__name__, dtype) in _ready:
            return
        if not _is_on_disk(loop) and not _has_announced.is_set():
            _has_announced.set()
            note("compiling neurons for this machine; this takes some seconds, once for each installation")
        try:
            part(0, 0)
        except OSError as error:  # compiled, but not written
            note(f"the compiled neurons could not be kept for the next time: {error}")
            part(0, 0)
        _ready.add((loop.__name__, dtype))


def _is_on_disk(loop: Any) -> bool:
    folder = loop.stats.cache_path
    return folder is not None and any(Path(folder).glob(f"compiled.{loop.__name__}-*.nbi"))
