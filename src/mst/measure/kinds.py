"""Kinds of operations that a cost model can price, beside the elementary ones of functions (`mst.operations`)."""

from __future__ import annotations

MAC = "mac"
"""Multiply-accumulate."""

AC = "ac"
"""Accumulate, which is what a spike causes at each output that it reaches."""

NEURON_UPDATE = "neuron_update"
"""A neuron is brought up to date in one step. Its parts (the next five) are kinds of their own: a cost model prices the
whole, or the parts."""

CURRENT_ADDITION = "current_addition"
"""The constant current (bias) of a neuron is added to its potential."""

THRESHOLD_COMPARISON = "threshold_comparison"
"""A potential is compared with a threshold."""

SPIKE = "spike"
"""A neuron fires: the threshold is subtracted from its potential, and the spike is sent as an event."""

MEMBRANE_READ = "membrane_read"
"""A potential is read for an update."""

MEMBRANE_WRITE = "membrane_write"
"""A potential is written after an update."""

MASK_DRAW = "mask_draw"
"""A random number decides whether a masked spike, or a masked activation of an ANN, is kept."""

INPUT_READ = "input_read"
"""A value of the image is read."""

ACTIVATION_WRITE = "activation_write"
"""An ANN writes an activation for the next layer."""

BESIDE = (
    NEURON_UPDATE, CURRENT_ADDITION, THRESHOLD_COMPARISON, SPIKE, MEMBRANE_READ, MEMBRANE_WRITE, MASK_DRAW, INPUT_READ,
    ACTIVATION_WRITE,
)  # fmt: skip
"""Kinds that belong to no map, product or function."""
