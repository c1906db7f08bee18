"""Functions between the sites: their elementary operations, dense or of what has changed.

Under a coding that sends values a function is computed at every step. Under one that sends changes it is computed again
only for the elements whose input has changed; where a row shares a statistic, for the rows in which anything has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from mst.dataflow import THE_NETWORK, Call, FunctionCall

from .elementary import Rule, rule_of

Key = tuple[str, str, int]
"""Path of a module, function, and number of the call of that function in that module in one pass."""


@dataclass(frozen=True)
class Operand:
    """A tensor of a call that depends on the image."""

    index: int
    """Number among the tensors of the call."""

    shape: tuple[int, ...]
    """Shape for one image."""

    batch_axis: int = 0
    """Axis on which images lie."""


@dataclass(frozen=True)
class Function:
    """One call of a function between the sites, as the trace found it."""

    name: str
    """Module path and function, "blocks.0.mlp.act (gelu)"; from the second call on with its number."""

    key: Key
    """Its place in a pass."""

    rule: Rule
    """Its elementary operations."""

    elements: int
    """Elements per image that it computes; of a function of rows, elements of its input."""

    shared: int
    """Rows, or divisors, per image; 0 if there are none."""

    operands: tuple[Operand, ...]
    """Inputs that it depends on."""

    readers: frozenset[str] = frozenset()
    """Sites that read its result; "" for a map, a product or the output."""

    calls: int = 0
    """Calls of this function by this module in one pass, where they are observed."""

    operation: str = ""
    """The operation whose counts hold its own, where it is a softmax or LayerNorm that is a module; else empty."""

    def elementary(self, elements: float, shared: float) -> dict[str, float]:
        """Elementary operations of this number of elements and of rows or divisors."""
        total = Counter({kind: number * elements for kind, number in self.rule.per_element.items()})
        total.update({kind: number * shared for kind, number in self.rule.per_shared.items()})
        return {kind: number for kind, number in total.items() if number}


@dataclass(frozen=True, repr=False)
class FunctionCount:
    """Result of counting one function in a simulation."""

    function: Function
    """The function."""

    elements_per_step: Tensor | None = None
    """int64 [T], elements computed in each step, summed over all images. None: all of them at every step."""

    shared_per_step: Tensor | None = None
    """int64 [T], likewise rows or divisors."""

    def __repr__(self) -> str:
        dense = "all elements at every step"
        number = dense if self.elements_per_step is None else f"{int(self.elements_per_step.sum()):,} elements"
        return f"FunctionCount({self.function.name}, {number})"

    def __add__(self, other: FunctionCount) -> FunctionCount:
        if self.elements_per_step is None or other.elements_per_step is None:
            return self
        assert self.shared_per_step is not None
        assert other.shared_per_step is not None
        elements = self.elements_per_step + other.elements_per_step
        return FunctionCount(self.function, elements, self.shared_per_step + other.shared_per_step)


def describe_functions(
    calls: list[FunctionCall], operations: Mapping[str, list[tuple[str, Call]]]
) -> tuple[tuple[Function, ...], tuple[str, ...]]:
    """The functions that take operations, and the calls whose operations are not known, as "path (function)".

    Args:
        calls: from the tracer.
        operations: path of a module -> names of its operations, and their calls, in order.
    """
    found, unknown = [], []
    within: Counter[str] = Counter()
    for call in calls:
        rule = rule_of(call)
        where = f"{call.path or THE_NETWORK} ({call.name})"
        if rule is None:
            unknown.append(where)
        elif not rule.is_free:
            function = _describe(call, rule, where)
            if call.name in ("softmax", "layer_norm") and call.path in operations:
                own = operations[call.path][within[call.path] :][:1]
                within[call.path] += 1
                if own and _reads_the_same(call, own[0][1]):
                    function = replace(function, operation=own[0][0])
            found.append(function)
    return tuple(found), tuple(dict.fromkeys(unknown))


def _describe(call: FunctionCall, rule: Rule, where: str) -> Function:
    x = call.inputs[0]
    elements = x.numel() if rule.scope == "rows" else call.output.numel()
    shared = 0
    if rule.scope == "rows":
        shared = rule.groups or elements // max(1, math.prod(x.shape[axis] for axis in rule.axes))
    elif rule.scope == "quotient":
        shared = call.inputs[1].numel()
    indices = [0] if rule.scope == "rows" else [i for i, depends in enumerate(call.depends) if depends]
    operands = tuple(Operand(i, tuple(call.inputs[i].shape)) for i in indices)
    name = where if call.number == 1 else f"{where} ({call.number})"
    return Function(name, (call.path, call.name, call.number), rule, elements, shared, operands, call.readers)


def _reads_the_same(call: FunctionCall, module_call: Call) -> bool:
    """True if a function reads what its module reads, with the axes where they were."""
    read, given = call.inputs[0], module_call.inputs[0]
    return read.shape == given.shape and read.stride() == given.stride()
