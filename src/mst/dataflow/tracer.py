"""One image through a network, function by function: what comes from which neuron, and what no neuron can follow.

A function mode sees every torch function, also those inside modules that it knows nothing of. What moves values (views,
concatenations) keeps spikes spikes; linear maps, averages and constants keep the mean over time; everything else does
not, and is an obstacle to a coding that carries means, unless it is known to be none. A coding that sends changes
carries any function; there the same places are noted as analog.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.models import ActivationProduct, TokenBatchNorm
from mst.neurons import SpikingMaxPool, SpikingNeuron, begin_run, current_run, running

from . import tables
from .obstacles import DIVISION, THE_NETWORK, Obstacle, explain
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

    Returns:
        Obstacles, depths of the sites, BatchNorms that fold, calls. Obstacles are returned, not raised.
    """
    return _Tracer(network, counted, activations, any_function).run(image, is_static)


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
        self._seen = Dataflow()
        self._flows: dict[int, Flow] = {}
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives
        self._readers: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._normalised: dict[str, tuple[Flow, nn.Module, Tensor]] = {}
        self._stack: list[tuple[str, nn.Module]] = []
        self._inside_opaque = 0
        self._run_state = begin_run(network, batch_size=1)

    def run(self, image: Tensor, is_static: bool) -> Dataflow:
        """See `trace_dataflow`."""
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))
        image = self._seen.image = image.detach().clone()
        self._mark(image, Flow(is_static=is_static))
        try:
            with torch.no_grad(), running(self._run_state), self:
                output = self._network(image)
            self._expect_flow("", "the output", tensors_in((output,)))
        finally:
            for handle in handles:
                handle.remove()
        self._note_norms()
        return self._seen

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
            if isinstance(module, (SpikingNeuron, SpikingMaxPool, *self._counted)):
                self._expect_flow(path, "its input", inputs[:1])
            if isinstance(module, SpikingNeuron):
                self._enter_neuron(path, module, inputs)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm) and inputs:
                self._enter_norm(path, module, inputs[0])

        return hook

    def _enter_norm(self, path: str, norm: nn.modules.batchnorm._BatchNorm, read: Tensor) -> None:
        flow = self._flows.get(id(read))
        if flow is None:
            return
        self._normalised[path] = (flow, norm, read)
        if norm.running_mean is None and not flow.is_static:
            self._refuse(
                path, "BatchNorm without running statistics mixes images and steps",
                "let it track its statistics (track_running_stats=True), and train",
            )  # fmt: skip

    def _enter_neuron(self, path: str, neuron: SpikingNeuron, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            flow = self._flows.get(id(tensor), Flow())
            self._seen.depths[neuron.site] = flow.depth
            for where, what in sorted(flow.awaiting):
                self._object(
                    where, f"{what} before the neuron {neuron.site}",
                    "put a BatchNorm there, whose statistics are constants, or train without it",
                )  # fmt: skip
        if neuron.site in self._run_state.visited_sites:
            self._refuse(path, "used several times in one pass", "give each use a QCFS of its own")
            self._run_state.forget(neuron.site)

    def _expect_flow(self, where: str, what: str, tensors: Iterable[Tensor]) -> None:
        """A tensor that depends on no image can only come from code that torch does not show."""
        if any(id(tensor) not in self._flows for tensor in tensors):
            self._refuse(
                where, f"{what} was made by code that torch does not show, or depends on no image",
                "write scripted or compiled functions, and in-place writes into views, as plain torch functions",
            )  # fmt: skip

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> None:
            if current_run() is not self._run_state:
                return
            kwargs, output = keywords_and_output
            self._stack.pop()
            inputs = tuple(tensors_in((*args, *kwargs.values())))
            flows = tuple(self._flows.get(id(x)) for x in inputs)
            if isinstance(module, OPAQUE):
                self._inside_opaque -= 1
                self._mark(output, _from_opaque(module, [flow for flow in flows if flow is not None]))
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                flow = self._flows.get(id(output))
                if flow is not None:
                    self._mark(output, replace(flow, made_by=path))
            if isinstance(module, self._counted):
                self._seen.calls.append(Call(path, module, inputs, output, flows))

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
        inputs = [] if self._inside_opaque else list(tensors_in((*args, *kwargs.values())))
        overwritten = inputs[0] if getattr(func, "__name__", "") == "copy_" and inputs else None
        if overwritten is not None:
            self._flows.pop(id(overwritten), None)
        flows = [flow for flow in (self._flows.get(id(x)) for x in inputs) if flow is not None]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).strip("_").removesuffix("_")
        outputs = inputs[:1] if name == "setitem" else list(tensors_in((result,)))
        if current_run() is not self._run_state or not flows or not outputs:
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
        if name in tables.CONSTANTS:
            return None
        if name in tables.LAYOUT:
            return moved(flows)
        if name in tables.AVERAGE_POOLS or (name == "mean" and flows[0].spikes_of):
            source = next(tensors_in((*args, *kwargs.values())))
            return averaged(name, flows[0], source, output, args, kwargs)
        if name in tables.LINEAR_MAPS or name in tables.ELEMENTWISE:
            self._check_linear(name, flows, args, kwargs)
            return replace(computed(flows), since_map=(0,) if name in tables.LINEAR_MAPS else ())
        is_static = all(flow.is_static for flow in flows)  # what is the same at every step may be anything
        if name in tables.MAX_POOLS:
            if not is_static:
                self._seen.max_pools.append(where)
            return replace(moved(flows), since_map=())
        if name in tables.SOFTMAXES:
            self._note_uncounted(name)
            return computed(flows)
        if name in tables.NORMS:
            self._note_uncounted(name)
            flow = computed(flows)
            return flow if is_static else replace(flow, awaiting=flow.awaiting | {(where, name)})
        if self._counted and name in tables.ATTENTION | tables.RECURRENT:
            self._seen.uncounted.append(f"{where or THE_NETWORK} ({name})")
        if not is_static or isinstance(module, self._activations):
            self._object(where, *(DIVISION if name in tables.DIVISIONS_BY else explain(name, module)))
        return computed(flows)

    def _check_linear(self, name: str, flows: list[Flow], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Object to a product of two activations and to a division by one; note a map that is a function."""
        where, module = self._stack[-1] if self._stack else ("", self._network)
        changing = sum(not flow.is_static for flow in flows)  # a factor that is the same at every step is a weight
        if changing > 1 and name not in tables.SUMS:
            self._object(
                where, f"{name} of two activations",
                "leave a gate (squeeze-and-excitation) out; make a matrix product an mst.ActivationProduct",
            )  # fmt: skip
        elif name in tables.DIVISIONS:
            divisor = args[1] if len(args) > 1 else kwargs.get("other")
            if not self._flows.get(id(divisor), Flow()).is_static:
                self._object(where, *DIVISION)
        if name in tables.LINEAR_MAPS and not isinstance(module, self._counted or (nn.Module,)):
            self._seen.uncounted.append(f"{where or THE_NETWORK} ({name})")

    def _note_uncounted(self, name: str) -> None:
        """Note a function with a cost that no counted module calls."""
        where, module = self._stack[-1] if self._stack else ("", self._network)
        if self._counted and not isinstance(module, self._counted):
            self._seen.uncounted.append(f"{where or THE_NETWORK} ({name})")

    def _refuse(self, where: str, what: str, remedy: str) -> None:
        obstacle = Obstacle(where, what, remedy)
        if obstacle not in self._seen.obstacles:
            self._seen.obstacles.append(obstacle)

    def _object(self, where: str, what: str, remedy: str) -> None:
        """Refuse a function of running activations, unless the coding carries any function."""
        if not self._any_function:
            self._refuse(where, what, remedy)
        elif all(where != known.where or what != known.what for known in self._seen.analog):
            self._seen.analog.append(Obstacle(where, what, remedy))

    def _read(self, tensors: Iterable[Tensor]) -> None:
        """Count a reader of each tensor that has a flow. Such tensors are kept; the id of another may be reused."""
        self._readers.update(id(tensor) for tensor in tensors if id(tensor) in self._flows)

    def _mark(self, tensor: Tensor, flow: Flow) -> None:
        if flow.since_map:  # a map's mark stands for the map itself, the others for what its output became
            before = () if flow.since_map == (0,) else flow.since_map
            flow = replace(flow, since_map=before if id(tensor) in before else (*before, id(tensor)))
        self._flows[id(tensor)] = flow
        self._keep.append(tensor)


def _from_opaque(module: nn.Module, flows: list[Flow]) -> Flow:
    if isinstance(module, SpikingNeuron):
        return Flow(spikes_of=frozenset({module.site}), is_static=False, depth=1 + deepest(flows))
    if isinstance(module, SpikingMaxPool):
        return replace(moved(flows), since_map=())
    return computed(flows)
