"""Loops of `device_kernels` for CUDA devices, compiled by Triton: all that the neurons of a site do in a chunk.

They equal the operations of torch in `functional` and `signed` bit for bit: the same operations in the same order and
precision. They have to be launched with `enable_fp_fusion=False`, so that no product is fused with an addition.

This file is imported where a kernel runs for the first time; nothing else in the package imports triton.

Every tensor lies in memory as the state of the site does: [T, B, n] without gaps, where the n neurons of an image lie
in the order of its memory. A program takes BLOCK neurons of one image through all steps, so that state and constants
are read once.

Letters: T steps, B images, n neurons of an image.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .layouts import IS_NAN as IS_NAN_BIT
from .layouts import MISSING as MISSING_BIT
from .powers import NEAREST as NEAREST_FACTOR

IS_NAN, MISSING = tl.constexpr(IS_NAN_BIT), tl.constexpr(MISSING_BIT)
NEAREST = tl.constexpr(NEAREST_FACTOR)
MOST_COUNTED = tl.constexpr(1 << 20)


@triton.jit
def rate_units(  # type: ignore[no-untyped-def]
    x, v, threshold, keep, spikes, fired, sent, by_neuron, neurons, blocks, step, steps,
    PER_NEURON: tl.constexpr, MASKED: tl.constexpr, BY_NEURON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Integrate, fire, reset, mask and count BLOCK neurons of an image.

    Args:
        x: input currents [T, B, n].
        v: membrane potentials [B, n], updated in place.
        threshold: [n] if PER_NEURON, else [1].
        keep: uint8 [T, B, n] if MASKED.
        spikes: [T, B, n], overwritten with the scaled spikes, in the type of x.
        fired, sent: int64 [T], added to.
        by_neuron: int32 [T, n] if BY_NEURON: spikes sent, summed over images; added to.
        neurons, blocks, step, steps: n; programs for each image; B·n; T.
    """
    program = tl.program_id(0)
    neuron = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < neurons
    at = (program // blocks).to(tl.int64) * neurons + neuron
    potential = tl.load(v + at, mask=inside, other=0.0)
    if PER_NEURON:  # noqa: SIM108
        lam = tl.load(threshold + neuron, mask=inside, other=1.0)
    else:
        lam = tl.load(threshold)
    place, row = at, neuron.to(tl.int64)  # of 64 bits: T·B·n may exceed 2^31
    for t in range(steps):
        charged = potential + tl.load(x + place, mask=inside, other=0.0).to(potential.dtype)
        scaled = tl.where(charged >= lam, lam, 0.0)
        potential = charged - scaled
        here = scaled.to(spikes.dtype.element_ty)
        is_spike = (here != 0.0) & inside
        tl.atomic_add(fired + t, tl.sum(is_spike.to(tl.int32)).to(tl.int64))
        if MASKED:
            kept = tl.load(keep + place, mask=inside, other=0)
            here = here * kept.to(here.dtype)
            is_spike = (here != 0.0) & inside
        tl.atomic_add(sent + t, tl.sum(is_spike.to(tl.int32)).to(tl.int64))
        if BY_NEURON:
            tl.atomic_add(by_neuron + row, is_spike.to(tl.int32), mask=is_spike)
        tl.store(spikes + place, here, mask=inside)
        place += step
        row += neurons
    tl.store(v + at, potential, mask=inside)


@triton.jit
def _nearest_power(quanta):  # type: ignore[no-untyped-def]
    """`powers.nearest_power`."""
    scaled = quanta * NEAREST
    if quanta.dtype == tl.float64:
        return (scaled.to(tl.int64, bitcast=True) & -(1 << 52)).to(tl.float64, bitcast=True)
    else:  # noqa: RET505  one of two at compilation
        return (scaled.to(tl.int32, bitcast=True) & -(1 << 23)).to(tl.float32, bitcast=True)


@triton.jit
def _largest_powers(quanta, MOST: tl.constexpr):  # type: ignore[no-untyped-def]
    """`powers.largest_powers`."""
    total = _nearest_power(quanta)
    for _ in range(MOST - 1):
        total += _nearest_power(quanta - total)
    return quanta - (quanta - total)


@triton.jit
def _whole(quanta):  # type: ignore[no-untyped-def]
    """Magnitudes as int32; 0 for what is not a number."""
    size = tl.abs(quanta)
    return tl.where(size <= MOST_COUNTED, size, 0.0).to(tl.int32)


@triton.jit
def _count_powers(quanta):  # type: ignore[no-untyped-def]
    """`powers.count_powers`."""
    whole = _whole(quanta)
    bits = whole ^ (3 * whole)
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    bits = bits + (bits >> 8)
    return (bits + (bits >> 16)) & 0x3F


@triton.jit
def signed_units(  # type: ignore[no-untyped-def]
    x, count, scale, quantum, keep, y, weights, fired, sent, by_neuron, states, neurons, blocks, images, step, steps,
    LOWEST: tl.constexpr, HIGHEST: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BURST: tl.constexpr,
    MOST_POWERS: tl.constexpr, IS_FREE: tl.constexpr, PER_NEURON: tl.constexpr, MASKED: tl.constexpr,
    BY_NEURON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Target, spikes, count, output and settling of BLOCK neurons of an image.

    Args:
        x: running sums of the input [T, B, n].
        count: quanta sent [B, n], updated in place.
        scale, quantum: L/λ and λ/L, [n] if PER_NEURON, else [1].
        keep: uint8 [B, n] if MASKED, the same in all steps.
        y: [T, B, n], overwritten with the running sums of the output.
        weights: int32 [T], quanta of a spike; 0: no neuron may fire.
        fired, sent, by_neuron: as in `rate_units`.
        states: int32 [T, B], bits MISSING and IS_NAN are set.
        neurons, blocks, images, step, steps: n; programs for each image; B; B·n; T.
        LOWEST, HIGHEST: n and L; LOW and HIGH: the outermost levels, rounded to MOST_POWERS if it is above 0.
    """
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    neuron = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < neurons
    at = image * neurons + neuron
    before = tl.load(count + at, mask=inside, other=0.0)
    if PER_NEURON:
        factor = tl.load(scale + neuron, mask=inside, other=1.0)
        value = tl.load(quantum + neuron, mask=inside, other=1.0)
    else:
        factor, value = tl.load(scale), tl.load(quantum)
    if MASKED:
        kept = tl.load(keep + at, mask=inside, other=0)
    place, row = at, neuron.to(tl.int64)  # of 64 bits: T·B·n may exceed 2^31
    for t in range(steps):
        weight = tl.load(weights + t)
        level = tl.load(x + place, mask=inside, other=0.0) * factor + 0.5
        level = tl.where(level < LOWEST, LOWEST, level)  # NaN stays NaN
        level = tl.floor(tl.where(level > HIGHEST, HIGHEST, level))
        if MOST_POWERS > 0:
            level = _largest_powers(level, MOST_POWERS)
        level = tl.where(inside, level, before)
        missing = level - before
        if IS_FREE:
            change = _largest_powers(missing, BURST)
            number = _count_powers(change)
        else:
            # Whole numbers, divided as such. A weight of 1 leaves min(|missing|, burst).
            size = tl.maximum(weight, 1)
            number = tl.minimum((3 * _whole(missing) + size) // (3 * size), BURST)
            room = _whole(tl.where(missing > 0.0, HIGH - before, before - LOW)) // size
            number = tl.minimum(number, room)
            change = (number * size).to(missing.dtype)
            change = tl.where(missing < 0.0, -change, change)
            change = tl.where(missing == missing, change, missing)
        number = tl.where(weight > 0, number, 0)
        before = tl.where(weight > 0, before + change, before)
        rest = level - before
        is_missing, is_nan = tl.max((rest != 0.0).to(tl.int32)), tl.max((rest != rest).to(tl.int32))
        tl.atomic_or(states + t * images + image, is_missing * MISSING + is_nan * IS_NAN)
        out = before * value
        tl.atomic_add(fired + t, tl.sum(number).to(tl.int64))
        if MASKED:
            number = tl.where(kept != 0, number, 0)
            out = out * kept.to(out.dtype)
        tl.atomic_add(sent + t, tl.sum(number).to(tl.int64))
        if BY_NEURON:
            tl.atomic_add(by_neuron + row, number, mask=inside & (number > 0))
        tl.store(y + place, out, mask=inside)
        place += step
        row += neurons
    tl.store(count + at, before, mask=inside)
