"""Cost models from publications: arithmetic alone, arithmetic and memory, and data movement on a chip."""

from __future__ import annotations

from dataclasses import replace

from mst.operations import ADDITION, COMPARISON, MULTIPLICATION

from .algorithms import FP16, FP32, INT8, Precision, neuron_algorithms, table_algorithms
from .cost_models import CostModel, register_cost_model
from .kinds import (
    AC,
    ACTIVATION_WRITE,
    CURRENT_ADDITION,
    INPUT_READ,
    MAC,
    MASK_DRAW,
    MEMBRANE_READ,
    MEMBRANE_WRITE,
    NEURON_UPDATE,
    SPIKE,
    THRESHOLD_COMPARISON,
)
from .memory import Memory

IN_PARTS = {NEURON_UPDATE: "priced by its parts"}

NO_MEMORY = IN_PARTS | dict.fromkeys(
    (MEMBRANE_READ, MEMBRANE_WRITE, INPUT_READ, ACTIVATION_WRITE), "memory traffic; the model prices arithmetic"
)
"""Kinds that a model of arithmetic leaves out."""


def _horowitz(
    name: str, multiplication: float, addition: float, format_: str, precision: Precision, int8: CostModel | None = None
) -> CostModel:
    """Registers the model, and the same with functions from tables as `<name>-tables`."""
    model = CostModel(
        name,
        {MAC: round(multiplication + addition, 2), AC: addition, MULTIPLICATION: multiplication, ADDITION: addition},
        "Horowitz, ISSCC 2014",
        "simulated",
        f"45 nm CMOS, {format_}",
        algorithms={**precision.algorithms(), **neuron_algorithms()},
        leaves_out=NO_MEMORY,
        bits={FP32: 32, FP16: 16, INT8: 8}[precision],
        int8=int8,
    )
    tables = {**table_algorithms(), **neuron_algorithms()}
    register_cost_model(replace(model, name=f"{name}-tables", algorithms=tables))
    return model


HOROWITZ_45NM_INT8 = _horowitz("45nm-int8", 0.2, 0.03, "8-bit integers", INT8)
"""A MAC is a multiplication (0.2 pJ) and an addition (0.03 pJ). Accumulators of more bits cost more."""

HOROWITZ_45NM_FP32 = _horowitz("45nm-fp32", 3.7, 0.9, "32-bit floating point", FP32, HOROWITZ_45NM_INT8)
"""A MAC is a multiplication (3.7 pJ) and an addition (0.9 pJ)."""

HOROWITZ_45NM_FP16 = _horowitz("45nm-fp16", 1.1, 0.4, "16-bit floating point", FP16, HOROWITZ_45NM_INT8)
"""A MAC is a multiplication (1.1 pJ) and an addition (0.4 pJ)."""

for _model in (HOROWITZ_45NM_FP32, HOROWITZ_45NM_FP16, HOROWITZ_45NM_INT8):
    register_cost_model(_model)

_TRAFFIC = {
    MAC: {"weights": 1.0, "activations": 1.0},
    MEMBRANE_READ: {"potentials": 1.0},
    MEMBRANE_WRITE: {"potentials": 1.0},
    ACTIVATION_WRITE: {"activations": 1.0},
    INPUT_READ: {"activations": 1.0},
}


def _spiked_attention(name: str, arithmetic: CostModel, word_pj: float, word_bits: int) -> CostModel:
    """The formula: an AC reads a weight and the bit of the spike; an update reads and writes the potential, multiplies
    once, adds three times and writes a bit; a MAC reads a weight and an activation; an ANN writes each activation."""
    constants = arithmetic.constants
    bit = 1 / 32  # of a word, whatever its length, as in the source
    return replace(
        arithmetic,
        name=name,
        constants={**constants, NEURON_UPDATE: constants[MULTIPLICATION] + 3 * constants[ADDITION]},
        source=f"{arithmetic.source}; formula of the published code of SpikedAttention (NeurIPS 2024)",
        technology=f"{arithmetic.technology}, all words in memories of 8 KiB",
        accesses={**_TRAFFIC, AC: {"weights": 1 + bit}, NEURON_UPDATE: {"potentials": bit}},
        memory=Memory(((8.0, word_pj),), word_bits),
        leaves_out=dict.fromkeys(
            (CURRENT_ADDITION, THRESHOLD_COMPARISON, SPIKE), "part of the neuron's update in this formula"
        ),
        int8=None,
    )


MEMORY_45NM = register_cost_model(
    replace(
        _spiked_attention("45nm-memory", HOROWITZ_45NM_FP32, 5.0, 32),
        int8=_spiked_attention("45nm-memory-int8", HOROWITZ_45NM_INT8, 1.25, 8),
    )
)
"""An access to a word costs 5 pJ wherever it lies (1.25 pJ for 8 bits): half of a 64-bit access to 8 KiB."""

assert MEMORY_45NM.int8 is not None
register_cost_model(MEMORY_45NM.int8)

_CACHE_PJ = ((8.0, 10.0), (32.0, 20.0), (1024.0, 100.0))
"""(KiB, pJ of a 64-bit access), Horowitz, ISSCC 2014."""


def _sram(name: str, arithmetic: CostModel, word_bits: int) -> CostModel:
    """Events drive everything: each AC reads a weight, and reads and writes the potential that it adds to; each spike
    is written and read once."""
    return replace(
        arithmetic,
        name=name,
        source=f"{arithmetic.source} (memories of 32 KiB and 1 MiB second hand); accesses counted after Lemaire et "
        "al., ICONIP 2022 (second hand)",
        status="second hand",
        technology=f"{arithmetic.technology}, memories of the size of each layer",
        accesses={**_TRAFFIC, AC: {"weights": 1.0, "potentials": 2.0}, SPIKE: {"activations": 2.0}},
        memory=Memory(tuple((size, energy * word_bits / 64) for size, energy in _CACHE_PJ), word_bits),
        leaves_out=IN_PARTS,
        int8=None,
    )


SRAM_45NM = register_cost_model(
    replace(_sram("45nm-sram", HOROWITZ_45NM_FP32, 32), int8=_sram("45nm-sram-int8", HOROWITZ_45NM_INT8, 8))
)
"""An access costs more in a larger memory. A word costs its share of a 64-bit access."""

assert SRAM_45NM.int8 is not None
register_cost_model(SRAM_45NM.int8)


def movement_22nm(hops: float = 1.0, *, sparse: bool = True) -> CostModel:
    """Data movement on a network on chip, at 22 nm. It has no energy of a MAC: give one with
    `with_constants({MAC: ...})` or --mac-pj; without it, ANNs and analog operations are refused.

    Args:
        hops: routers that a value passes.
        sparse: True if each spike is an event of 3 pJ per hop; False if each neuron sends a bit at every step, of
            0.25 pJ per hop.

    Returns:
        The model, for 8-bit weights. An activation of the ANN moves as 8 dense bits.

    Source: Yan, Bai, Wong, arXiv 2409.08290 v4. The constants are second hand.
    """
    add, bit, event = 0.05448, 0.25 * hops, 3.0 * hops
    sends = {SPIKE: add + event} if sparse else {SPIKE: add, NEURON_UPDATE: bit}
    stays = "weights and potentials stay where they are used; constants for their memories are not at hand"
    form = "an event for each spike" if sparse else "a bit for each neuron and step"
    return CostModel(
        f"22nm-{'sparse' if sparse else 'dense'}" + (f"-{hops:g}-hops" if hops != 1 else ""),
        {
            AC: add, ADDITION: add, COMPARISON: add, CURRENT_ADDITION: add, THRESHOLD_COMPARISON: add, **sends,
            ACTIVATION_WRITE: 8 * bit, INPUT_READ: 8 * bit,
        },
        "Yan, Bai, Wong, arXiv 2409.08290 v4",
        "second hand",
        f"22 nm, 8 bits, {hops:g} hop{'s' if hops != 1 else ''} on a network on chip, {form}",
        leaves_out={
            **(IN_PARTS if sparse else {}),
            MEMBRANE_READ: stays, MEMBRANE_WRITE: stays, MASK_DRAW: "no constant for random numbers in the source",
        },
        bits=8,
    )  # fmt: skip


MOVEMENT_22NM_SPARSE = register_cost_model(movement_22nm())
"""Spikes move as events."""

MOVEMENT_22NM_DENSE = register_cost_model(movement_22nm(sparse=False))
"""Every neuron sends a bit at every step."""
