"""What each operation of a network costs: traced once for its structure, then recorded spike by spike.

An operation fed by spikes costs one accumulation (AC) per spike and output it reaches; one fed by analog values
costs its dense multiply-accumulations (MAC) at every step. Which of the two it is follows from where its input
comes from, not from what its values look like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.models.layers import ActivationProduct
from mst.neurons import IFNeuron, RunState, count_spikes, current_run, running

SOFTMAX_MACS_PER_ELEMENT = 3
"""exp (a table with linear interpolation), running sum, multiplication by the reciprocal: one MAC each."""

LAYER_NORM_MACS_PER_ELEMENT = 3
"""mean and variance, normalisation, affine map: one MAC each."""

BATCH_NORM_MACS_PER_ELEMENT = 1
"""One multiply-add in evaluation; none where it follows a linear map, into whose weights it folds."""

_LAYOUT_ONLY = frozenset({
    "view", "reshape", "permute", "transpose", "contiguous", "flatten", "unflatten", "roll", "unbind", "split",
    "chunk", "squeeze", "unsqueeze", "view_as", "reshape_as", "expand", "expand_as", "cat", "concat", "stack",
    "pad", "__getitem__", "to", "clone", "detach", "narrow", "select", "movedim", "swapaxes", "index_select",
    "flip", "dropout", "max_pool2d", "float", "double", "half", "bfloat16", "type_as",
})  # fmt: skip
"""Functions that move values without computing new ones: spikes stay spikes through them."""


@dataclass(frozen=True)
class Operation:
    """One operation of the network, as the trace found it.

    name: module path.  kind: "linear", "convolution", "product", "batch_norm", "layer_norm" or "softmax".
    sources: sites whose spikes drive it; empty if its input is analog.
    dense_macs: MACs per image and step if every input counts; also what the ANN spends on an image.
    driving_input: which operand the spikes come in by; 1 for the right operand of a product.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    dense_macs: int
    driving_input: int = 0

    @property
    def is_spike_driven(self) -> bool:
        return bool(self.sources)


@dataclass(frozen=True)
class OperationCount:
    """What an operation did in a simulation.

    acs_per_step: accumulations of each step, summed over all images, int64 [T]; zeros if not spike-driven.
    """

    operation: Operation
    acs_per_step: Tensor


# ------------------------------------------------------------------------------------------------ trace


class _OriginMode(TorchFunctionMode):
    """While active, remembers which tensors are spikes (of which sites) and which are outputs of a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[int, frozenset[str]] = {}
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _LAYOUT_ONLY:
            inputs = [a for a in _flat(args) if isinstance(a, Tensor) and a.is_floating_point()]
            origins = [self.of(a) for a in inputs]
            linear = [origin == _LINEAR_OUTPUT for origin in origins]
            if origins and all(origins) and all(linear) == any(linear):
                for out in _flat((result,)):
                    if isinstance(out, Tensor):
                        self.mark(out, frozenset().union(*origins))
        return result

    def of(self, tensor: Tensor) -> frozenset[str]:
        return self._origins.get(id(tensor), frozenset())

    def mark(self, tensor: Tensor, origin: frozenset[str]) -> None:
        self._origins[id(tensor)] = origin
        self._keep.append(tensor)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value


_LINEAR_OUTPUT = frozenset({"<linear output>"})


def trace_operations(network: nn.Module, image: Tensor) -> tuple[Operation, ...]:
    """Run one image for one step and note each operation, its size and what drives it.

    Args:
        network: a converted network (of `IFNeuron`s).
        image: [1, ...], any image of the right shape.

    Returns:
        The operations in the order in which they run. A BatchNorm that folds into a linear map before it is not
        listed.
    """
    found: dict[str, Operation] = {}
    mode = _OriginMode()
    run = RunState(seed=0, batch_size=1)

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if current_run() is not run:  # another thread runs the same network
                return
            if isinstance(module, IFNeuron):
                mode.mark(output, frozenset({module.site}))
                return
            origins = [mode.of(x) for x in inputs]
            if isinstance(module, nn.Linear | nn.Conv2d):
                mode.mark(output, _LINEAR_OUTPUT)
            operation = _describe(name, module, inputs, output, origins)
            if operation is not None:
                before = found.get(name)
                macs = operation.dense_macs + (before.dense_macs if before else 0)
                found[name] = replace(operation, dense_macs=macs)

        return hook

    handles = [m.register_forward_hook(note(n)) for n, m in network.named_modules() if _is_traced(m)]
    try:
        with torch.no_grad(), running(run), mode:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_OPERATIONS = (nn.Linear, nn.Conv2d, ActivationProduct, nn.LayerNorm, nn.Softmax, *_NORMS)


def _is_traced(module: nn.Module) -> bool:
    return isinstance(module, (*_OPERATIONS, IFNeuron))


def _describe(
    name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, origins: list[frozenset[str]]
) -> Operation | None:
    """The operation that `module` performs on one image, or None if it costs nothing of its own."""
    spikes = [tuple(sorted(o)) if o != _LINEAR_OUTPUT else () for o in origins]
    if isinstance(module, nn.Linear):
        return Operation(name, "linear", spikes[0], output.numel() * module.in_features)
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        return Operation(name, "convolution", spikes[0], output.numel() * fan_in)
    if isinstance(module, ActivationProduct):
        macs = output.numel() * inputs[0].shape[-1]
        return Operation(name, "product", spikes[0] or spikes[1], macs, driving_input=0 if spikes[0] else 1)
    if isinstance(module, nn.Softmax):
        return Operation(name, "softmax", (), output.numel() * SOFTMAX_MACS_PER_ELEMENT)
    if isinstance(module, nn.LayerNorm):
        return Operation(name, "layer_norm", (), output.numel() * LAYER_NORM_MACS_PER_ELEMENT)
    if origins[0] == _LINEAR_OUTPUT:
        return None
    return Operation(name, "batch_norm", (), output.numel() * BATCH_NORM_MACS_PER_ELEMENT)


# ----------------------------------------------------------------------------------------------- recorder


class OperationRecorder:
    """Counts the accumulations of the spike-driven operations of one simulation.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in it.
        num_steps: T.
    """

    def __init__(self, network: nn.Module, operations: tuple[Operation, ...], num_steps: int) -> None:
        self._operations = {op.name: op for op in operations}
        self._modules = {op.name: network.get_submodule(op.name) for op in operations if op.is_spike_driven}
        self._num_steps = num_steps
        self._acs: dict[str, Tensor] = {}  # on the device of the spikes, so that counting never waits for it
        self._run: RunState | None = None
        self._fan_out: dict[tuple[str, tuple[int, ...]], Tensor | int] = {}

    @contextmanager
    def recording(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run; other runs of the same network are not counted here."""
        self._run = run
        handles = [m.register_forward_pre_hook(self._hook(name)) for name, m in self._modules.items()]
        try:
            yield
        finally:
            self._run = None
            for handle in handles:
                handle.remove()

    def counts(self) -> tuple[OperationCount, ...]:
        """What has been recorded, one entry per traced operation."""
        none = torch.zeros(self._num_steps, dtype=torch.int64)
        return tuple(OperationCount(op, self._acs.get(op.name, none).cpu()) for op in self._operations.values())

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            run = self._run
            if run is None or current_run() is not run:
                return
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
        x = inputs[0]
        if isinstance(module, nn.Linear):
            return _spikes_per_step(x, run) * module.out_features
        assert isinstance(module, nn.Conv2d)
        key = (name, tuple(x.shape[1:]))
        if key not in self._fan_out:
            self._fan_out[key] = conv_fan_out(module, x.shape[-2], x.shape[-1])
        fan_out = self._fan_out[key]
        if isinstance(fan_out, int):
            return _spikes_per_step(x, run) * fan_out
        by_place = (x != 0).view(run.steps_in_chunk, -1, *x.shape[-2:]).sum(dim=1)  # int64 [T, height, width]
        return (by_place * fan_out.to(x.device)).sum(dim=(1, 2))


def _spikes_per_step(x: Tensor, run: RunState) -> Tensor:
    """int64 [T]: non-zero entries of each step of x [T*B*k, ...]."""
    return count_spikes(x.reshape(run.steps_in_chunk, run.batch_size, -1))


def conv_fan_out(conv: nn.Conv2d, height: int, width: int) -> Tensor | int:
    """Outputs that a spike at each place reaches: int64 [height, width], or one number if all are equal.

    At a border a kernel reaches fewer outputs; a stride above the kernel leaves places that reach none.
    """
    weight = torch.ones(1, 1, *conv.kernel_size, dtype=torch.float64)
    image = torch.zeros(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
    with torch.enable_grad():
        reached = F.conv2d(image, weight, stride=conv.stride, padding=padding, dilation=conv.dilation).sum()
        (windows,) = torch.autograd.grad(reached, image)  # d(sum of outputs)/d(place) = windows that see it
    fan_out = (windows[0, 0] * (conv.out_channels // conv.groups)).round().to(torch.int64)
    first = int(fan_out.flatten()[0])
    return (
        first if math.prod(fan_out.shape) * first == int(fan_out.sum()) and bool((fan_out == first).all()) else fan_out
    )
