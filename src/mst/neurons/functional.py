"""The mathematics of one neuron, as pure functions. They need torch only.

Letters: T time steps, B images, `...` any further axes, L levels, λ threshold.
Equations and their derivations are in docs/maths.md; each formula is written once, here.
"""

from __future__ import annotations

import zlib
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mst.errors import InputError

from .powers import largest_powers

MIN_THRESHOLD = 1e-4
"""Smallest threshold that a QCFS site acts with; a smaller trained value acts as this one, see `qcfs`."""


# --------------------------------------------------------------------------------------------- QCFS


def to_levels(
    x: Tensor, threshold: Tensor, num_levels: int, min_level: int = 0, max_powers: int | None = None
) -> Tensor:
    """The level of QCFS, clip(floor(x·L/λ + 1/2), n, L), rounded to `max_powers` if given.

    Args:
        x, threshold, num_levels, min_level, max_powers: as for `qcfs`.

    Returns:
        A new tensor like x: whole numbers from n to L, in floating point.
    """
    return _levels(x, _acting_threshold(x, threshold), num_levels, min_level, max_powers)


def quantum(like: Tensor, threshold: Tensor, num_levels: int) -> Tensor | float:
    """λ/L, the value of one level, as a factor for `like`: a number, or a tensor that broadcasts to it."""
    return _acting_threshold(like, threshold) / num_levels


def levels_per_unit(like: Tensor, threshold: Tensor, num_levels: int) -> Tensor | float:
    """L/λ, by which `to_levels` multiplies; likewise."""
    return num_levels / _acting_threshold(like, threshold)


def _levels(x: Tensor, lam: Tensor | float, num_levels: int, min_level: int, max_powers: int | None) -> Tensor:
    # clip(floor(u), n, L) = floor(clip(u, n, L)), because n and L are whole numbers.
    levels = torch.mul(x, num_levels / lam).add_(0.5).clamp_(min_level, num_levels).floor_()
    return levels if max_powers is None else _rounded(levels, max_powers)


def _rounded(levels: Tensor, max_powers: int) -> Tensor:
    return largest_powers(levels.to(sum_dtype(levels.dtype)), max_powers).to(levels.dtype)


def _acting_threshold(x: Tensor, threshold: Tensor) -> Tensor | float:
    """λ, at least `MIN_THRESHOLD`, as a factor for x: a number, or a tensor that broadcasts to it."""
    if _is_cpu_scalar(x, threshold):
        return max(threshold.item(), MIN_THRESHOLD)
    return threshold.clamp_min(MIN_THRESHOLD)  # no host-device synchronisation, and per-channel by broadcasting


class _QCFSFunction(torch.autograd.Function):
    """QCFS as one node of the autograd graph: it saves x and y, and works in place on its own buffers."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, threshold: Tensor, num_levels: int, min_level: int, max_powers: int | None
    ) -> Tensor:
        lam = _acting_threshold(x, threshold)
        y = _levels(x, lam, num_levels, min_level, max_powers).mul_(lam / num_levels).to(x.dtype)
        ctx.save_for_backward(x, y, threshold)
        ctx.levels = num_levels, min_level  # type: ignore[attr-defined]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, y, threshold = ctx.saved_tensors  # type: ignore[attr-defined]
        below, above = _open_clip(*ctx.levels)  # type: ignore[attr-defined]
        # With u = xL/λ + 1/2 the clip is open where n <= u < L + 1. There dy/dx = 1 and dy/dλ = (y - x)/λ, however the
        # level is rounded; above and below it dy/dλ = y/λ. So dλ = sum(g·y - gx·x)/λ holds everywhere.
        if _is_cpu_scalar(x, threshold):
            lam = max(threshold.item(), MIN_THRESHOLD)
            grad_x = torch.ops.aten.hardtanh_backward(grad_y, x, lam * below, lam * above)
            grad_threshold = _difference_of_dots(grad_y, y, grad_x, x).div_(lam).reshape(threshold.shape)
        else:
            lam_t = threshold.clamp_min(MIN_THRESHOLD)
            is_open = (x >= lam_t * below) & (x < lam_t * above)
            grad_x = grad_y * is_open
            if threshold.numel() == 1:
                grad_threshold = _difference_of_dots(grad_y, y, grad_x, x).reshape(threshold.shape) / lam_t
            else:
                grad_threshold = ((grad_y * y - grad_x * x) / lam_t).sum_to_size(threshold.shape)
        return grad_x, grad_threshold, None, None, None


def _open_clip(num_levels: int, min_level: int) -> tuple[float, float]:
    """The inputs between which the clip of QCFS changes nothing, in units of λ."""
    half_quantum = 0.5 / num_levels
    return min_level / num_levels - half_quantum, 1 + half_quantum


def _is_cpu_scalar(x: Tensor, threshold: Tensor) -> bool:
    return threshold.numel() == 1 and x.device.type == "cpu" and threshold.device.type == "cpu"


def is_transformed() -> bool:
    """True while torch compiles, exports, traces or transforms the code (vmap, grad, ...) and a tensor has no value."""
    return torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._are_functorch_transforms_active()


_TELLS_EXPORT = hasattr(torch.compiler, "is_exporting")


def _is_compiled_only() -> bool:
    """True while torch.compile compiles the code, without export and outside vmap, grad and the like."""
    if not (_TELLS_EXPORT and torch.compiler.is_compiling()):
        return False
    return not (torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active())


def _qcfs_of_operations(
    x: Tensor, threshold: Tensor, num_levels: int, min_level: int, max_powers: int | None
) -> Tensor:
    """QCFS as operations of torch alone, for its compilers and transforms: the same values, gradients but for
    rounding."""
    if x.dim() == 0:
        return _qcfs_of_operations(x[None], threshold, num_levels, min_level, max_powers)[0]
    if _is_compiled_only():
        compiled: Tensor = _CompiledQCFS.apply(x, threshold, num_levels, min_level, max_powers)
        return compiled
    # The value is a constant to autograd; a term of value 0 carries the gradients of `_QCFSFunction`.
    constant = x.detach()
    y = _traced_value(constant, threshold.detach(), num_levels, min_level, max_powers)
    is_open, lam = _traced_gate(constant, threshold.detach(), num_levels, min_level)
    slope = (y - torch.where(is_open, constant.to(sum_dtype(x.dtype)), 0)) / lam
    line = torch.where(is_open, x, 0) + threshold * slope
    return y + (line - line.detach()).to(x.dtype)


class _CompiledQCFS(torch.autograd.Function):
    """`_QCFSFunction` for torch.compile: it saves x and y only, and reads no number from a tensor, so that it fuses."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, threshold: Tensor, num_levels: int, min_level: int, max_powers: int | None
    ) -> Tensor:
        y = _traced_value(x, threshold, num_levels, min_level, max_powers)
        ctx.save_for_backward(x, y, threshold)
        ctx.levels = num_levels, min_level  # type: ignore[attr-defined]
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, y, threshold = ctx.saved_tensors  # type: ignore[attr-defined]
        is_open, lam = _traced_gate(x, threshold, *ctx.levels)  # type: ignore[attr-defined]
        grad_x = torch.where(is_open, grad_y, 0)
        wide = sum_dtype(x.dtype)
        change = grad_y.to(wide) * y.to(wide) - grad_x.to(wide) * x.to(wide)
        if threshold.numel() == 1:
            grad_threshold = change.sum().reshape(threshold.shape) / lam
        else:
            grad_threshold = (change / lam).sum_to_size(threshold.shape)
        return grad_x, grad_threshold.to(threshold.dtype), None, None, None


def _traced_value(x: Tensor, threshold: Tensor, num_levels: int, min_level: int, max_powers: int | None) -> Tensor:
    """The value of QCFS, rounded as by `_levels`, without a number read from a tensor and without work in place."""
    lam = _traced_threshold(x, threshold)
    if _is_cpu_scalar(x, threshold):
        wide = sum_dtype(x.dtype)
        per_unit, unit = (torch.full_like(lam, num_levels) / lam).to(wide), (lam / num_levels).to(wide)
    else:
        per_unit, unit = num_levels / lam, lam / num_levels
    levels = (x * per_unit + 0.5).clamp(min_level, num_levels).floor()
    return ((levels if max_powers is None else _rounded(levels, max_powers)) * unit).to(x.dtype)


def _traced_gate(x: Tensor, threshold: Tensor, num_levels: int, min_level: int) -> tuple[Tensor, Tensor]:
    """(True where the clip changes nothing, at its borders as in `_QCFSFunction`; the threshold)."""
    lam, wide = _traced_threshold(x, threshold), x.to(sum_dtype(x.dtype))
    low, high = (lam * edge for edge in _open_clip(num_levels, min_level))
    if _is_cpu_scalar(x, threshold):
        lam, low, high = lam.to(wide.dtype), low.to(wide.dtype), high.to(wide.dtype)
        return (wide > low) & (wide < high), lam
    return (wide >= low) & (wide < high), lam


def _traced_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """λ, at least `MIN_THRESHOLD`; one number in double precision and without an axis, so that x keeps its dtype."""
    lam = threshold.double().reshape(()) if _is_cpu_scalar(x, threshold) else threshold
    return lam.clamp_min(MIN_THRESHOLD)


def _difference_of_dots(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """a·b - c·d over all elements. The two nearly cancel, so half precision is widened first."""
    if a.element_size() < 4:
        return (a.float() * b.float() - c.float() * d.float()).sum()
    if all(tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (a, b, c, d)):
        a, b, c, d = (tensor.permute(0, 2, 3, 1) for tensor in (a, b, c, d))  # reshaped without a copy
    return torch.dot(a.reshape(-1), b.reshape(-1)) - torch.dot(c.reshape(-1), d.reshape(-1))


def qcfs(x: Tensor, threshold: Tensor, num_levels: int, min_level: int = 0, max_powers: int | None = None) -> Tensor:
    """Quantise, clip, floor, shift: the activation whose mean an IF neuron reproduces.

    y = λ/L · clip(floor(x·L/λ + 1/2), n, L)

    Gradient: straight through the floor; zero where the clip changes its argument (the floor is below n or above L).
    λ receives the derivative of the expression as written: (y - x)/λ inside the clip, 1 above it and n/L below it.

    A threshold at or below `MIN_THRESHOLD` acts as `MIN_THRESHOLD` and still receives its gradient, so an
    optimiser step that makes it negative neither breaks the network nor disables the site.

    torch.compile, torch.export, torch.jit.trace, torch.vmap and torch.func take it as operations of torch, with the
    same values. Only in the last four it has second derivatives: they are 0, those of a straight line.

    Args:
        x: pre-activation, any shape, floating point.
        threshold: λ > 0, in units of x; one element, or a shape that broadcasts to x (per channel).
        num_levels: L >= 1, the highest level.
        min_level: n <= 0, the lowest level; 0 in the paper.
        max_powers: each level is rounded to a sum of at most this many signed powers of two (see `largest_powers`), so
            that a neuron of a free schedule needs no more spikes for it. The outermost levels may be rounded outwards,
            by a third at most. None: no rounding, as in the paper.

    Returns:
        Same shape and dtype as x, values in {n·λ/L, ..., 0, λ/L, ..., λ}.

    Raises:
        InputError: num_levels is below 1, min_level above 0, or max_powers below 1.

    Source: Masked Spiking Transformer (ICCV 2023), activation of the ANN; released code. Levels below 0: ours. Sums of
    powers of two as levels: Li et al., "Additive powers-of-two quantization", ICLR 2020 (there for weights).
    """
    if num_levels < 1:
        raise InputError(f"num_levels must be at least 1, got {num_levels}")
    if min_level > 0:
        raise InputError(f"min_level must be 0 or less, got {min_level}")
    if max_powers is not None and max_powers < 1:
        raise InputError(f"max_powers must be at least 1, got {max_powers}")
    if is_transformed():
        return _qcfs_of_operations(x, threshold, num_levels, min_level, max_powers)
    y: Tensor = _QCFSFunction.apply(x, threshold, num_levels, min_level, max_powers)
    return y


# ------------------------------------------------------------------------------ integrate-and-fire


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which values of `dtype` are summed over time: float32 or wider.

    In half precision a sum soon stops growing: in bfloat16, 256 + 1 is 256.
    """
    return dtype if dtype.itemsize >= 4 and (dtype.is_floating_point or dtype.is_complex) else torch.float32


def initial_membrane_potential(x: Tensor, threshold: Tensor) -> Tensor:
    """v(0) = λ/2 in the shape of one step's input x [B, ...], in float32 or wider. The half rounds the spike count to
    nearest."""
    return torch.zeros_like(x, dtype=sum_dtype(x.dtype)) + threshold * 0.5


def if_step(x: Tensor, v: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an integrate-and-fire neuron with soft reset.

    v <- v + x ;  s = [v >= λ] ;  v <- v - λ·s ;  output = λ·s

    Args:
        x: input current of this step, [B, ...].
        v: membrane potential before the step, same shape; not modified.
        threshold: λ > 0, one element or broadcastable to x.

    Returns:
        (λ·s, v): the spikes scaled by the threshold, and the membrane potential after the step.

    Source: Masked Spiking Transformer (ICCV 2023), conversion; released code (fires on >=).
    """
    charged = v + x
    spikes = (charged >= threshold) * threshold
    return spikes, charged - spikes


def if_run(x: Tensor, v: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """`if_step` over the leading time axis, with the same spikes.

    Args:
        x: input currents, [T, B, ...].
        v: membrane potential before the first step, [B, ...]; not modified.
        threshold: λ > 0, one element or broadcastable to [B, ...].

    Returns:
        (λ·s, v): scaled spikes [T, B, ...] and the membrane potential after the last step [B, ...].

    Raises:
        InputError: v does not have the shape of one step of x.

    Limits: not differentiable; meant for inference.
    """
    v = v.detach().clone()
    return if_run_(x, v, threshold), v


def if_run_(x: Tensor, v: Tensor, threshold: Tensor) -> Tensor:
    """`if_run` that updates the membrane potential `v` in place and returns the scaled spikes only.

    It allocates nothing but the spikes, because a simulation calls it for every site and chunk. v may be wider than x;
    the spikes are like x.

    Raises:
        InputError: v does not have the shape of one step of x.
    """
    if x.shape[1:] != v.shape:
        raise InputError(f"the input of one step has shape {tuple(x.shape[1:])}, the state {tuple(v.shape)}")
    x, threshold = x.detach(), threshold.detach().to(v.dtype)
    spikes = torch.empty_like(x)
    wide = None if v.dtype == x.dtype else torch.empty_like(v)
    for x_t, spikes_t in zip(x, spikes, strict=True):
        fired = spikes_t if wide is None else wide
        v.add_(x_t)
        torch.ge(v, threshold, out=fired)  # into floats at once: on a CPU, bools in between cost ten times as much
        v.sub_(fired.mul_(threshold))
        if wide is not None:
            spikes_t.copy_(wide)
    return spikes


# ---------------------------------------------------------------------------------------- counting


def count_spikes(spikes: Tensor) -> Tensor:
    """[T, B, ...] -> int64 [T]: the number of non-zero entries of each step, exactly.

    Flags are summed as floats image by image, which is exact below 2^24 (float32) and on a CPU several times as fast
    as counting in integers.
    """
    steps, images = spikes.shape[:2]
    flags = torch.ne(spikes, 0, out=torch.empty_like(spikes, memory_format=torch.contiguous_format))
    rows = flags.view(steps, images, -1)
    if rows.shape[-1] >= 2**24:
        return torch.count_nonzero(spikes.reshape(steps, -1), dim=1)
    wide = torch.float32 if flags.element_size() < 4 else flags.dtype
    return rows.sum(dim=-1, dtype=wide).to(torch.int64).sum(dim=1)


def changed_flags(now: Tensor, before: Tensor, rounding: float) -> Tensor:
    """1 where |now - before| > |now|·rounding, else 0, in a new tensor of the dtype of both."""
    change = (now - before).abs_()
    # Straight into floats: on a CPU a bool in between, and counting it in integers, costs several times as much.
    return torch.gt(change, now.abs().mul_(rounding), out=change)


# ------------------------------------------------------------------------------------ spike masking


def drop_spikes(spikes: Tensor, keep: Tensor) -> Tensor:
    """Spike masking: spikes · keep, without rescaling by 1/(1 - p).

    Args:
        spikes: [B, ...], spikes or the QCFS activation that stands for them.
        keep: bool, broadcastable to spikes; False drops.

    Source: Masked Spiking Transformer (ICCV 2023), Random Spike Masking; released code (no rescaling).
    """
    if torch._C._is_tracing():  # cannot trace a view as another type
        return spikes * keep
    return spikes * keep.view(torch.uint8)  # on a CPU, bytes multiply several times as fast as bools


def check_masking_ratio(masking_ratio: Any) -> float:
    """`masking_ratio` itself, as a float.

    Raises:
        InputError: it is not a number in [0, 1).
    """
    is_number = isinstance(masking_ratio, Real) and not isinstance(masking_ratio, bool)
    if not is_number or not 0.0 <= masking_ratio < 1.0:
        per_cent = is_number and 1 < masking_ratio < 100
        hint = f"for {masking_ratio:g} % write {masking_ratio / 100:g}" if per_cent else ""
        raise InputError(f"masking_ratio is the fraction dropped, in [0, 1); got {masking_ratio!r}", remedy=hint)
    return float(masking_ratio)


def keep_mask(images: Tensor, num_elements: int, masking_ratio: float, *, seed: int, site: str, step: int) -> Tensor:
    """Draws of one step: a function of (seed, site, step, image, element) and of nothing else.

    Each bit comes from an integer hash, not from a stateful generator. So the draws of an image are the same for
    every batch size, chunk length, process and device, and any step can be drawn without those before it.

    Args:
        images: int64 [B], index in the data of each image.
        num_elements: draws per image.
        masking_ratio: p, fraction dropped, in [0, 1).
        seed: of the masks.
        site: name of the site.
        step: time step.

    Returns:
        bool [B, num_elements] on the device of `images`; True (keep) with probability 1 - p.

    Raises:
        InputError: p outside [0, 1).
    """
    image_keys, element_keys = mask_keys(images, num_elements, seed=seed, site=site, step=step)
    # One more round over image ⊕ element. The last multiplication leaves its best bits on top, which a signed
    # comparison reads.
    bits = (image_keys[:, None] ^ element_keys).mul_(_signed(MASK_FACTORS[0]))
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= _signed(MASK_FACTORS[1])
    return bits >= least_kept(masking_ratio)


MASK_FACTORS = 0x7FEB352D, 0x846CA68B
"""Multipliers of the hash, of 32 bits each."""


def mask_keys(images: Tensor, num_elements: int, *, seed: int, site: str, step: int) -> tuple[Tensor, Tensor]:
    """int32 [B] and [num_elements]: what `keep_mask` hashes, of each image and of each element."""
    stream = _mix64((seed & _U64) ^ _mix64((step << 32) ^ zlib.crc32(site.encode())))
    image_keys = _mix32(images.to(torch.int32) * _signed(_GOLDEN32) + _signed(stream & _U32))
    element_keys = _mix32(torch.arange(num_elements, device=images.device, dtype=torch.int32) + _signed(stream >> 32))
    return image_keys, element_keys


def least_kept(masking_ratio: float) -> int:
    """Least hash, a signed 32-bit number, with which `keep_mask` keeps."""
    return round(check_masking_ratio(masking_ratio) * 2**32) - 2**31


_U32, _U64, _GOLDEN32 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x9E3779B9


def _signed(word: int) -> int:
    """A 32-bit word as the int32 of the same bits, because torch multiplies int32 with wrap-around."""
    return (word & _U32) - ((word & 0x80000000) << 1)


def _mix32(h: Tensor) -> Tensor:
    """A bijection of int32 in which every output bit depends on every input bit (two xor-shift-multiplies)."""
    h = (h ^ ((h >> 16) & 0xFFFF)) * _signed(MASK_FACTORS[0])
    h = (h ^ ((h >> 15) & 0x1FFFF)) * _signed(MASK_FACTORS[1])
    return h ^ ((h >> 16) & 0xFFFF)


def _mix64(z: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    z = (z + 0x9E3779B97F4A7C15) & _U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    return z ^ (z >> 31)
