"""Operations of a converted network: traced once for its structure, then counted spike by spike.

An operation fed by spikes, of one site or of several that are added up through constants, costs one accumulation (AC)
per spike and output it reaches; one fed by analog values costs its dense multiply-accumulations (MAC) at every step.
Which of the two it is follows from where its input comes from, not from what its values look like.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from mst.dataflow import Call, ConversionError, Dataflow, FanOut, Stream, trace_dataflow
from mst.models import ActivationProduct, ConvolutionFunction, LinearFunction
from mst.neurons import SpikingNeuron

from .call_observer import with_batch_axes
from .fan_out import CONVOLUTIONS, TRANSPOSED, Convolution, Padding, output_places, outputs_reached, weights_per_place
from .functions import Function, describe_functions
from .padding import padding_inside

SOFTMAX_MACS_PER_ELEMENT = 3
"""exp (a table with linear interpolation), running sum, multiplication by the reciprocal: one MAC each."""

LAYER_NORM_MACS_PER_ELEMENT = 3
"""mean and variance, normalisation, affine map: one MAC each."""

BATCH_NORM_MACS_PER_ELEMENT = 1
"""One multiply-add in evaluation; none where it follows a linear map, into whose weights it folds."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OPERATIONS = (
    nn.Linear,
    LinearFunction,
    *CONVOLUTIONS,
    *TRANSPOSED,
    ActivationProduct,
    nn.LayerNorm,
    nn.Softmax,
    *_NORMS,
)

FanOuts = dict[str, tuple[FanOut, ...]]
"""Operation -> for each operand, the outputs that a spike of each neuron reaches through it; empty for an operand that
is not a sum of spikes through constants."""


@dataclass(frozen=True)
class Operation:
    """One operation of a network, as the trace found it."""

    name: str
    """Module path; from the second call of a module in a pass on, with the number of the call behind it."""

    kind: str
    """"linear", "convolution", "product", "batch_norm", "layer_norm" or "softmax"."""

    sources: tuple[str, ...]
    """Sites whose spikes drive it; empty if its input is analog."""

    dense_macs: int
    """MACs per image and step if every input counts. The ANN spends these on an image."""

    driving_input: int = 0
    """Operand by which the spikes come in; 1 is the right operand of a product."""

    pooled: int = 1
    """Inputs that average pools before it have put into one; their spikes add up."""

    module: str = ""
    """Module path."""

    call_number: int = 1
    """Number of the module's call in a pass, from 1."""

    reads_input: bool = False
    """True if its input is the image itself."""

    operands: tuple[tuple[str, ...], ...] = ()
    """For each input, the sites whose spikes it holds, moved or added up through constants."""

    constant_operands: tuple[int, ...] = ()
    """Operands of a product that depend on no image, by number."""

    output_places: tuple[int, ...] = ()
    """Length, or height and width, ... of the output of a transposed convolution that was asked for another size than
    that which follows from its options; else empty."""

    padding: Padding | None = None
    """Zeros that a convolution adds before and after each axis, where its class pads inside its forward."""

    mean_fan_out: float | None = None
    """MACs per value of its input, for a convolution whose class does more inside its forward, so that it is not known
    which place reaches how many outputs."""

    num_weights: int = 0
    """Weights that it multiplies with; of a product, the values per image of the operand that does not drive it."""

    num_inputs: int = 0
    """Values per image of the input that drives it."""

    num_outputs: int = 0
    """Values per image of its output."""

    @property
    def is_spike_driven(self) -> bool:
        """True if spikes of some site drive it."""
        return bool(self.sources)


@dataclass(frozen=True, repr=False)
class OperationCount:
    """Result of counting one operation in a simulation."""

    operation: Operation
    """The operation."""

    acs_per_step: Tensor
    """int64 [T], accumulations of each step, summed over all images; zeros if it is not spike-driven."""

    macs_per_step: Tensor | None = None
    """int64 [T], likewise multiply-accumulations, where they were counted. None: its dense MACs at every step if it is
    not spike-driven, otherwise none."""

    acs_by_source: tuple[int, ...] | None = None
    """Accumulations that the spikes of each of the operation's `sources` have driven, over all steps and images; None
    where they were counted together."""

    def __repr__(self) -> str:
        macs = "" if self.macs_per_step is None else f", {int(self.macs_per_step.sum()):,} MACs"
        return f"OperationCount({self.operation.name}, {int(self.acs_per_step.sum()):,} ACs{macs})"


@dataclass(frozen=True)
class Trace:
    """Operations of a network."""

    operations: tuple[Operation, ...]
    """In the order in which they run."""

    uncounted: tuple[str, ...]
    """Calls whose cost is not known: linear maps that are functions, and functions without a price."""

    sites: tuple[str, ...] = ()
    """Sites that the image has reached."""

    functions: tuple[Function, ...] = ()
    """Functions between the sites, in the order in which they run."""

    fan_outs: FanOuts = field(default_factory=dict, repr=False)
    """Of the operations that spikes drive, for images of the size of the traced one."""

    input_values: int = 0
    """Values of one image."""


def trace_operations(
    network: nn.Module,
    image: Tensor,
    *,
    is_static: bool = True,
    any_function: bool = False,
    counts_changes: bool = False,
    is_examined: bool = False,
) -> Trace:
    """Run one image for one step and note each operation, its size and what drives it.

    Args:
        network: a converted network.
        image: [1, ...], any image of the right shape.
        is_static: True if the network will see the same image at every step.
        any_function: True if its coding carries any function.
        counts_changes: True if changes of either operand drive a product.
        is_examined: see `trace_dataflow`.

    Returns:
        The operations. A BatchNorm that folds into a linear map before it is not listed.

    Raises:
        ConversionError: something on the image's way cannot be carried by spikes.
    """
    flow = trace_dataflow(
        network, image, _OPERATIONS, is_static=is_static, any_function=any_function, is_examined=is_examined
    )
    if flow.obstacles:
        raise ConversionError(tuple(flow.obstacles))
    thresholds = {m.site: m.threshold for m in network.modules() if isinstance(m, SpikingNeuron)}
    found: dict[str, Operation] = {}
    calls: dict[str, list[tuple[str, Call]]] = {}
    fan_outs: FanOuts = {}
    for call in _without_parts(flow.calls):
        if call.path in flow.free_norms or not any(call.flows):
            continue  # what depends on no image is a constant of the network
        streams = _streams(call)
        operation = _with_sizes(_describe(call, flow.image, streams), call)
        if not streams[0] and operation.pooled > 1 and not _can_be_counted(operation, call, thresholds):
            operation = replace(operation, sources=(), pooled=1, operands=())
        number = 1 + sum(earlier.module == call.path for earlier in found.values())
        if number > 1:
            operation = replace(operation, name=f"{call.path} ({number})", call_number=number)
        if counts_changes and operation.kind == "product":
            sites = {site for operand in operation.operands for site in operand}
            operation = replace(operation, sources=tuple(sorted(sites)))
        found[operation.name] = operation
        fan_outs[operation.name] = _fan_outs(call, operation, streams, flow)
        calls.setdefault(call.path, []).append((operation.name, call))
    functions, unknown = describe_functions(flow.functions, calls)
    lost: tuple[str, ...] = ()
    if counts_changes:
        functions, lost = with_batch_axes(functions, network, image)
    uncounted = tuple(dict.fromkeys([*flow.uncounted, *unknown, *lost]))
    return Trace(tuple(found.values()), uncounted, tuple(flow.depths), functions, fan_outs, image.numel())


def _with_sizes(operation: Operation, call: Call) -> Operation:
    """The operation with the sizes of what it reads and writes."""
    driving = min(operation.driving_input, len(call.inputs) - 1)
    own = [getattr(call.module, name, None) for name in ("weight", "bias")]
    weights = sum(each.numel() for each in own if isinstance(each, Tensor))
    if len(call.inputs) > 1:  # the other operand, or the weights of a function
        weights = call.inputs[1 - driving].numel()
    inputs, outputs = call.inputs[driving].numel(), call.output.numel()
    return replace(operation, num_weights=weights, num_inputs=inputs, num_outputs=outputs)


def _streams(call: Call) -> tuple[Stream | None, ...]:
    """The sums of spikes through constants that an operation reads, for each of its inputs."""
    if isinstance(call.module, ActivationProduct):  # no weight could hold a constant that differs from place to place
        return tuple(None if stream is None or stream.is_scaled else stream for stream in call.streams)
    if isinstance(call.module, nn.LayerNorm | nn.Softmax):
        return (None,) * len(call.streams)
    return call.streams


def _fan_outs(
    call: Call, operation: Operation, streams: tuple[Stream | None, ...], flow: Dataflow
) -> tuple[FanOut, ...]:
    assert flow.streams is not None
    found: list[FanOut] = []
    for number, (stream, sites) in enumerate(zip(streams, operation.operands, strict=False)):
        if stream is None or not sites:
            found.append({})
            continue
        reached = outputs_reached(call.module, number, call.inputs, operation.output_places, operation.padding)
        found.append(flow.streams.fan_out(stream, reached))
    return tuple(found)


def _without_parts(calls: list[Call]) -> list[Call]:
    """The calls but for those of maps of a subclass whose forward multiplies several times, by modules of its own."""
    parts = (LinearFunction, ConvolutionFunction, ActivationProduct)
    makers = {call.path.rsplit(".", 2)[0] for call in calls if isinstance(call.module, parts)}
    maps = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
    return [call for call in calls if not (isinstance(call.module, maps) and call.path in makers)]


def _can_be_counted(operation: Operation, call: Call, thresholds: dict[str, Tensor]) -> bool:
    """True if an averaged value determines the number of its spikes: they must all have had one known size."""
    if len(operation.sources) != 1:
        return False
    threshold = thresholds[operation.sources[0]]
    return threshold.numel() == 1 or threshold.numel() == call.inputs[0].shape[1]


def _describe(call: Call, image: Tensor | None, streams: tuple[Stream | None, ...]) -> Operation:
    """The operation that a module performs on one image."""
    module, numel = call.module, call.output.numel()
    operands = tuple(
        tuple(sorted(stream.sites if stream else flow.spikes_of if flow else ()))
        for stream, flow in zip(streams, call.flows, strict=True)
    )
    if isinstance(module, ActivationProduct):
        return _describe_product(call, operands, streams)
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        return _describe_convolution(call, module, operands, image)
    if isinstance(module, nn.Linear | LinearFunction):
        return Operation(
            name=call.path,
            kind="linear",
            sources=operands[0],
            dense_macs=numel * call.inputs[0].shape[-1],
            pooled=call.flows[0].pooled if call.flows[0] is not None else 1,
            module=call.path,
            operands=operands,
        )
    kind, macs = "batch_norm", BATCH_NORM_MACS_PER_ELEMENT
    if isinstance(module, nn.Softmax):
        kind, macs = "softmax", SOFTMAX_MACS_PER_ELEMENT
    elif isinstance(module, nn.LayerNorm):
        kind, macs = "layer_norm", LAYER_NORM_MACS_PER_ELEMENT
    sources = operands[0] if isinstance(module, _NORMS) and streams[0] else ()
    return Operation(call.path, kind, sources, numel * macs, module=call.path, operands=(sources,))


def _describe_convolution(
    call: Call, module: Convolution, operands: tuple[tuple[str, ...], ...], image: Tensor | None
) -> Operation:
    """A convolution. A subclass may pad inside. Where it does more than that, what a spike reaches is not known, so
    its input counts as analog."""
    is_transposed, read = isinstance(module, TRANSPOSED), call.inputs[0]
    actual = tuple(call.output.shape[2:])
    as_declared = actual == output_places(module, *read.shape[2:])
    is_own = type(module) in (*CONVOLUTIONS, *TRANSPOSED)
    padding = None if as_declared or is_own or is_transposed else padding_inside(module, read)  # type: ignore[arg-type]
    is_known = as_declared or is_own or padding is not None
    operands = operands if is_known else ((),) * len(operands)
    dense_macs = (read if is_transposed else call.output).numel() * weights_per_place(module)
    return Operation(
        name=call.path,
        kind="convolution",
        sources=operands[0],
        dense_macs=dense_macs,
        pooled=call.flows[0].pooled if call.flows[0] is not None and is_known else 1,
        module=call.path,
        reads_input=type(module) in CONVOLUTIONS and not operands[0] and _is_same(read, image),
        operands=operands,
        output_places=actual if is_transposed and is_known and not as_declared else (),
        padding=padding,
        mean_fan_out=None if is_known else dense_macs / read.numel(),
    )


def _describe_product(
    call: Call, operands: tuple[tuple[str, ...], ...], streams: tuple[Stream | None, ...]
) -> Operation:
    """A product of activations. The values of an average tell the number of its spikes for linear maps only."""
    given = zip(operands, call.flows, streams, strict=True)
    operands = tuple(sites if stream or flow is None or flow.pooled == 1 else () for sites, flow, stream in given)
    return Operation(
        name=call.path,
        kind="product",
        sources=operands[0] or operands[1],
        dense_macs=call.output.numel() * call.inputs[0].shape[-1],
        driving_input=0 if operands[0] else 1,
        module=call.path,
        operands=operands,
        constant_operands=tuple(number for number, flow in enumerate(call.flows) if flow is None),
    )


def _is_same(x: Tensor, image: Tensor | None) -> bool:
    return image is not None and x.data_ptr() == image.data_ptr()
