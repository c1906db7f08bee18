"""One image through a network, function by function: what comes from which neuron, and what no neuron can follow.

A function mode sees every torch function, also those inside modules that it knows nothing of. What moves values (views,
concatenations) keeps spikes spikes; linear maps, averages and constants keep the mean over time; everything else does
not, and is an obstacle to rate coding unless it is known to be none. Lossless coding carries any function; there the
same places are noted as analog.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.models import ActivationProduct, TokenBatchNorm
from mst.neurons import SpikingMaxPool, SpikingNeuron, begin_run, current_run, running

LAYOUT = frozenset({
    "view", "reshape", "permute", "transpose", "contiguous", "flatten", "unflatten", "roll", "unbind", "split",
    "chunk", "squeeze", "unsqueeze", "view_as", "reshape_as", "expand", "expand_as", "cat", "concat", "stack",
    "pad", "getitem", "to", "clone", "detach", "narrow", "select", "movedim", "swapaxes", "index_select", "gather",
    "flip", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "float", "double",
    "half", "bfloat16", "type_as", "get", "repeat", "repeat_interleave", "tile", "moveaxis", "swapdims",
    "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "t", "adjoint", "unfold", "hsplit", "vsplit", "tensor_split",
    "rot90", "take_along_dim", "constant_pad_nd", "setitem", "copy", "type", "as_subclass", "requires_grad",
    "alias", "cpu", "cuda",
})  # fmt: skip
"""Functions that move values without computing new ones: spikes stay spikes through them."""

LINEAR_MAPS = frozenset({
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "matmul", "mm",
    "bmm", "baddbmm", "addmm", "einsum", "rmatmul", "bilinear", "mv", "tensordot",
})  # fmt: skip
"""Linear as long as one operand only depends on the image."""

_ELEMENTWISE = frozenset({
    "add", "sub", "rsub", "neg", "mul", "div", "true_divide", "multiply", "radd", "rmul", "lerp", "addcmul", "sum",
    "mean", "cumsum", "batch_norm", "interpolate", "upsample", "fold", "iadd", "isub", "imul", "itruediv", "truediv",
})  # fmt: skip
_POOLS = frozenset(f"{kind}avg_pool{dims}d" for kind in ("", "adaptive_") for dims in (1, 2, 3))
_SUMS = frozenset({"add", "sub", "rsub", "radd", "iadd", "isub", "neg"})
_MAX_POOLS = frozenset({"max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d"})
_NORMS = frozenset({"layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"})
_CONSTANTS = frozenset({
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "new_zeros", "new_ones", "new_empty", "new_full",
    "new_tensor",
})  # fmt: skip
_DIVISION = ("division by an activation", "leave it out, or divide by a constant")
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"})
_ATTENTION = frozenset({"scaled_dot_product_attention", "multi_head_attention_forward", "_native_multi_head_attention"})

OPAQUE = (SpikingNeuron, SpikingMaxPool, ActivationProduct, TokenBatchNorm)
"""Modules of ours whose inside is no concern of the watcher."""


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor that depends on the image.

    spikes_of: the sites whose spikes it holds; empty if it holds anything else.
    pooled: how many inputs were averaged into one since they were spikes.
    since_map: ids of the tensors on its way since a linear map, of which only the layout changed; empty if it comes
    from no map.  made_by: path of the module whose very output it is.
    is_static: whether it is the same at every step, no neuron having had a part in it.
    awaiting: what on its way since the last neuron does not keep the mean over time, as (path, function).
    depth: sites in the longest chain that leads to it.
    """

    spikes_of: frozenset[str] = frozenset()
    pooled: int = 1
    since_map: tuple[int, ...] = ()
    made_by: str = ""
    is_static: bool = True
    awaiting: frozenset[tuple[str, str]] = frozenset()
    depth: int = 0


@dataclass(frozen=True)
class Obstacle:
    """A place that the coding cannot carry. where: module path.  remedy: what to do about it."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where or '(the network itself)'}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Call:
    """A module that ran. flows: one for each tensor among its inputs, None where it does not depend on the image."""

    path: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor
    flows: tuple[Flow | None, ...]


@dataclass
class Dataflow:
    """What `watch` saw.

    obstacles: all places that the coding cannot carry.  analog: with any_function, those that only rate coding cannot.
    max_pools: where a max-pool over spikes is a function.  depths: sites before each site in the longest chain.
    uncounted: linear maps and softmaxes that are functions rather than modules, as "path (function)".
    foldable: BatchNorm -> the linear map whose output it alone reads.  free_norms: BatchNorms that a linear map before
    them could take in, though its output's layout may change on the way.  calls: in the order in which they ended.
    image: what the network was shown.
    """

    obstacles: list[Obstacle] = field(default_factory=list)
    analog: list[Obstacle] = field(default_factory=list)
    max_pools: list[str] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    foldable: dict[str, str] = field(default_factory=dict)
    free_norms: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    image: Tensor | None = None


def watch(
    network: nn.Module,
    image: Tensor,
    counted: tuple[type[nn.Module], ...] = (),
    activations: tuple[type[nn.Module], ...] = (),
    is_static: bool = True,
    any_function: bool = False,
) -> Dataflow:
    """Run one image for one step through a converted network and note what happens to it.

    Args:
        network: of spiking neurons.
        image: [1, ...].
        counted: module classes whose calls are wanted.
        activations: module classes that are obstacles wherever they act. Other functions are none before the first
            neuron, where all is the same at every step.
        is_static: whether the image will be the same at every step.
        any_function: whether the coding carries functions that do not keep the mean over time, as lossless coding does.
    """
    watcher = _Watcher(network, counted, activations, any_function)
    return watcher.run(image, is_static)


class _Watcher(TorchFunctionMode):
    """While active, knows the flow of every tensor that depends on the image."""

    def __init__(
        self,
        network: nn.Module,
        counted: tuple[type[nn.Module], ...],
        activations: tuple[type[nn.Module], ...],
        any_function: bool,
    ) -> None:
        super().__init__()
        self._network, self._counted, self._activations = network, counted, activations
        self._any_function = any_function
        self.seen = Dataflow()
        self._flows: dict[int, Flow] = {}
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives
        self._readers: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._normalised: dict[str, tuple[Flow, nn.Module, Tensor]] = {}
        self._stack: list[tuple[str, nn.Module]] = []
        self._inside_opaque = 0
        self._state = begin_run(network, batch_size=1)

    def run(self, image: Tensor, is_static: bool) -> Dataflow:
        """See `watch`."""
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))
        image = self.seen.image = image.detach().clone()
        self._mark(image, Flow(is_static=is_static))
        try:
            with torch.no_grad(), running(self._state), self:
                output = self._network(image)
            self._expect_flow("", "the output", _tensors((output,)))
        finally:
            for handle in handles:
                handle.remove()
        for norm, (flow, module, read) in self._normalised.items():
            if self._calls[norm] == 1 and flow.since_map and all(self._readers[each] == 1 for each in flow.since_map):
                self.seen.free_norms.add(norm)
                # BatchNorm1d over [B, N, C] normalises by token, which no weight of a linear map can do.
                by_channel = isinstance(module, TokenBatchNorm) or not (
                    isinstance(module, nn.BatchNorm1d)
                    and isinstance(self._network.get_submodule(flow.made_by), nn.Linear)
                    and read.dim() != 2
                )
                if flow.made_by and self._calls[flow.made_by] == 1 and by_channel:
                    self.seen.foldable[norm] = flow.made_by
        return self.seen

    # ------------------------------------------------------------------------------------ modules

    def _before(self, path: str) -> Callable[..., None]:
        # In another thread that runs the same network, torch may call a hook that is just being registered or removed
        # without the keywords that it asked for.
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            if current_run() is not self._state or kwargs is None:
                return
            inputs = tuple(_tensors((*args, *kwargs.values())))
            self._stack.append((path, module))
            self._calls[path] += 1
            if isinstance(module, OPAQUE):
                self._read(inputs)
                self._inside_opaque += 1
            if isinstance(module, (SpikingNeuron, SpikingMaxPool, *self._counted)):
                self._expect_flow(path, "its input", inputs[:1])
            if isinstance(module, SpikingNeuron):
                self._enter_neuron(path, module, inputs)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm) and inputs:
                flow = self._flows.get(id(inputs[0]))
                if flow is not None:
                    self._normalised[path] = (flow, module, inputs[0])
                if module.running_mean is None and flow is not None and not flow.is_static:
                    self._refuse(
                        path, "BatchNorm without running statistics mixes images and steps",
                        "let it track its statistics (track_running_stats=True), and train",
                    )  # fmt: skip

        return hook

    def _expect_flow(self, where: str, what: str, tensors: Iterable[Tensor]) -> None:
        """What depends on no image can only come from code that torch does not show."""
        if any(id(tensor) not in self._flows for tensor in tensors):
            self._refuse(
                where, f"{what} was made by code that torch does not show, or depends on no image",
                "write scripted or compiled functions, and in-place writes into views, as plain torch functions",
            )  # fmt: skip

    def _enter_neuron(self, path: str, neuron: SpikingNeuron, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            flow = self._flows.get(id(tensor), Flow())
            self.seen.depths[neuron.site] = flow.depth
            for where, what in sorted(flow.awaiting):
                self._object(
                    where, f"{what} before the neuron {neuron.site}",
                    "put a BatchNorm there, whose statistics are constants, or train without it",
                )  # fmt: skip
        if neuron.site in self._state.visited_sites:
            self._refuse(path, "used several times in one pass", "give each use a QCFS of its own")
            self._state.forget(neuron.site)

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> None:
            if current_run() is not self._state:
                return
            kwargs, output = keywords_and_output
            self._stack.pop()
            inputs = tuple(_tensors((*args, *kwargs.values())))
            flows = tuple(self._flows.get(id(x)) for x in inputs)
            if isinstance(module, OPAQUE):
                self._inside_opaque -= 1
                self._mark(output, self._from_opaque(module, [flow for flow in flows if flow is not None]))
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                flow = self._flows.get(id(output))
                if flow is not None:
                    self._mark(output, replace(flow, made_by=path))
            if isinstance(module, self._counted):
                self.seen.calls.append(Call(path, module, inputs, output, flows))

        return hook

    def _from_opaque(self, module: nn.Module, flows: list[Flow]) -> Flow:
        if isinstance(module, SpikingNeuron):
            return Flow(spikes_of=frozenset({module.site}), is_static=False, depth=1 + _deepest(flows))
        if isinstance(module, SpikingMaxPool):
            return replace(_moved(flows), since_map=())
        return _computed(flows)

    # ---------------------------------------------------------------------------------- functions

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [] if self._inside_opaque else list(_tensors((*args, *kwargs.values())))
        flows = [flow for flow in (self._flows.get(id(x)) for x in inputs) if flow is not None]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).strip("_").removesuffix("_")
        outputs = inputs[:1] if name == "setitem" else list(_tensors((result,)))
        if current_run() is not self._state or not flows or not outputs:
            return result
        self._read(inputs)
        flow = self._through(name, flows, args, kwargs, outputs[0])
        if flow is not None:
            for out in outputs:
                self._mark(out, flow)
        return result

    def _through(
        self, name: str, flows: list[Flow], args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Flow | None:
        """The flow of what function `name` makes of `flows`."""
        where, module = self._stack[-1] if self._stack else ("", self._network)
        if name in _CONSTANTS:
            return None
        if name in LAYOUT:
            return _moved(flows)
        if name in _POOLS or (name == "mean" and flows[0].spikes_of):
            source = next(_tensors((*args, *kwargs.values())))
            return _averaged(name, flows[0], source, output, args, kwargs)
        is_static = all(flow.is_static for flow in flows)  # what is the same at every step may be anything
        if name in LINEAR_MAPS or name in _ELEMENTWISE:
            changing = sum(not flow.is_static for flow in flows)  # a factor that is the same at every step is a weight
            if changing > 1 and name not in _SUMS:
                self._object(
                    where, f"{name} of two activations",
                    "leave a gate (squeeze-and-excitation) out; make a matrix product an mst.ActivationProduct",
                )  # fmt: skip
            elif (
                name in ("div", "true_divide", "truediv")
                and not self._flows.get(id(args[1] if len(args) > 1 else kwargs.get("other")), Flow()).is_static
            ):
                self._object(where, *_DIVISION)
            if name in LINEAR_MAPS and not isinstance(module, self._counted or (nn.Module,)):
                self.seen.uncounted.append(f"{where or '(the network itself)'} ({name})")
            return replace(_computed(flows), since_map=(0,) if name in LINEAR_MAPS else ())
        if name in _MAX_POOLS:
            if not is_static:
                self.seen.max_pools.append(where)
            return replace(_moved(flows), since_map=())
        if name in ("softmax", "_softmax"):
            if self._counted and not isinstance(module, self._counted):
                self.seen.uncounted.append(f"{where or '(the network itself)'} (softmax)")
            return _computed(flows)
        if name in _NORMS:
            if self._counted and not isinstance(module, self._counted):
                self.seen.uncounted.append(f"{where or '(the network itself)'} ({name})")
            flow = _computed(flows)
            return flow if is_static else replace(flow, awaiting=flow.awaiting | {(where, name)})
        if self._counted and name in _ATTENTION | _RECURRENT:
            self.seen.uncounted.append(f"{where or '(the network itself)'} ({name})")
        if not is_static or isinstance(module, self._activations):
            self._object(where, *(_DIVISION if name in ("rdiv", "rtruediv", "reciprocal") else _explain(name, module)))
        return _computed(flows)

    def _refuse(self, where: str, what: str, remedy: str) -> None:
        obstacle = Obstacle(where, what, remedy)
        if obstacle not in self.seen.obstacles:
            self.seen.obstacles.append(obstacle)

    def _object(self, where: str, what: str, remedy: str) -> None:
        """Refuse a function of running activations, which only a coding by changes can carry."""
        if not self._any_function:
            self._refuse(where, what, remedy)
        elif all(where != known.where or what != known.what for known in self.seen.analog):
            self.seen.analog.append(Obstacle(where, what, remedy))

    def _read(self, tensors: Iterable[Tensor]) -> None:
        """Count a reader of each. Only of what has a flow: that is kept, while the id of another may be given anew."""
        self._readers.update(id(tensor) for tensor in tensors if id(tensor) in self._flows)

    def _mark(self, tensor: Tensor, flow: Flow) -> None:
        if flow.since_map:  # a map's mark stands for the map itself, the others for what its output became
            before = () if flow.since_map == (0,) else flow.since_map
            flow = replace(flow, since_map=before if id(tensor) in before else (*before, id(tensor)))
        self._flows[id(tensor)] = flow
        self._keep.append(tensor)


def _explain(name: str, module: nn.Module) -> tuple[str, str]:
    kind = type(module).__name__
    if name in _ATTENTION:
        return (
            f"{name} hides products of activations and a softmax in one function",
            "build it from nn.Softmax and mst.ActivationProduct, with mst.QCFS on the queries, keys and values",
        )
    if name in _RECURRENT:
        return f"{name} hides its activations in one function", "there is no remedy but another network"
    if name in ("sigmoid", "hardsigmoid"):
        return f"{name} has no spiking counterpart", "leave the gate out that it belongs to, and train"
    if kind.lower() == name or not list(module.children()):
        inside = "" if kind.lower() == name else f" in {kind}"
        remedy = f"replace it by QCFS, for example with mst.quantize(..., also=({kind},)), and train"
        return f"{name}{inside} has no spiking counterpart", remedy
    return (
        f"{name} in the forward of {kind} has no spiking counterpart",
        "make it a module of its own, so that mst.quantize can put a QCFS in its place, or leave it out",
    )


def _moved(flows: list[Flow]) -> Flow:
    """Values put in other places."""
    sites = [flow.spikes_of for flow in flows]
    factors = {flow.pooled for flow in flows}
    are_spikes = all(sites) and len(factors) == 1
    return Flow(
        spikes_of=frozenset().union(*sites) if are_spikes else frozenset(),
        pooled=factors.pop() if are_spikes else 1,
        since_map=flows[0].since_map if len(flows) == 1 else (),
        is_static=all(flow.is_static for flow in flows),
        awaiting=frozenset().union(*(flow.awaiting for flow in flows)),
        depth=_deepest(flows),
    )


def _deepest(flows: list[Flow]) -> int:
    return max((flow.depth for flow in flows), default=0)


def _computed(flows: list[Flow]) -> Flow:
    return Flow(
        is_static=all(flow.is_static for flow in flows),
        awaiting=frozenset().union(*(flow.awaiting for flow in flows)),
        depth=_deepest(flows),
    )


def _averaged(
    name: str, flow: Flow, source: Tensor, output: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Flow:
    """Averages add spikes up; how many inputs went into one, where that is the same everywhere."""
    factor = source.numel() // output.numel() if output.numel() else 0
    if name.startswith("avg_pool"):
        names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        given = dict(zip(names, args, strict=False)) | kwargs
        sizes = given["kernel_size"]
        dims = int(name[-2])
        factor = math.prod(sizes) if isinstance(sizes, tuple | list) else sizes**dims
        padded = given.get("padding", 0) not in (0, (0,) * dims, [0] * dims)
        if (
            given.get("divisor_override")
            or given.get("ceil_mode")
            or (padded and not given.get("count_include_pad", True))
        ):
            factor = 0
    elif name.startswith("adaptive"):
        dims = int(name[-2])
        if any(a % b for a, b in zip(source.shape[-dims:], output.shape[-dims:], strict=True)):
            factor = 0
    if not factor or not flow.spikes_of:
        return replace(_computed([flow]), since_map=flow.since_map)
    return replace(flow, pooled=flow.pooled * factor, made_by="")


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
