"""Functions of torch -> the elementary operations that each takes, for every element and for every row.

A function of single values takes its operations once for each element of its output. A function of rows (a softmax, a
norm) takes some for each element of a row and others once for the row, whose elements share a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mst.dataflow import FunctionCall

ADDITION = "addition"
MULTIPLICATION = "multiplication"
COMPARISON = "comparison"
RECIPROCAL = "reciprocal"
"""1/x; a division is a reciprocal and a multiplication."""
ROOT = "reciprocal_root"
"""1/√x; a square root is that and a multiplication by x."""
EXP = "exp"
LOG = "log"
SINE = "sine"
ERF = "erf"

ELEMENTARY = (ADDITION, MULTIPLICATION, COMPARISON, RECIPROCAL, ROOT, EXP, LOG, SINE, ERF)
"""Kinds of elementary operations of functions."""

Numbers = Mapping[str, float]
"""Kind of elementary operation -> how many."""

Scope = Literal["elements", "halves", "quotient", "rows"]
"""Part of the result that an input decides: the same element; with another in the other half of an axis; a divisor,
which may be shared by many elements; or its whole row."""


@dataclass(frozen=True)
class Rule:
    """Elementary operations of one call of a function."""

    per_element: Numbers
    """Of each element of the output; for "rows", of the input."""

    per_shared: Numbers = field(default_factory=dict)
    """Of each row; for "quotient", of each divisor."""

    scope: Scope = "elements"
    """Elements to be computed again where an input has changed."""

    axes: tuple[int, ...] = ()
    """For "rows", axes of the first tensor that lie within a row, from 0; for "halves", the axis that is split."""

    groups: int = 0
    """For "rows" of a group norm: groups of channels, each a row."""

    @property
    def is_free(self) -> bool:
        """True if the call takes no operation."""
        return not any(self.per_element.values()) and not any(self.per_shared.values())


def rule_of(call: FunctionCall) -> Rule | None:
    """The elementary operations of a call; None if they are not known."""
    name = call.name.removeprefix("special_")
    if any(x.is_complex() for x in (*call.inputs, call.output)):
        return None
    if name in _LINEAR or name in _FREE:
        return Rule({})
    if name in _DEPENDING:
        return _DEPENDING[name](call)
    if name in _OF_VALUES:
        return Rule(_OF_VALUES[name])
    if name in _OF_ROWS:
        axes = _axes(call)
        return None if axes is None else Rule(*_OF_ROWS[name], scope="rows", axes=axes)
    return None


def numbers(text: str) -> Numbers:
    """Numbers of operations from words: "2 multiplication + exp" -> {"multiplication": 2, "exp": 1}."""
    found: dict[str, float] = {}
    for term in text.split(" + ") if text else []:
        count, _, kind = term.rpartition(" ")
        for each, number in _COMPOSED.get(kind, {kind: 1}).items():
            found[each] = found.get(each, 0) + number * int(count or 1)
    return found


def argument(call: FunctionCall, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, given by position or by name."""
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)


_COMPOSED: dict[str, Numbers] = {}
_COMPOSED["sigmoid"] = numbers("exp + addition + reciprocal")  # 1/(1 + exp(-x))
_COMPOSED["tanh"] = numbers("2 multiplication + exp + 2 addition + reciprocal")  # 1 - 2/(exp(2x) + 1)
_COMPOSED["softplus"] = numbers("comparison + exp + addition + log")  # log(1 + exp(x))

_LINEAR = frozenset({
    "sum", "mean", "cumsum", "batch_norm", "interpolate", "upsample", "fold", "nanmean", "nansum", "trace", "diff",
    "scatter_add", "index_add", "positive",
})  # fmt: skip
"""Sums of elements, which are not counted for either network."""

_FREE = frozenset({
    "abs", "absolute", "sign", "sgn", "signbit", "copysign", "isnan", "isinf", "isfinite", "isneginf", "isposinf",
    "nan_to_num", "where", "masked_fill", "masked_scatter", "masked_select", "logical_and", "logical_or", "logical_not",
    "logical_xor", "and", "or", "xor", "invert", "iand", "ior", "bitwise_and", "bitwise_or", "bitwise_not", "any",
    "all", "tril", "triu", "diag", "diagonal", "diag_embed", "scatter", "index_put", "index_copy", "index_fill", "bool",
    "int", "long", "short", "nonzero", "one_hot", "embedding", "meshgrid", "broadcast_tensors", "broadcast_to", "fill",
    "zero", "resolve_conj",
})  # fmt: skip
"""Functions that select values, or look at single bits of them."""

_OF_VALUES: dict[str, Numbers] = {
    name: numbers(text)
    for names, text in {
        "relu threshold gt lt ge le eq ne greater less greater_equal less_equal maximum minimum fmax fmin "
        "heaviside": "comparison",
        "relu6 hardtanh": "2 comparison",
        "leaky_relu prelu rrelu": "comparison + multiplication",
        "elu celu selu": "comparison + exp + addition + multiplication",
        "hardsigmoid": "addition + 2 comparison + multiplication",
        "hardswish": "addition + 2 comparison + 2 multiplication",
        "hardshrink softshrink": "2 comparison + addition",
        "sigmoid expit": "sigmoid",
        "silu": "sigmoid + multiplication",
        "tanh": "tanh",
        "tanhshrink": "tanh + addition",
        "softplus logsigmoid log_sigmoid": "softplus",
        "mish": "softplus + tanh + multiplication",
        "softsign": "addition + reciprocal + multiplication",
        "exp exp2": "exp",
        "expm1": "exp + addition",
        "log": "log",
        "log2 log10": "log + multiplication",
        "log1p": "log + addition",
        "sqrt": "reciprocal_root + multiplication",
        "rsqrt": "reciprocal_root",
        "square": "multiplication",
        "reciprocal": "reciprocal",
        "erf": "erf",
        "erfc": "erf + addition",
        "sin cos": "sine",
        "floor ceil round trunc frac": "addition",
    }.items()
    for name in names.split()
}
"""Functions of single values."""

_OF_ROWS: dict[str, tuple[Numbers, Numbers]] = {
    name: (numbers(each), numbers(row))
    for names, each, row in (
        ("softmax softmin", "comparison + 2 addition + exp + multiplication", "reciprocal"),
        ("log_softmax", "comparison + 3 addition + exp", "log"),
        ("logsumexp", "comparison + 2 addition + exp", "log + addition"),
        ("var var_mean", "3 addition + multiplication", "2 multiplication"),
        ("std std_mean", "3 addition + multiplication", "3 multiplication + reciprocal_root"),
        ("amax amin argmax argmin", "comparison", ""),
        ("prod", "multiplication", ""),
    )
    for name in names.split()
}
"""Functions of rows along the axes that an argument `dim` names: per element, and per row."""


def _axes(call: FunctionCall) -> tuple[int, ...] | None:
    """Axes of a row, counted from 0; None if the function takes all axes, or another argument in that place."""
    axes = argument(call, 1, "dim")
    return _from_zero(call.kwargs.get("axis") if axes is None else axes, call.inputs[0].dim())


def _from_zero(axes: Any, dims: int) -> tuple[int, ...] | None:
    axes = (axes,) if isinstance(axes, int) and not isinstance(axes, bool) else axes
    if not isinstance(axes, tuple | list) or not axes:
        return None
    return tuple(sorted(axis % dims for axis in axes))


# -------------------------------------------------------------------- functions that depend on their arguments


def _times(call: FunctionCall) -> Rule:
    """A product of two activations, element by element. By a constant it is linear, and not counted."""
    return Rule({MULTIPLICATION: 1} if sum(call.depends) > 1 else {})


def _times_and_add(call: FunctionCall) -> Rule:
    """input + value·a·b: a product where both factors depend on the image."""
    return Rule(numbers("multiplication + addition") if len(call.depends) > 2 and all(call.depends[1:3]) else {})


def _lerp(call: FunctionCall) -> Rule:
    """a + w·(b - a): a product where the weight depends on the image."""
    return Rule(numbers("multiplication + 2 addition") if len(call.depends) > 2 and call.depends[2] else {})


def _divide(call: FunctionCall) -> Rule:
    """A division by an activation; by a constant it is linear, and not counted."""
    is_rounded = call.name.startswith("floor") or call.kwargs.get("rounding_mode") is not None
    rounding = {ADDITION: 1} if is_rounded else {}
    if len(call.inputs) == 2 and call.depends[1]:
        return Rule({MULTIPLICATION: 1} | rounding, {RECIPROCAL: 1}, "quotient")
    if len(call.inputs) == 1 and not isinstance(call.args[0], Tensor):
        return _divide_into(call)
    return Rule(rounding)


def _divide_into(call: FunctionCall) -> Rule:
    """A number divided by an activation; __rdiv__ gets the activation first."""
    number = next((each for each in call.args if not isinstance(each, Tensor)), None)
    return Rule({RECIPROCAL: 1} if number == 1 else {RECIPROCAL: 1, MULTIPLICATION: 1})


def _gelu(call: FunctionCall) -> Rule:
    """x·(1 + erf(x/√2))/2, or its approximation x·(1 + tanh(c·x + d·x³))/2."""
    if argument(call, 1, "approximate", "none") == "tanh":
        return Rule(numbers("5 multiplication + 2 addition + tanh"))
    return Rule(numbers("erf + 3 multiplication + addition"))


def _clamp(call: FunctionCall) -> Rule:
    """A comparison for each bound."""
    bounds = [argument(call, 1, "min"), argument(call, 2, "max")]
    return Rule({COMPARISON: 1 if call.name in ("clamp_min", "clamp_max") else sum(b is not None for b in bounds)})


def _power(call: FunctionCall) -> Rule | None:
    """Repeated squaring for whole exponents, roots for halves, exp(y·log x) for others."""
    exponent = argument(call, 1, "exponent")
    if call.name == "rpow" or not isinstance(exponent, int | float):
        return Rule(numbers("exp + multiplication" if call.name == "rpow" else "log + multiplication + exp"))
    size, is_inverse = abs(float(exponent)), exponent < 0
    if size.is_integer():
        steps = int(size).bit_length() - 1 + int(size).bit_count() - 1 if size else 0
        return Rule({MULTIPLICATION: steps, RECIPROCAL: int(is_inverse)})
    if size == 0.5:
        return Rule(numbers("reciprocal_root" if is_inverse else "reciprocal_root + multiplication"))
    return Rule(numbers("log + multiplication + exp"))


def _glu(call: FunctionCall) -> Rule:
    """a·sigmoid(b) of the two halves of an axis."""
    axis = argument(call, 1, "dim", -1) % call.inputs[0].dim()
    return Rule(numbers("sigmoid + multiplication"), scope="halves", axes=(axis,))


def _norm_over_last(call: FunctionCall) -> Rule:
    """LayerNorm or RMSNorm over the last axes; without weight or bias it saves their operations."""
    x, is_rms = call.inputs[0], call.name == "rms_norm"
    axes = tuple(range(x.dim() - len(argument(call, 1, "normalized_shape")), x.dim()))
    has_bias = not is_rms and argument(call, 3, "bias") is not None
    return _normalising(call, argument(call, 2, "weight") is not None, has_bias, axes, is_rms=is_rms)


def _group_norm(call: FunctionCall) -> Rule:
    """GroupNorm: groups of channels with all their places are rows."""
    x = call.inputs[0]
    has_weight, has_bias = argument(call, 2, "weight") is not None, argument(call, 3, "bias") is not None
    return _normalising(call, has_weight, has_bias, tuple(range(1, x.dim())), groups=argument(call, 1, "num_groups"))


def _instance_norm(call: FunctionCall) -> Rule:
    """InstanceNorm: each channel is a row; by running statistics it is linear."""
    if not argument(call, 5, "use_input_stats", True):
        return Rule({})
    has_weight, has_bias = argument(call, 3, "weight") is not None, argument(call, 4, "bias") is not None
    return _normalising(call, has_weight, has_bias, tuple(range(2, call.inputs[0].dim())))


def _normalising(
    call: FunctionCall, has_weight: bool, has_bias: bool, axes: tuple[int, ...], groups: int = 0, is_rms: bool = False
) -> Rule:
    """Mean, deviation and squares of each element, or for an RMSNorm the squares alone; product with 1/σ; weight and
    bias. Of each row: the divisions of sums by the constant number of elements, ε, and 1/√."""
    each = {ADDITION: (1 if is_rms else 3) + has_bias, MULTIPLICATION: 2 + has_weight}
    row = {MULTIPLICATION: 1 if is_rms else 2, ADDITION: 1, ROOT: 1}
    return Rule(each, row, "rows", axes, groups)


def _normalize(call: FunctionCall) -> Rule | None:
    """x/max(‖x‖, ε) along an axis."""
    axes = _from_zero(argument(call, 2, "dim", 1), call.inputs[0].dim())
    if argument(call, 1, "p", 2.0) != 2 or axes is None:
        return None
    return Rule(numbers("2 multiplication + addition"), numbers("comparison + reciprocal_root"), "rows", axes)


def _length(call: FunctionCall) -> Rule | None:
    """‖x‖ along axes."""
    axes = _from_zero(argument(call, 2, "dim"), call.inputs[0].dim())
    if argument(call, 1, "p" if call.name == "norm" else "ord", 2) not in (2, "fro", None) or axes is None:
        return None
    return Rule(numbers("multiplication + addition"), numbers("multiplication + reciprocal_root"), "rows", axes)


def _largest(call: FunctionCall) -> Rule | None:
    """The larger of two values, or the largest of a row."""
    if len(call.inputs) > 1:
        return Rule({COMPARISON: 1})
    axes = _axes(call)
    return None if axes is None else Rule({COMPARISON: 1}, scope="rows", axes=axes)


_DEPENDING: dict[str, Callable[[FunctionCall], Rule | None]] = {
    **dict.fromkeys(["mul", "multiply", "rmul", "imul"], _times),
    **dict.fromkeys(["div", "divide", "true_divide", "truediv", "itruediv", "floor_divide", "floordiv"], _divide),
    **dict.fromkeys(["rdiv", "rtruediv"], _divide_into),
    **dict.fromkeys(["clamp", "clip", "clamp_min", "clamp_max"], _clamp),
    **dict.fromkeys(["pow", "rpow", "float_power", "ipow"], _power),
    **dict.fromkeys(["max", "min"], _largest),
    **dict.fromkeys(["norm", "linalg_norm", "linalg_vector_norm", "vector_norm"], _length),
    **dict.fromkeys(["layer_norm", "rms_norm"], _norm_over_last),
    "addcmul": _times_and_add,
    "lerp": _lerp,
    "gelu": _gelu,
    "glu": _glu,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "normalize": _normalize,
}
