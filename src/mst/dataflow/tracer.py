"""One image through a network, function by function: what comes from which neuron, and what no neuron can follow.

A function mode sees every torch function, also those inside modules that it knows nothing of. What moves values (views,
concatenations) keeps spikes spikes; linear maps, averages and constants keep the mean over time; everything else does
not, and is an obstacle to a coding that carries means, unless it is known to be none. A coding that sends changes
carries any function; there the same places are noted as analog. Only what reaches a neuron or the output counts:
monitors and assertions are no obstacles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.models import ActivationProduct, TokenBatchNorm, draws_random_numbers, function_name, one_tensor_out
from mst.neurons import SpikingMaxPool, SpikingNeuron, begin_run, current_run, running

from . import remedies, tables
from .calls import by_batch_statistics, writes
from .doubts import Doubts
from .functions import FunctionCall, FunctionCalls
from .obstacles import THE_NETWORK, Obstacle
from .places import Place, Places
from .replay import Replay
from .streams import Streams
from .values import Call, Dataflow, Flow, averaged, computed, deepest, moved, tensors_in

OPAQUE = (SpikingNeuron, SpikingMaxPool, ActivationProduct, TokenBatchNorm)
"""Modules of this library whose inside the tracer leaves alone."""


def trace_dataflow(
    network: nn.Module,
    image: Tensor,
    counted: tuple[type[nn.Module], ...] = (),
    activations: tuple[type[nn.Module], ...] = (),
    *,
    is_static: bool = True,
    any_function: bool = False,
    is_examined: bool = False,
) -> Dataflow:
    """Run one image for one step through a converted network and note what happens to it.

    Args:
        network: a network of spiking neurons.
        image: [1, ...].
        counted: module classes whose calls are noted.
        activations: module classes that are obstacles wherever they act. Before the first neuron,
            where everything is the same at every step, other functions are allowed.
        is_static: True if the image will be the same at every step.
        any_function: True if the coding carries functions that do not keep the mean over time.
        is_examined: True if the network was traced before. Then it runs once; otherwise as often as it takes to find
            out what one pass leaves open, see `Doubts`.

    Returns:
        Obstacles, depths of the sites, BatchNorms that fold, calls. Obstacles are returned, not raised.

    Raises:
        InputError: the network does not return one tensor.
    """
    with torch.inference_mode(False):
        return _Tracer(network, counted, activations, any_function).run(image.detach().clone(), is_static, is_examined)


class _Tracer(TorchFunctionMode):
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
        overwritten: set[int] = set()  # addresses of memory that was written in place
        flows: dict[int, Flow] = {}
        self._overwritten, self._flows = overwritten, flows
        # Not a reference to the tracer, which would keep itself and all tensors until the garbage is collected.
        self._streams = Streams(lambda x: id(x) in flows or _address(x) in overwritten)
        self._seen = Dataflow(streams=self._streams)
        self._places = Places()
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives
        self._sharing: dict[int, list[Tensor]] = {}  # tensors with a flow, by the address of their memory
        self._readers: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._normalised: dict[str, tuple[Flow, nn.Module, Tensor]] = {}
        self._stack: list[tuple[str, nn.Module]] = []
        self._inside_opaque = 0
        self._doubts = Doubts(self._places)
        self._functions = FunctionCalls(self._places)
        self._run_state = begin_run(network, batch_size=1)

    def run(self, image: Tensor, is_static: bool, is_examined: bool) -> Dataflow:
        """See `trace_dataflow`."""
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))
        original = image.clone()  # the network may work in place
        self._seen.image = image
        self._mark(image, Flow(is_static=is_static))
        try:
            with torch.no_grad(), running(self._run_state), self:
                output = one_tensor_out(self._network(image), self._network)
            self._end(output)
        finally:
            for handle in handles:
                handle.remove()
        if not is_examined:
            self._doubts.settle(Replay(self._network, self._watched, OPAQUE), original, self._network, self._seen)
        self._places.report(self._seen, self._any_function)
        self._seen.functions = self._functions.used()
        self._note_norms()
        return self._seen

    def _end(self, output: Tensor) -> None:
        """The network has returned its output."""
        self._doubts.watch("", "the output", id(output) in self._flows)
        flow = self._flows.get(id(output), Flow())
        for number in flow.last:
            self._places[number].is_output = True
        self._places.use(flow.passed)
        self._functions.read("", [flow])

    def _note_norms(self) -> None:
        """BatchNorms that alone read a linear map."""
        for norm, (flow, module, read) in self._normalised.items():
            if self._calls[norm] != 1 or not flow.since_map or any(self._readers[at] != 1 for at in flow.since_map):
                continue
            self._seen.free_norms.add(norm)
            # BatchNorm1d over [B, N, C] normalises by token, which no weight of a linear map can do.
            by_channel = isinstance(module, TokenBatchNorm) or not (
                isinstance(module, nn.BatchNorm1d)
                and isinstance(self._network.get_submodule(flow.made_by), nn.Linear)
                and read.dim() != 2
            )
            if flow.made_by and self._calls[flow.made_by] == 1 and by_channel:
                self._seen.foldable[norm] = flow.made_by

    # ------------------------------------------------------------------------------------ modules

    @property
    def _watched(self) -> tuple[type[nn.Module], ...]:
        return (SpikingNeuron, SpikingMaxPool, *self._counted)

    def _before(self, path: str) -> Callable[..., None]:
        # In another thread that runs the same network, torch may call a hook that is just being registered or removed
        # without the keywords that it asked for.
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            if current_run() is not self._run_state or kwargs is None:
                return
            inputs = tuple(tensors_in((*args, *kwargs.values())))
            self._stack.append((path, module))
            self._calls[path] += 1
            if isinstance(module, OPAQUE):
                self._read(inputs)
                self._inside_opaque += 1
                reader = module.site if isinstance(module, SpikingNeuron) else ""
                self._functions.read(reader, [self._flows[id(x)] for x in inputs if id(x) in self._flows])
            if isinstance(module, self._watched):
                for tensor in inputs[:1]:
                    self._doubts.watch(path, "its input", id(tensor) in self._flows)
            if isinstance(module, SpikingNeuron):
                self._enter_neuron(path, module, inputs)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm) and inputs:
                flow = self._flows.get(id(inputs[0]))
                if flow is not None:
                    self._normalised[path] = (flow, module, inputs[0])

        return hook

    def _enter_neuron(self, path: str, neuron: SpikingNeuron, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            flow = self._flows.get(id(tensor), Flow())
            self._seen.depths[neuron.site] = flow.depth
            self._places.use(flow.passed)
            for where, what in sorted(flow.awaiting):
                self._refuse(remedies.norm_before_neuron(what, where, neuron.site))
        if neuron.site in self._run_state.visited_sites:
            self._refuse(remedies.used_twice(path))
            self._run_state.forget(neuron.site)

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> None:
            if current_run() is not self._run_state:
                return
            kwargs, output = keywords_and_output
            self._stack.pop()
            inputs = tuple(tensors_in((*args, *kwargs.values())))
            flows = tuple(self._flows.get(id(x)) for x in inputs)
            streams = tuple(self._streams.of(x) for x in inputs)
            if isinstance(module, OPAQUE):
                self._inside_opaque -= 1
                known = [flow for flow in flows if flow is not None]
                if known or isinstance(module, SpikingNeuron):
                    self._streams.follow_module(module, inputs, output)
                    self._mark(output, _from_opaque(module, known))
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                flow = self._flows.get(id(output))
                if flow is not None:
                    self._mark(output, replace(flow, made_by=path))
            if isinstance(module, self._counted):
                self._seen.calls.append(Call(path, module, inputs, output, flows, streams))

        return hook

    # ---------------------------------------------------------------------------------- functions

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside_opaque or current_run() is not self._run_state:
            return func(*args, **kwargs)
        inputs, name = list(tensors_in((*args, *kwargs.values()))), function_name(func)
        path = self._here[0]
        number = self._functions.reach(path, name)
        if getattr(func, "__name__", "") == "copy_":
            self._flows.pop(id(inputs[0]), None)  # what was there is overwritten
        flows = [flow for flow in (self._flows.get(id(x)) for x in inputs) if flow is not None]
        if getattr(func, "__name__", "") in tables.LEAVES_TORCH:
            self._doubts.leave(self._here[0], str(func.__name__), bool(flows))
        joins = name in tables.JOINS and bool(flows) and self._joins_constants(name, inputs, args, kwargs)
        result = func(*args, **kwargs)
        outputs = inputs[:1] if name == "setitem" else list(tensors_in((result,)))
        draws = draws_random_numbers(name, args, kwargs)
        if not outputs or not (flows or draws):
            return result
        self._read(inputs)
        if name in tables.LINEAR_MAPS:
            self._functions.read("", flows)
        flow = self._through(func, flows, args, kwargs, outputs[0]) if flows else Flow()
        if draws:
            flow = self._add(remedies.chance(name, self._here[0]), flow or Flow())
            self._doubts.draw(next(iter(flow.last)), len(outputs))
        if self._counted:
            self._streams.follow(func, name, args, kwargs, outputs)
        if flow is not None and self._counted:
            depends = tuple(id(x) in self._flows for x in inputs)
            call = FunctionCall(path, name, number, tuple(inputs), depends, args, kwargs, outputs[0])
            flow = self._functions.note(call, flow)
        if flow is not None:
            flow = replace(flow, spikes_of=frozenset(), pooled=1) if joins else flow
            for out in outputs:
                self._mark(out, flow)
            if writes(func, name, kwargs):
                self._mark_sharing(outputs[0], flow)
        return result

    @property
    def _here(self) -> tuple[str, nn.Module]:
        """The module whose forward is running, and its path."""
        return self._stack[-1] if self._stack else ("", self._network)

    def _through(
        self, func: Callable[..., Any], flows: list[Flow], args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Flow | None:
        """The flow of what a function makes of `flows`."""
        (where, module), name = self._here, function_name(func)
        source = next(x for x in tensors_in((*args, *kwargs.values())) if id(x) in self._flows)
        is_static = all(flow.is_static for flow in flows)  # what is the same at every step may be anything
        if name in tables.CONSTANTS:
            return None
        keeps = name in tables.LAYOUT | tables.ELEMENTWISE | tables.AVERAGE_POOLS
        if keeps and not is_static and remedies.narrows(source.dtype, output.dtype):
            flow = moved(flows) if output.is_floating_point() and name in tables.LAYOUT else computed(flows)
            return self._add(remedies.cast(name, where, source.dtype, output.dtype), flow)
        if name in tables.LAYOUT:
            return moved(flows)
        if name in tables.AVERAGE_POOLS or (name == "mean" and flows[0].spikes_of):
            first = next(tensors_in((*args, *kwargs.values())))
            return averaged(name, flows[0], first, output, args, kwargs)
        if name in tables.LINEAR_MAPS or name in tables.ELEMENTWISE:
            flow = self._linear(func, name, flows, args, kwargs)
            return replace(flow, since_map=(0,) if name in tables.LINEAR_MAPS else ())
        if name in tables.MAX_POOLS:
            flow = replace(moved(flows), since_map=())
            return flow if is_static else self._add(Place("max_pool", Obstacle(where, name, "")), flow)
        if name in tables.SOFTMAXES | tables.NORMS:
            flow = computed(flows)
            if is_static:
                return flow
            flow = self._add(remedies.nonlinear_end(name, where), flow)
            return replace(flow, awaiting=flow.awaiting | {(where, name)}) if name in tables.NORMS else flow
        flow = computed(flows)
        if name in tables.ATTENTION | tables.RECURRENT:
            flow = self._uncounted(name, flow)
        if is_static and not isinstance(module, self._activations):
            return flow
        if name in tables.DIVISIONS_BY:
            return self._add(remedies.division(where), flow)
        is_over_batch = output.dim() == 0 or output.shape[:1] != source.shape[:1]
        return self._add(remedies.unsupported(name, where, module, is_over_batch), flow)

    def _linear(
        self, func: Callable[..., Any], name: str, flows: list[Flow], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Flow:
        """A function that is linear, unless two activations meet in it or it divides by one."""
        where, module = self._here
        flow = computed(flows)
        changing = [each for each in flows if not each.is_static]  # a factor that is the same at every step is a weight
        if name == "batch_norm" and by_batch_statistics(func, args, kwargs):
            flow = self._add(remedies.batch_statistics(where), flow)
        if len(changing) > 1 and name not in tables.SUMS:
            for number in frozenset().union(*(each.last for each in changing)):
                self._places[number].is_factor = not remedies.is_activation_of_user(module)
            flow = self._add(remedies.product(name, where, module), flow)
        elif name in tables.DIVISIONS:
            divisor = args[1] if len(args) > 1 else kwargs.get("other")
            if not self._flows.get(id(divisor), Flow()).is_static:
                flow = self._add(remedies.division(where), flow)
            elif changing and kwargs.get("rounding_mode") is not None:
                flow = self._add(remedies.rounding_division(name, where), flow)
        if name in tables.LINEAR_MAPS and not isinstance(module, self._counted or (nn.Module,)):
            flow = self._uncounted(name, flow)
        return flow

    def _uncounted(self, name: str, flow: Flow) -> Flow:
        """Note a function with a cost that no counted module calls."""
        where, module = self._here
        if not self._counted or isinstance(module, self._counted):
            return flow
        number = self._places.add(Place("uncounted", Obstacle(where, f"{where or THE_NETWORK} ({name})", "")))
        return replace(flow, passed=flow.passed | {number})

    def _joins_constants(self, name: str, inputs: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """True if values other than 0 that are no spikes come to lie beside spikes; they would be counted as spikes."""
        if self._any_function:  # changes are counted there, and a constant does not change
            return False
        if name == "pad":
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            return bool(given.get("value")) and given.get("mode", "constant") == "constant"
        constants = inputs[:1] if name == "setitem" else inputs
        if name == "setitem" and not isinstance(args[-1], Tensor) and args[-1]:
            return True
        return any(x.is_floating_point() and id(x) not in self._flows and bool((x != 0).any()) for x in constants)

    # ------------------------------------------------------------------------------------- flows

    def _add(self, place: Place, flow: Flow) -> Flow:
        """`flow` behind a place."""
        number = self._places.add(place)
        return replace(flow, passed=flow.passed | {number}, last=frozenset({number}))

    def _refuse(self, place: Place) -> None:
        """A place that stands in the way whatever comes of it."""
        self._places.use([self._places.add(place)])

    def _read(self, tensors: Iterable[Tensor]) -> None:
        """Count a reader of each tensor that has a flow. Such tensors are kept; the id of another may be reused."""
        self._readers.update(id(tensor) for tensor in tensors if id(tensor) in self._flows)

    def _mark(self, tensor: Tensor, flow: Flow) -> None:
        if flow.since_map:  # a map's mark stands for the map itself, the others for what its output became
            before = () if flow.since_map == (0,) else flow.since_map
            flow = replace(flow, since_map=before if id(tensor) in before else (*before, id(tensor)))
        if id(tensor) not in self._flows:
            self._keep.append(tensor)
            self._sharing.setdefault(_address(tensor), []).append(tensor)
        self._flows[id(tensor)] = flow

    def _mark_sharing(self, written: Tensor, flow: Flow) -> None:
        """`written` was written in place, and so were the tensors that share its memory."""
        self._overwritten.add(_address(written))
        for tensor in self._sharing[_address(written)]:
            if tensor is not written:
                before = [] if tensor.numel() == written.numel() else [self._flows[id(tensor)]]
                self._flows[id(tensor)] = computed([flow, *before])
                self._streams.end(tensor)


def _from_opaque(module: nn.Module, flows: list[Flow]) -> Flow:
    if isinstance(module, SpikingNeuron):
        return Flow(spikes_of=frozenset({module.site}), is_static=False, depth=1 + deepest(flows))
    if isinstance(module, SpikingMaxPool):
        return replace(moved(flows), since_map=())
    return computed(flows)


def _address(tensor: Tensor) -> int:
    """Address of its memory; its own id if it is not in one piece."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else id(tensor)
