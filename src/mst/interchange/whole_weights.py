"""Whole-number weights in a graph of ONNX: which of them a runtime may multiply as whole numbers.

Where a product reads DequantizeLinear on both sides, a runtime multiplies whole numbers, and the answer is the same.
Where it reads such weights and a value that is not a level, or levels behind an operator such as Concat, onnxruntime
may round that value to 8 bits, unasked (its operator MatMulNBits, by default of the setting
`session.qdq_matmulnbits_accuracy_level`). Where it sees levels and floating-point weights, it may round the weights. So
weights have to be whole exactly where onnxruntime sees levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "MaxPool"})
"""Operators that move or choose values and that onnxruntime sees levels through. (A roll is a Concat: it does not.)"""

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})


def release_weights_of_analog_values(graph: Any) -> None:
    """Write weights as floating-point numbers, of the same values, unless a runtime sees that they multiply levels.

    Args:
        graph: a graph of the package onnx_ir, changed in place.
    """
    import onnx_ir as ir

    for node in list(graph):
        if node.op_type != "DequantizeLinear" or node.inputs[0].const_value is None:
            continue
        value = node.outputs[0]
        hidden = [use for use in value.uses() if not all(_is_level(other) for other in _multiplied_by(*use))]
        if not hidden:
            continue
        weight = _floating_point(node, ir)
        graph.register_initializer(weight)
        for user, place in hidden:  # the others, of a weight that several maps share, read it as whole numbers
            user.replace_input_with(place, weight)
        if not value.uses():
            held = node.inputs
            graph.remove(node, safe=True)
            for each in held:
                if each is not None and not each.uses():
                    graph.initializers.pop(each.name, None)


def _floating_point(node: Any, ir: Any) -> Any:
    """The constant whose value a DequantizeLinear returns."""
    whole, scale = (each.const_value.numpy() for each in node.inputs[:2])
    shape = [1] * whole.ndim
    shape[node.attributes.get_int("axis", 1) if scale.ndim else 0] = -1
    name = f"{node.inputs[0].name}_times_scale"
    weight = ir.Value(name=name, const_value=ir.tensor((whole * scale.reshape(shape)).astype(scale.dtype), name=name))
    weight.shape, weight.type = node.outputs[0].shape, node.outputs[0].type
    return weight


def _multiplied_by(user: Any, place: int) -> Iterator[Any]:
    """The other factors of the products that a weight reaches by one use, through operators that move values."""
    if user.op_type in MOVES:
        for output in user.outputs:
            for use in output.uses():
                yield from _multiplied_by(*use)
    elif user.op_type in PRODUCTS and place < 2:
        yield user.inputs[1 - place]


def _is_level(value: Any) -> bool:
    """True if a value comes from DequantizeLinear, through operators that move values."""
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "DequantizeLinear":
        return True
    return node.op_type in MOVES and _is_level(node.inputs[0])
