"""Loops of `kernels`, compiled by numba: all that the neurons of a site do in a chunk, in one pass over memory.

They equal the operations of torch in `functional` and `signed` bit for bit: the same operations in the same order and
precision. Without `fastmath` numba neither fuses a multiplication with an addition nor reorders a sum of floats.

This file is imported where a kernel runs for the first time; nothing else in the package imports numba.

A loop takes the memory of one image in units of a few thousand neurons, and for each unit all images and all steps, so
that constants and state stay in the cache. An operand that need not be contiguous is a pair: an array of one axis, and
its layout, int64 [step, image, inner, length, row 0, row 1, ...]. Elements r·length to (r + 1)·length of an image lie
at row r, with a stride of `inner`; `step` and `image` are the distances to the next step and image.

Letters: T steps, B images, n neurons of an image, r rows of an image that are told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

from .layouts import CHANGED, FIRST_ROW, IS_NAN, MISSING

Loop = Callable[..., Any]


def _entry(function: Loop) -> Loop:
    """`function` as machine code, compiled at its first call and kept on disk where a folder can be written."""
    try:
        return cast(Loop, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder for the cache: a read-only installation, a user without a home
        return cast(Loop, numba.njit(nogil=True)(function))


def _part(function: Loop) -> Loop:
    """A function that becomes part of those that call it."""
    return cast(Loop, numba.njit(nogil=True)(function))


def _inlined(function: Loop) -> Loop:
    """A function that is copied into those that call it: less to compile where it calls others itself."""
    return cast(Loop, numba.njit(nogil=True, inline="always")(function))


# ------------------------------------------------------------------------------------------- memory


@_part
def _gather(source, layout, place, first, target):  # type: ignore[no-untyped-def]
    """Copy the elements of one image from `first` on to target."""
    inner, length = layout[2], layout[3]
    done = 0
    while done < target.size:
        row = (first + done) // length
        column = first + done - row * length
        number = min(length - column, target.size - done)
        begin = place + layout[FIRST_ROW + row] + column * inner
        part = target[done : done + number]
        if inner == 1:
            whole = source[begin : begin + number]
            for i in range(number):
                part[i] = whole[i]
        else:
            for i in range(number):
                part[i] = source[begin + i * inner]
        done += number


@_part
def _read(source, layout, place, first, scratch):  # type: ignore[no-untyped-def]
    """The elements of one image from `first` on: where they lie, or copied to scratch."""
    if layout[2] == 1 and layout.size == FIRST_ROW + 1:
        begin = place + layout[FIRST_ROW] + first
        return source[begin : begin + scratch.size]
    _gather(source, layout, place, first, scratch)
    return scratch


# --------------------------------------------------------------------------------------------- rate


@_part
def _integrate_and_fire(x, v, threshold, spikes):  # type: ignore[no-untyped-def]
    """One step of `functional.if_run_`; returns the number of spikes."""
    one, zero = threshold.dtype.type(1), threshold.dtype.type(0)
    number = 0
    for i in range(v.size):
        charged = v[i] + x[i]
        spike = (one if charged >= threshold[i] else zero) * threshold[i]
        v[i] = charged - spike
        spikes[i] = spike
        number += spike != zero
    return number


@_part
def _drop(keep, values):  # type: ignore[no-untyped-def]
    """`functional.drop_spikes` in place; returns the number of values that are not 0."""
    one, zero = values.dtype.type(1), values.dtype.type(0)
    number = 0
    for i in range(values.size):
        kept = values[i] * (one if keep[i] else zero)
        values[i] = kept
        number += kept != zero
    return number


@_part
def _add_flags(values, totals):  # type: ignore[no-untyped-def]
    zero = values.dtype.type(0)
    for i in range(values.size):
        totals[i] += values[i] != zero


@_entry
def rate_units(x, v, threshold, keep, spikes, counts, span):  # type: ignore[no-untyped-def]
    """Integrate, fire, reset, mask and count the units of one image's neurons from first to last, in all images.

    Args:
        x: input currents, an operand.
        v: membrane potentials [B·n], updated in place.
        threshold: an operand without steps and images.
        keep: uint8, an operand; of size 0 without a mask.
        spikes: [T·B·n], overwritten with the scaled spikes.
        counts: int64 [units, T] of spikes fired, likewise of those sent, and int32 [T, n] of those sent by each
            neuron, summed over images (size 0: not wanted). The last is added to.
        span: (T, B, n, neurons of a unit, first unit, unit after the last one).
    """
    steps, images, neurons, size, begin, end = span
    fired, sent, by_neuron = counts
    of_x = np.empty(size, v.dtype)
    of_threshold = np.empty(size, v.dtype)
    of_keep = np.empty(size, np.uint8)
    for unit in range(begin, end):
        first = unit * size
        width = min(size, neurons - first)
        lam = of_threshold[:width]
        _gather(threshold[0], threshold[1], threshold[1][0], first, lam)
        for b in range(images):
            state = v[b * neurons + first : b * neurons + first + width]
            for t in range(steps):
                out = (t * images + b) * neurons + first
                here = spikes[out : out + width]
                now = _read(x[0], x[1], t * x[1][0] + b * x[1][1], first, of_x[:width])
                number = _integrate_and_fire(now, state, lam, here)
                fired[unit, t] += number
                if keep[0].size > 0:
                    _gather(keep[0], keep[1], t * keep[1][0] + b * keep[1][1], first, of_keep[:width])
                    number = _drop(of_keep, here)
                sent[unit, t] += number
                if by_neuron.size > 0:
                    _add_flags(here, by_neuron[t, first : first + width])


@_entry
def flag_changes(now, before, rounding, flags):  # type: ignore[no-untyped-def]
    """`functional.changed_flags` of arrays of one axis; rounding: an array of one number, of their type."""
    one, zero, factor = flags.dtype.type(1), flags.dtype.type(0), rounding[0]
    for i in range(flags.size):
        flags[i] = one if abs(now[i] - before[i]) > abs(now[i]) * factor else zero


@_entry
def draw_masks(image_keys, element_keys, factors, least, keep):  # type: ignore[no-untyped-def]
    """The hash of `functional.keep_mask`: uint32 [B], [n] and [2], int32 -> bool [B, n]."""
    first, second = factors[0], factors[1]
    for b in range(image_keys.size):
        key, row = image_keys[b], keep[b]
        for i in range(element_keys.size):
            bits = np.uint32((key ^ element_keys[i]) * first)
            bits = np.uint32((bits ^ (bits >> np.uint32(15))) * second)
            row[i] = np.int32(bits) >= least


# ------------------------------------------------------------------------------------------- signed


@_part
def _to_levels(x, scale, constants, target):  # type: ignore[no-untyped-def]
    """`functional.to_levels` without the rounding to powers. NaN stays NaN."""
    half, lowest, highest = constants[0], constants[1], constants[2]
    for i in range(target.size):
        level = x[i] * scale[i] + half
        level = lowest if level < lowest else level
        level = highest if level > highest else level
        target[i] = np.floor(level)


@_part
def _nearest_power(rest, factor, mask, power, bits):  # type: ignore[no-untyped-def]
    """`powers.nearest_power`; bits: the same memory as power, as integers."""
    for i in range(power.size):
        power[i] = rest[i] * factor
    for i in range(power.size):
        bits[i] &= mask


@_part
def _largest_powers(quanta, most, constants, scratch, total):  # type: ignore[no-untyped-def]
    """`powers.largest_powers`; constants: 4/3 and the mask of sign and exponent."""
    rest, power, bits = scratch
    factor, mask, zero = constants[0], constants[1][0], quanta.dtype.type(0)
    for i in range(total.size):
        total[i] = zero
    for _ in range(most):
        left = np.int32(0)
        for i in range(total.size):
            rest[i] = quanta[i] - total[i]
            left = np.int32(left | np.int32(rest[i] != zero))
        if left == 0:
            break
        _nearest_power(rest, factor, mask, power, bits)
        for i in range(total.size):
            total[i] += power[i]
    for i in range(total.size):
        total[i] = quanta[i] - (quanta[i] - total[i])


@_part
def _count_powers(quanta, whole, number):  # type: ignore[no-untyped-def]
    """`powers.count_powers`; what is not a whole number in its range counts 0."""
    zero, most = quanta.dtype.type(0), quanta.dtype.type(1 << 20)
    for i in range(number.size):
        size = abs(quanta[i])
        whole[i] = np.int32(size if size <= most else zero)
    for i in range(number.size):
        bits = np.uint32(whole[i] ^ (3 * whole[i]))
        bits = np.uint32(bits - ((bits >> np.uint32(1)) & np.uint32(0x55555555)))
        bits = np.uint32((bits & np.uint32(0x33333333)) + ((bits >> np.uint32(2)) & np.uint32(0x33333333)))
        bits = np.uint32((bits + (bits >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
        number[i] = np.int32(np.uint32(bits * np.uint32(0x01010101)) >> np.uint32(24))


@_part
def _plain_spikes(target, rule, count, number):  # type: ignore[no-untyped-def]
    """`signed.spikes_of_weight` for a weight of 1: the count after them, and their number; rule: burst."""
    zero, most, least = rule.dtype.type(0), rule[0], -rule[0]
    for i in range(count.size):
        spikes = target[i] - count[i]
        spikes = least if spikes < least else spikes
        spikes = most if spikes > most else spikes
        count[i] += spikes
        size = abs(spikes)
        number[i] = np.int32(size if size <= most else zero)


@_part
def _weighted_spikes(target, rule, weight, count, number):  # type: ignore[no-untyped-def]
    """`signed.spikes_of_weight` for a weight above 1; rule: burst, lowest and highest level.

    Quotients of whole numbers n/d are rounded down as floor((n + 1/2)·(1/d)): n/d + 1/(2d) is at least 1/(2d) away from
    any whole number, more than the error of the product while n < 2^22 (`kernels.MOST_QUANTA`).
    """
    one, zero, three, half = rule.dtype.type(1), rule.dtype.type(0), rule.dtype.type(3), rule.dtype.type(0.5)
    burst, low, high = rule[0], rule[1], rule[2]
    a_third, a_whole = one / (three * weight), one / weight
    for i in range(count.size):
        before = count[i]
        missing = target[i] - before
        spikes = np.floor((abs(missing) * three + weight + half) * a_third)
        spikes = burst if spikes > burst else spikes
        room = np.floor(((high - before if missing > zero else before - low) + half) * a_whole)
        spikes = room if room < spikes else spikes
        number[i] = np.int32(spikes if spikes <= burst else zero)
        spikes = spikes * ((one if missing > zero else zero) - (one if missing < zero else zero))
        count[i] = before + spikes * weight


@_inlined
def _free_spikes(target, burst, constants, scratch, count, number):  # type: ignore[no-untyped-def]
    """`signed.free_quanta`: the count after them, and the number of their spikes."""
    missing, whole, sent = scratch[3], scratch[4], scratch[6]
    for i in range(count.size):
        missing[i] = target[i] - count[i]
    _largest_powers(missing, burst, constants, scratch[:3], sent)
    if burst > 1:
        _count_powers(sent, whole, number)
    else:
        for i in range(count.size):
            number[i] = np.int32(sent[i] != sent.dtype.type(0))
    for i in range(count.size):
        count[i] += sent[i]


@_inlined
def _fire(target, rule, weight, scratch, count, number):  # type: ignore[no-untyped-def]
    """The count after what these neurons send under their schedule in a step with this weight."""
    numbers, constants, (burst, _, is_free) = rule
    if weight == 0:
        for i in range(count.size):
            number[i] = np.int32(0)
    elif is_free:
        _free_spikes(target, burst, constants, scratch, count, number)
    elif weight == 1:
        _plain_spikes(target, numbers[3:], count, number)
    else:
        _weighted_spikes(target, numbers[3:], numbers.dtype.type(weight), count, number)


@_part
def _state_of(target, count):  # type: ignore[no-untyped-def]
    """MISSING or IS_NAN of these neurons."""
    missing, undefined, zero = np.int32(0), np.int32(0), target.dtype.type(0)
    for i in range(count.size):
        rest = target[i] - count[i]
        missing = np.int32(missing | np.int32(rest != zero))
        undefined = np.int32(undefined | np.int32(rest != rest))
    return (IS_NAN if undefined else 0) | (MISSING if missing else 0)


@_part
def _write(count, quantum, y):  # type: ignore[no-untyped-def]
    for i in range(count.size):
        y[i] = count[i] * quantum[i]


@_part
def _fill(value, values):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        values[i] = value


@_part
def _total(number):  # type: ignore[no-untyped-def]
    total = np.int32(0)
    for i in range(number.size):
        total = np.int32(total + number[i])
    return total


@_part
def _add(number, totals):  # type: ignore[no-untyped-def]
    for i in range(number.size):
        totals[i] += number[i]


@_part
def _mask(keep, number, y):  # type: ignore[no-untyped-def]
    """Drop spikes and outputs that the mask does not keep."""
    one, zero = y.dtype.type(1), y.dtype.type(0)
    for i in range(number.size):
        number[i] = number[i] if keep[i] else np.int32(0)
        y[i] = y[i] * (one if keep[i] else zero)


@_inlined
def _signed_step(x, constants, rule, weight, scratch, count, y, number):  # type: ignore[no-untyped-def]
    """One step of some neurons before masking; returns their state. constants: L/λ and λ/L of each."""
    target = scratch[5]
    _to_levels(x, constants[0], rule[0], target)
    most_powers = rule[2][1]
    if most_powers > 0:
        rounded = scratch[6]
        _largest_powers(target, most_powers, rule[1], scratch[:3], rounded)
        for i in range(target.size):
            target[i] = rounded[i]
    _fire(target, rule, weight, scratch, count, number)
    _write(count, constants[1], y)
    return _state_of(target, count)


@_entry
def signed_units(x, quanta, keep, memory, results, rule, span):  # type: ignore[no-untyped-def]
    """Target, spikes, count, output and settling of the units from first to last, in all images.

    Args:
        x: running sums of the input, an operand.
        quanta: (L/λ, λ/L, layout of both), operands without steps and images.
        keep: uint8, an operand; of size 0 without a mask.
        memory: counts of all images of the batch, updated in place; int64 [B], places there of the images that are
            computed; the running sums of their output [T·B·n], overwritten.
        results: int64 [units, T] of spikes fired, likewise of those sent; int32 [T, n], added to, of those sent by each
            neuron, summed over images (size 0: not wanted); uint8 [T, B, r], state of each row; uint8 [B, r], 0 for
            rows to be left out, whose outputs are not written (size 0: none).
        rule: floating-point numbers (1/2, n, L, burst, lowest and highest level), (4/3, mask of sign and exponent), and
            (burst, most powers of a level or 0, is free).
        span: (T, B, neurons of a row, rows of a unit, first unit, unit after the last one), int64 [units + 1] of the
            neurons with which the units begin, and int64 [T] of weights.
    """
    (steps, images, length, rows, begin, end), firsts, weights = span
    fired, sent, by_neuron, states, active = results
    counts, places, outputs = memory
    neurons, size = firsts[-1], firsts[1] - firsts[0]
    floats, integers = np.empty((8, size), counts.dtype), np.empty((2, size), np.int32)
    of_keep = np.empty(size, np.uint8)
    is_one = quanta[0].size == 1
    if is_one:
        _fill(quanta[0][0], floats[0])
        _fill(quanta[1][0], floats[1])
    for b in range(images):
        for unit in range(begin, end):
            width = firsts[unit + 1] - firsts[unit]
            if not is_one:
                _gather(quanta[0], quanta[2], quanta[2][0], firsts[unit], floats[0, :width])
                _gather(quanta[1], quanta[2], quanta[2][0], firsts[unit], floats[1, :width])
            for t in range(steps):
                for r in range(-(-width // length)):
                    row, low = unit * rows + r, r * length
                    if active.size > 0 and active[b, row] == 0:
                        continue
                    first, number = firsts[unit] + low, min(length, width - low)
                    place, power = (t * images + b) * neurons + first, floats[3, :number]
                    scratch = (
                        floats[2, :number], power, power.view(rule[1][1].dtype), floats[4, :number],
                        integers[0, :number], floats[5, :number], floats[6, :number],
                    )  # fmt: skip
                    constants = floats[0, low : low + number], floats[1, low : low + number]
                    now = _read(x[0], x[1], t * x[1][0] + b * x[1][1], first, floats[7, :number])
                    count, y = counts[places[b] * neurons + first :][:number], outputs[place : place + number]
                    spikes = integers[1, :number]
                    state = _signed_step(now, constants, rule, weights[t], scratch, count, y, spikes)
                    total = _total(spikes)
                    fired[unit, t] += total
                    if keep[0].size > 0:
                        _gather(keep[0], keep[1], t * keep[1][0] + b * keep[1][1], first, of_keep[:number])
                        _mask(of_keep, spikes, y)
                        total = _total(spikes)
                    sent[unit, t] += total
                    if by_neuron.size > 0 and total > 0:
                        _add(spikes, by_neuron[t, first : first + number])
                    states[t, b, row] = state | (CHANGED if total > 0 or state & IS_NAN else 0)
