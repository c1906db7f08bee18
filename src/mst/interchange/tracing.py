"""A network as a graph of maps and neurons, or all places that no such graph holds.

Two images run through the network; a function mode sees every torch function, and hooks see the neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.conversion import ConversionError, Obstacle, SpikingNetwork, convert
from mst.data import ImageData, image_batches
from mst.dataflow import THE_NETWORK
from mst.dataflow.values import tensors_in
from mst.errors import InputError
from mst.incremental.recording import replaced
from mst.models import ActivationProduct, TokenBatchNorm, ann_of, copy_network, function_name, one_tensor_out, unwrapped
from mst.neurons import QCFS, IFNeuron, SpikingMaxPool, SpikingNeuron, begin_run, running
from mst.neurons.functional import MIN_THRESHOLD
from mst.quantization import image_shape_of
from mst.text import one_line

from .building import Builder
from .execution import check_equals
from .functions import BUILDING_BLOCKS, ONNX, FunctionUse, NotHeldError, Value, is_held, norm_of, result_of
from .graph import Graph

NUM_IMAGES = 2
"""Images that run through the network; the size of the batch tells an axis of images from others."""


class ExportError(InputError):
    """A network that a form of export does not hold as it is.

    Attributes:
        obstacles: every place that stands in the way, with what to do about it.
    """

    def __init__(self, obstacles: tuple[Obstacle, ...], form: str = "a graph of NIR") -> None:
        self.obstacles, self.form = obstacles, form
        count = "1 place" if len(obstacles) == 1 else f"{len(obstacles)} places"
        alike: dict[tuple[str, str], list[str]] = {}
        for each in obstacles:
            alike.setdefault((each.what, each.remedy), []).append(each.where or THE_NETWORK)
        ending = f", or {ONNX}"
        is_common = len(alike) > 1 and all(remedy.endswith(ending) for _, remedy in alike)
        lines = [
            f"- {', '.join(where)}: {what}; {remedy.removesuffix(ending) if is_common else remedy}"
            for (what, remedy), where in alike.items()
        ]
        lines += [f"Or {ONNX}"] if is_common else []
        super().__init__(f"{count} cannot be held by {form}. " + "\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.obstacles, self.form)


def trace_graph(model: nn.Module, example: ImageData | None = None) -> Graph:
    """A rate-coded network as a graph of linear maps and integrate-and-fire neurons, in float64.

    BatchNorm is folded, average pools become convolutions, the value of a spike goes into the weights behind it, and
    where possible thresholds are 1. The graph is compared with the network itself before it is returned.

    Args:
        model: an ANN with QCFS sites, or what `mst.convert` has made of it under rate coding. It stays as it is.
        example: images [B, ...] in any form of `mst.data.ImageData`, of which the first is used; None: random ones, if
            the network states the shape of its images.

    Returns:
        The graph.

    Raises:
        ExportError: places that the graph cannot hold, all of them, each with a remedy (it is an InputError).
        InputError: no network with sites; a coding other than rate; the shape of images is not known.
    """
    if isinstance(model, nn.Module) and isinstance(unwrapped(model), SpikingNetwork):
        snn = copy_network(unwrapped(model)).double()
        assert isinstance(snn, SpikingNetwork)
        if snn.coding.name != "rate":
            what = f"{snn.coding} coding sends spikes that no neuron of NIR fires"
            raise InputError(what, remedy=f"convert the network under rate coding, or {ONNX}")
        images = _images(snn.network, example)
        graph = _Tracer(snn.network, images).run()
    else:
        ann = copy_network(ann_of(model, "export", "give what mst.convert returns")).double().eval()
        images = _images(ann, example)
        _try_in_double(ann, images)
        try:
            snn = convert(ann, "rate", images)
        except ConversionError as error:
            raise _with_all_places(ann, images, error) from error
        graph = _Tracer(snn.network, images).run()
    check_equals(graph, snn, images)
    return graph


def _images(network: nn.Module, example: ImageData | None) -> Tensor:
    """Two different images [2, ...] in float64."""
    if example is not None:
        found = next(image_batches(example), None)
        if found is None or not len(found):
            raise InputError("the example holds no image")
        first = found[:1].double()
        device = next((p.device for p in network.parameters()), first.device)
        return torch.cat([first, first.flip(-1) * 0.9]).to(device)
    shape = image_shape_of(network)
    if shape is None:
        what = "the shape of this network's images is not known"
        raise InputError(what, remedy="give an example of its images (example=images)")
    return torch.rand(NUM_IMAGES, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _try_in_double(ann: nn.Module, images: Tensor) -> None:
    """Check that the network, whose weights are in float64, computes in it.

    Raises:
        InputError: it does not.
    """
    try:
        with torch.no_grad():
            ann(images)
    except (RuntimeError, TypeError) as error:
        what = f"the network does not compute in float64 ({one_line(error)})"
        raise InputError(what, remedy="make the constants of its forward buffers, which follow its type") from error


def _with_all_places(ann: nn.Module, images: Tensor, error: ConversionError) -> ExportError:
    """What conversion refuses, and what else a graph does not hold."""
    obstacles = list(error.obstacles)
    try:
        _Tracer(ann, images).run()
    except ExportError as further:
        known = {each.where for each in obstacles}
        obstacles += [each for each in further.obstacles if each.where not in known]
    return ExportError(tuple(obstacles))


class _Tracer(TorchFunctionMode):
    """While active, knows which sum of nodes each tensor is that depends on the images."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self._network = network
        self._images = images.clone()
        self._builder = Builder(tuple(images.shape[1:]))
        self._values: dict[int, Value] = {}
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives
        self._stack: list[str] = []
        self._inside = 0  # modules that are nodes, or whose inside no graph holds
        self._obstacles: list[Obstacle] = []
        self._used: set[int] = set()

    def run(self) -> Graph:
        """The graph.

        Raises:
            ExportError: it cannot hold the network.
        """
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))
        state = begin_run(self._network, batch_size=len(self._images))
        is_spiking = any(isinstance(each, SpikingNeuron) for each in self._network.modules())
        context: AbstractContextManager[object] = running(state) if is_spiking else nullcontext()
        self._mark(self._images, Value((self._builder.input,), tuple(self._images.shape[1:])))
        try:
            with torch.no_grad(), context, self:
                output = one_tensor_out(self._network(self._images), self._network)
        finally:
            for handle in handles:
                handle.remove()
        value = self._values.get(id(output))
        if value is None:
            self._refuse_at("", "the output depends on no image", "return what the network makes of its input")
        else:
            self._used |= value.passed
        found = [self._obstacles[number] for number in sorted(self._used)]
        if found or value is None:
            raise ExportError(tuple(dict.fromkeys(found)))
        return self._builder.finish(value.terms, value.shape)

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._stack.append(path)
            self._inside += _is_closed(module)

        return hook

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._stack.pop()
            if not _is_closed(module):
                return
            self._inside -= 1
            self._stack.append(path)
            self._leave(path, module, (args, kwargs), output)
            self._stack.pop()

        return hook

    def _leave(self, path: str, module: nn.Module, given: Any, output: Any) -> None:
        """A module has returned that is a node, or whose inside no graph holds."""
        known = [self._values[id(x)] for x in tensors_in(given) if id(x) in self._values]
        if self._inside or not known or not isinstance(output, Tensor):
            return
        if isinstance(module, QCFS | SpikingNeuron):
            self._neurons(path, module, known[0], output)
        elif isinstance(module, TokenBatchNorm) and len(known[0].shape) == 1:
            use = FunctionUse(self._builder, path, (), {}, known[0].shape)
            self._note(known, output, lambda: norm_of(module, use, known[0]))
        else:
            self._note(known, output, lambda: _refuse_module(module))

    def _neurons(self, path: str, site: QCFS | SpikingNeuron, value: Value, output: Tensor) -> None:
        self._used |= value.passed
        for what, remedy in _faults_of(site):
            self._refuse_at(path, what, remedy)
        shape = tuple(output.shape[1:])
        threshold = site.threshold.detach().clamp_min(MIN_THRESHOLD)
        self._mark(output, Value(self._builder.neurons(value.terms, path, shape, threshold, site.num_levels), shape))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        given = list(tensors_in((*args, *kwargs.values())))
        name, known = function_name(func), [self._values[id(x)] for x in given if id(x) in self._values]
        noted = replaced((args, kwargs), self._noted)
        result = func(*args, **kwargs)
        if name in ("copy", "setitem") and given and (known or id(given[0]) in self._values):
            source = self._values.get(id(given[-1]))
            if name == "copy" and source is not None:
                self._mark(given[0], source)
            else:
                self._note(known, given[0], lambda: _refuse_function(name))
            return result
        outputs = list(tensors_in((result,)))
        if not known or not any(out.is_floating_point() for out in outputs):
            return result
        for out in outputs:
            shape = tuple(out.shape[1:])

            def terms(shape: tuple[int, ...] = shape, out: Tensor = out) -> tuple[str, ...]:
                if is_held(name) and (len(outputs) > 1 or out.dim() < 2 or len(out) != NUM_IMAGES):
                    _refuse_function(name)
                return result_of(name, FunctionUse(self._builder, self._path, noted[0], noted[1], shape))

            self._note(known, out, terms)
        return result

    @property
    def _path(self) -> str:
        return self._stack[-1] if self._stack else ""

    def _noted(self, each: Any) -> Any:
        return self._values.get(id(each), each) if isinstance(each, Tensor) else each

    def _note(self, known: list[Value], output: Tensor, terms: Callable[[], tuple[str, ...]]) -> None:
        """Mark `output` as what `terms` returns, or as a stand-in behind what no graph holds."""
        passed: frozenset[int] = frozenset().union(*(value.passed for value in known))
        shape = tuple(output.shape[1:])
        try:
            made = terms()
        except NotHeldError as error:
            what, remedy = error.args
            self._obstacles.append(Obstacle(self._path, what, remedy))
            passed |= {len(self._obstacles) - 1}
            made = self._builder.stand_in(shape)
        except (RuntimeError, ValueError, IndexError, TypeError):
            if not passed:
                raise
            made = self._builder.stand_in(shape)  # shapes behind a stand-in need not fit
        self._mark(output, Value(made, shape, passed))

    def _refuse_at(self, path: str, what: str, remedy: str) -> None:
        self._obstacles.append(Obstacle(path, what, remedy))
        self._used.add(len(self._obstacles) - 1)

    def _mark(self, tensor: Tensor, value: Value) -> None:
        self._values[id(tensor)] = value
        self._keep.append(tensor)


def _is_closed(module: nn.Module) -> bool:
    return isinstance(module, QCFS | SpikingNeuron | SpikingMaxPool | ActivationProduct | TokenBatchNorm)


def _refuse_function(name: str) -> tuple[str, ...]:
    raise NotHeldError(f"NIR has no node for this use of {name}", f"write it with {BUILDING_BLOCKS}, or {ONNX}")


def _refuse_module(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, SpikingMaxPool):
        what, remedy = "NIR has no node for a max-pool over time", "train with average pools"
        raise NotHeldError(what, f'{remedy} (mst.quantize(..., max_pool="average")), or {ONNX}')
    what = f"NIR has no node for {type(module).__name__}"
    raise NotHeldError(what, f"choose a network of {BUILDING_BLOCKS}, or {ONNX}")


def _faults_of(site: QCFS | SpikingNeuron) -> list[tuple[str, str]]:
    """Properties of a site that no neuron of NIR has, each with its remedy."""
    faults = []
    if site.mask is not None:
        what = f"NIR has no node that drops spikes at random (ratio {site.masking_ratio:g})"
        faults.append((what, "export without masks (--masking-ratio 0), or train without them"))
    if site.min_level < 0:
        faults.append((f"levels down to {site.min_level} need signed spikes", ONNX))
    if site.max_powers is not None:
        faults.append(("levels of few powers of two", f"call mst.limit_powers(model, None), or {ONNX}"))
    if type(site) not in (QCFS, IFNeuron):
        faults.append((f"{type(site).__name__} is not an integrate-and-fire neuron", f"use mst.IFNeuron, or {ONNX}"))
    return faults
