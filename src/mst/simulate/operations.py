"""What each operation of a network costs: traced once for its structure, then recorded spike by spike.

An operation fed by spikes costs one accumulation (AC) per spike and output it reaches; one fed by analog values
costs its dense multiply-accumulations (MAC) at every step. Which of the two it is follows from where its input
comes from, not from what its values look like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.convert import Call, ConversionError, watch
from mst.models.layers import ActivationProduct
from mst.neurons import RunState, SpikingNeuron, count_spikes, current_run

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


# ----------------------------------------------------------------------------------------------- recorder


class OperationRecorder:
    """Counts the accumulations of the spike-driven operations of one simulation.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in it.
        num_steps: T.
        count_input: count the MACs of convolutions that read the image, one for each value that is not 0 and output it
            reaches, instead of taking all.
    """

    def __init__(
        self, network: nn.Module, operations: tuple[Operation, ...], num_steps: int, count_input: bool = False
    ) -> None:
        self._operations = {op.name: op for op in operations}
        self._of_input = {op.name for op in operations if op.reads_input and count_input}
        counted = [op for op in operations if op.is_spike_driven or op.name in self._of_input]
        self._modules = {op.module: network.get_submodule(op.module) for op in counted}
        self._names = {(op.module, op.call_number): op.name for op in counted}
        self._calls: Counter[str] = Counter()
        self._step = -1
        self._num_steps = num_steps
        self._acs: dict[
            str, Tensor
        ] = {}  # MACs, of the input's; on the device of the spikes, so that counting never waits for it
        self._run: RunState | None = None
        self._fan_out: dict[tuple[str, tuple[int, ...]], Tensor | int] = {}
        self._thresholds = {m.site: m.threshold for m in network.modules() if isinstance(m, SpikingNeuron)}

    @contextmanager
    def recording(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run; other runs of the same network are not counted here."""
        self._run = run
        self._step = -1
        handles = [m.register_forward_pre_hook(self._hook(path), with_kwargs=True) for path, m in self._modules.items()]
        try:
            yield
        finally:
            self._run = None
            for handle in handles:
                handle.remove()

    def counts(self) -> tuple[OperationCount, ...]:
        """What has been recorded, one entry per traced operation."""
        none = torch.zeros(self._num_steps, dtype=torch.int64)
        return tuple(
            OperationCount(op, none, self._acs.get(op.name, none).cpu()) if op.name in self._of_input
            else OperationCount(op, self._acs.get(op.name, none).cpu())
            for op in self._operations.values()
        )  # fmt: skip

    def _hook(self, path: str) -> Callable[..., None]:
        # In another thread that runs the same network, torch may call a hook that is just being registered or removed
        # without the keywords that it asked for.
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor] | None = None) -> None:
            run = self._run
            if run is None or current_run() is not run or kwargs is None:
                return
            if run.step != self._step:  # another pass through the network begins
                self._step = run.step
                self._calls.clear()
            self._calls[path] += 1
            name = self._names.get((path, self._calls[path]))
            if name is None:  # this call is fed by analog values
                return
            inputs = (*args, *kwargs.values())
            acs = self._accumulations(name, module, inputs, run)
            if name not in self._acs:
                self._acs[name] = torch.zeros(self._num_steps, dtype=torch.int64, device=acs.device)
            self._acs[name][run.step : run.step + run.steps_in_chunk] += acs

        return hook

    def _accumulations(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], run: RunState) -> Tensor:
        """ACs of each step in the chunk: spikes that arrive, times the outputs that each of them reaches."""
        if isinstance(module, ActivationProduct):
            left, right = inputs
            if self._operations[name].driving_input == 0:
                reached = right.shape[-2] if module.transpose_right else right.shape[-1]
                return _spikes_per_step(left, run) * reached
            return _spikes_per_step(right, run) * left.shape[-2]
        spikes = self._arriving(inputs[0], self._operations[name])
        if isinstance(module, nn.Linear):
            return _sum_per_step(spikes, run) * module.out_features
        assert isinstance(module, CONVOLUTIONS)
        places = spikes.shape[2:]
        key = (name, tuple(places))
        if key not in self._fan_out:
            self._fan_out[key] = conv_fan_out(module, *places)
        fan_out = self._fan_out[key]
        if isinstance(fan_out, int):
            return _sum_per_step(spikes, run) * fan_out
        by_place = spikes.reshape(run.steps_in_chunk, -1, *places).sum(dim=1, dtype=torch.int64)
        return (by_place * fan_out.to(spikes.device)).flatten(1).sum(dim=1)

    def _arriving(self, x: Tensor, operation: Operation) -> Tensor:
        """How many spikes each value of x stands for: 0 or 1, or a count where an average has added them up."""
        if operation.pooled == 1:
            return x != 0
        (site,) = operation.sources
        threshold = self._thresholds[site]
        if threshold.numel() > 1:
            threshold = threshold.reshape(-1, *[1] * (x.dim() - 2))  # of one channel each, on axis 1
        return (x * (operation.pooled / threshold)).round_()


def _sum_per_step(spikes: Tensor, run: RunState) -> Tensor:
    """int64 [T]: spikes of each step, given as flags or counts [T*B*k, ...]."""
    if spikes.dtype == torch.bool:
        return _spikes_per_step(spikes, run)
    return spikes.reshape(run.steps_in_chunk, -1).sum(dim=1, dtype=torch.float64).round().to(torch.int64)


def _spikes_per_step(x: Tensor, run: RunState) -> Tensor:
    """int64 [T]: non-zero entries of each step of x [T*B*k, ...]."""
    return count_spikes(x.reshape(run.steps_in_chunk, run.batch_size, -1))


def conv_fan_out(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, *places: int) -> Tensor | int:
    """Outputs that a spike at each place reaches: int64 [length], [height, width] or [depth, height, width], or one
    number if all are equal.

    At a border a kernel reaches fewer outputs; a stride above the kernel leaves places that reach none.
    """
    weight = torch.ones(1, 1, *conv.kernel_size, dtype=torch.float64)
    image = torch.zeros(1, 1, *places, dtype=torch.float64, requires_grad=True)
    padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(places) - 1]
    with torch.enable_grad():
        reached = convolve(image, weight, stride=conv.stride, padding=padding, dilation=conv.dilation).sum()
        (windows,) = torch.autograd.grad(reached, image)  # d(sum of outputs)/d(place) = windows that see it
    fan_out = (windows[0, 0] * (conv.out_channels // conv.groups)).round().to(torch.int64)
    first = int(fan_out.flatten()[0])
    return first if bool((fan_out == first).all()) else fan_out
