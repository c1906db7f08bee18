"""Torch functions by what they do to spikes, under the names that a function mode sees (underscores stripped)."""

from __future__ import annotations

LAYOUT = frozenset({
    "view", "reshape", "permute", "transpose", "contiguous", "flatten", "unflatten", "roll", "unbind", "split",
    "chunk", "squeeze", "unsqueeze", "view_as", "reshape_as", "expand", "expand_as", "cat", "concat", "stack",
    "pad", "getitem", "to", "clone", "detach", "narrow", "select", "movedim", "swapaxes", "index_select", "gather",
    "flip", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "float", "double",
    "half", "bfloat16", "type_as", "get", "repeat", "repeat_interleave", "tile", "moveaxis", "swapdims",
    "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "t", "adjoint", "unfold", "hsplit", "vsplit", "tensor_split",
    "rot90", "take_along_dim", "constant_pad_nd", "setitem", "copy", "type", "as_subclass", "requires_grad",
    "alias", "cpu", "cuda", "diagonal",
})  # fmt: skip
"""Functions that move values without computing new ones: spikes stay spikes through them."""

SAME_PLACES = frozenset({
    "to", "float", "double", "half", "bfloat16", "type", "type_as", "clone", "detach", "contiguous", "alias", "cpu",
    "cuda", "requires_grad", "as_subclass", "expand", "expand_as", "copy", "dropout", "dropout1d", "dropout2d",
    "dropout3d", "feature_dropout", "alpha_dropout",
})  # fmt: skip
"""Those whose result has the same value at the same place, repeated along new axes perhaps."""

SAME_ORDER = frozenset({
    "view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze",
})  # fmt: skip
"""Those whose result has the same values in the same order, row by row."""

FORM_OF_ANOTHER = frozenset({"view_as", "reshape_as", "expand_as", "type_as"})
"""Those that take only the form of their second operand."""

CONSTANTS = frozenset({
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "new_zeros", "new_ones", "new_empty", "new_full",
    "new_tensor",
})  # fmt: skip
"""Functions that take only the form of a tensor; their output does not depend on the image."""

LINEAR_MAPS = frozenset({
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "matmul", "mm",
    "bmm", "baddbmm", "addmm", "einsum", "rmatmul", "bilinear", "mv", "tensordot",
})  # fmt: skip
"""Linear as long as only one operand depends on the image. Their operations have a cost."""

ELEMENTWISE = frozenset({
    "add", "sub", "rsub", "neg", "mul", "div", "true_divide", "multiply", "radd", "rmul", "lerp", "addcmul", "sum",
    "mean", "cumsum", "batch_norm", "interpolate", "upsample", "fold", "iadd", "isub", "imul", "itruediv", "truediv",
})  # fmt: skip
"""Likewise linear, and free of charge."""

SUMS = frozenset({"add", "sub", "rsub", "radd", "iadd", "isub", "neg"})
"""Linear however many operands depend on the image."""

DIVISIONS = frozenset({"div", "true_divide", "truediv"})
"""Linear in their first operand only."""

FACTORS = DIVISIONS | {"mul", "multiply", "rmul", "imul", "itruediv"}
"""Multiplications and divisions, element by element."""

RESIZING = frozenset({"interpolate", "upsample"})
"""Resizing; the nearest value is a move."""

DIVISIONS_BY = frozenset({"rdiv", "rtruediv", "reciprocal"})
"""Divisions by the operand that they are called on; never linear."""

AVERAGE_POOLS = frozenset(f"{kind}avg_pool{dims}d" for kind in ("", "adaptive_") for dims in (1, 2, 3))
"""Averages over windows: spikes add up in them."""

MAX_POOLS = frozenset(f"{kind}max_pool{dims}d" for kind in ("", "adaptive_") for dims in (1, 2, 3))
"""Spikes stay spikes, but the mean over time does not stay the mean."""

SOFTMAXES = frozenset({"softmax"})
"""Carried by rate coding as an approximation. Their operations have a cost."""

NORMS = frozenset({"layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"})
"""Normalisations by statistics of the image, which do not keep the mean over time."""

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"})
"""Whole layers in one function, with activations inside."""

ATTENTION = frozenset({"scaled_dot_product_attention", "multi_head_attention_forward", "native_multi_head_attention"})
"""Products of activations and a softmax in one function."""

GATES = frozenset({"sigmoid", "hardsigmoid"})
"""Activations that often belong to a gate."""

ACTIVATIONS = GATES | {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish",
    "hardtanh", "tanh", "softplus", "softsign", "logsigmoid", "log_sigmoid", "tanhshrink", "softshrink", "hardshrink",
    "threshold",
    "clamp", "clamp_min", "clip", "abs", "square", "exp", "sqrt", "sin", "cos", "erf", "pow", "log1p", "expm1",
}  # fmt: skip
"""Functions of single values, in whose place a QCFS may learn."""

MAXIMA = frozenset({"amax", "max", "maximum", "fmax"})
"""Largest values; a max-pool that is a module is exact."""

POWER_POOLS = frozenset({"lp_pool1d", "lp_pool2d", "lp_pool3d"})
"""Pools by a norm of each window."""

IN_PLACE_OPERATORS = frozenset({
    "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ifloordiv__",
    "__ipow__", "__imod__", "__iand__", "__ior__", "__ixor__",
})  # fmt: skip
"""Full names of operators that write into their first operand."""

JOINS = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "setitem", "pad"})
"""Functions that put constants beside activations."""

LEAVES_TORCH = frozenset({
    "__bool__", "item", "__float__", "__int__", "__index__", "__complex__", "tolist", "numpy", "__array__", "equal",
    "allclose", "is_nonzero", "__contains__",
})  # fmt: skip
"""Full names of functions that turn tensors into values of Python, which then may decide anything."""
