"""What each operation of a network costs: traced once for its structure, then recorded spike by spike.

An operation fed by spikes costs one accumulation (AC) per spike and output it reaches; one fed by analog values
costs its dense multiply-accumulations (MAC) at every step. Which of the two it is follows from where its input
comes from, not from what its values look like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from mst.conversion import Call, ConversionError, watch
from mst.models import ActivationProduct
from mst.neurons import SpikingNeuron

SOFTMAX_MACS_PER_ELEMENT = 3
"""exp (a table with linear interpolation), running sum, multiplication by the reciprocal: one MAC each."""

LAYER_NORM_MACS_PER_ELEMENT = 3
"""mean and variance, normalisation, affine map: one MAC each."""

BATCH_NORM_MACS_PER_ELEMENT = 1
"""One multiply-add in evaluation; none where it follows a linear map, into whose weights it folds."""


@dataclass(frozen=True)
class Operation:
    """One operation of the network, as the trace found it.

    name: module path; with a number behind it from the module's second call in a pass on.  module: its path.
    kind: "linear", "convolution", "product", "batch_norm", "layer_norm" or "softmax".
    sources: sites whose spikes drive it; empty if its input is analog.
    dense_macs: MACs per image and step if every input counts; also what the ANN spends on an image.
    driving_input: which operand the spikes come in by; 1 for the right operand of a product.
    pooled: how many inputs an average pool before it has put into one; their spikes add up.
    reads_input: whether its input is the image itself.
    operands: for each input, the sites whose spikes it holds.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    dense_macs: int
    driving_input: int = 0
    pooled: int = 1
    module: str = ""
    call_number: int = 1
    reads_input: bool = False
    operands: tuple[tuple[str, ...], ...] = ()

    @property
    def is_spike_driven(self) -> bool:
        return bool(self.sources)


@dataclass(frozen=True)
class OperationCount:
    """What an operation did in a simulation.

    acs_per_step: accumulations of each step, summed over all images, int64 [T]; zeros if not spike-driven.
    macs_per_step: likewise multiply-accumulations, where they were counted: of an operation that reads slices over
        time, one for each non-zero value and output it reaches; under lossless coding for each change of an analog
        value. None: its dense MACs at every step, or none at all.
    """

    operation: Operation
    acs_per_step: Tensor
    macs_per_step: Tensor | None = None


@dataclass(frozen=True)
class Trace:
    """The operations of a network, in the order in which they run.

    uncounted: places where a linear map or a softmax is a function rather than a module; their cost is not known.
    """

    operations: tuple[Operation, ...]
    uncounted: tuple[str, ...]


# ------------------------------------------------------------------------------------------------ trace


def trace_operations(network: nn.Module, image: Tensor, is_static: bool = True, any_function: bool = False) -> Trace:
    """Run one image for one step and note each operation, its size and what drives it.

    Args:
        network: a converted network.
        image: [1, ...], any image of the right shape.
        is_static: whether the network will see the same image at every step.
        any_function: whether its coding carries any function, as lossless coding does.

    Returns:
        The operations. A BatchNorm that folds into a linear map before it is not listed.

    Raises:
        ConversionError: something on the image's way that spikes cannot carry.
    """
    flow = watch(network, image, _OPERATIONS, is_static=is_static, any_function=any_function)
    if flow.obstacles:
        raise ConversionError(tuple(flow.obstacles))
    thresholds = {m.site: m.threshold for m in network.modules() if isinstance(m, SpikingNeuron)}
    found: dict[str, Operation] = {}
    for call in flow.calls:
        operation = _describe(call, flow.image)
        if operation is None or call.path in flow.free_norms:
            continue
        if operation.pooled > 1 and not _can_be_counted(operation, call, thresholds):
            operation = replace(operation, sources=(), pooled=1, operands=())
        number = 1 + sum(earlier.module == call.path for earlier in found.values())
        if number > 1:
            operation = replace(operation, name=f"{call.path} ({number})", call_number=number)
        if any_function and operation.kind == "product":  # changes of both operands drive it
            operation = replace(
                operation, sources=tuple(sorted({site for sites in operation.operands for site in sites}))
            )
        found[operation.name] = operation
    return Trace(tuple(found.values()), tuple(dict.fromkeys(flow.uncounted)))


def _can_be_counted(operation: Operation, call: Call, thresholds: dict[str, Tensor]) -> bool:
    """Whether an averaged value tells how many spikes went into it: they must all have had one known size."""
    if len(operation.sources) != 1:
        return False
    threshold = thresholds[operation.sources[0]]
    return threshold.numel() == 1 or threshold.numel() == call.inputs[0].shape[1]


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OPERATIONS = (nn.Linear, *CONVOLUTIONS, ActivationProduct, nn.LayerNorm, nn.Softmax, *_NORMS)


def _describe(call: Call, image: Tensor | None) -> Operation | None:
    """The operation that a module performs on one image, or None if it costs nothing of its own."""
    name, module, numel = call.path, call.module, call.output.numel()
    spikes = [tuple(sorted(flow.spikes_of)) if flow is not None else () for flow in call.flows]
    pooled = call.flows[0].pooled if call.flows[0] is not None else 1
    if isinstance(module, ActivationProduct):  # how many spikes an average holds is known of linear maps only
        spikes = [
            sites if flow is None or flow.pooled == 1 else () for sites, flow in zip(spikes, call.flows, strict=True)
        ]
    if isinstance(module, nn.Linear):
        return Operation(
            name, "linear", spikes[0], numel * module.in_features, pooled=pooled, module=name, operands=tuple(spikes)
        )
    # A class of its own may pad inside; what it reaches is not known, so it is billed as dense.
    plain = type(module) in CONVOLUTIONS
    reads_input = plain and image is not None and call.inputs[0].data_ptr() == image.data_ptr()
    if isinstance(module, CONVOLUTIONS):
        macs = numel * module.weight[0].numel()
        return Operation(
            name,
            "convolution",
            spikes[0],
            macs,
            pooled=pooled,
            module=name,
            reads_input=reads_input and not spikes[0],
            operands=tuple(spikes),
        )
    if isinstance(module, ActivationProduct):
        macs = numel * call.inputs[0].shape[-1]
        return Operation(
            name,
            "product",
            spikes[0] or spikes[1],
            macs,
            driving_input=0 if spikes[0] else 1,
            module=name,
            operands=tuple(spikes),
        )
    if isinstance(module, nn.Softmax):
        return Operation(name, "softmax", (), numel * SOFTMAX_MACS_PER_ELEMENT, module=name)
    if isinstance(module, nn.LayerNorm):
        return Operation(name, "layer_norm", (), numel * LAYER_NORM_MACS_PER_ELEMENT, module=name)
    return Operation(name, "batch_norm", (), numel * BATCH_NORM_MACS_PER_ELEMENT, module=name)
