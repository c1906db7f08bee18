"""Files of NIR in other simulators: loaded by their own readers, then set to the neurons that the file states.

Each of these libraries reads NIR's integrate-and-fire neuron in its own way. After loading, the reset, the start and
the number of spikes in a step are set to those of the file, as far as the library has them.

Letters: B images, T steps, K classes.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.text import one_line, suggestion

from .execution import GraphNetwork, Step
from .graph import Flatten, Graph, Neurons
from .nir_files import read_nir, read_nir_package

TargetName = Literal["mst", "spikingjelly", "sinabs", "norse", "snntorch"]
Label = Literal["faithful", "approximate"]


@dataclass(frozen=True)
class Target:
    """A simulator that files of NIR are loaded into."""

    name: TargetName
    """Name of its package; "mst" for this library's own plain loop."""

    label: Label
    """faithful: in float64 it fires the same spikes, all of them. approximate: it does not."""

    reads_as: str
    """Neurons that it makes of the file when it is left alone."""

    reason: str
    """Settings made after loading, and those that the simulator lacks."""


TARGETS: dict[str, Target] = {
    each.name: each
    for each in (
        Target("mst", "faithful", "what the file states", "a plain loop of torch operations, without another package"),
        Target(
            "spikingjelly", "faithful", "hard reset, start at 0",
            "set: soft reset (v_reset None), start at half the threshold",
        ),
        Target(
            "sinabs", "faithful", "several spikes in one step, start at 0, membrane not below -threshold",
            "set: one spike in a step (SingleSpike), no lower bound, start at half the threshold",
        ),
        Target(
            "norse", "approximate", "hard reset, start at 0, fires above the threshold, not at it",
            "set: start at half the threshold; its IAFCell has a hard reset only, which loses the charge above the "
            "threshold",
        ),
        Target(
            "snntorch", "faithful", "leak of 0.9, start at 0, and the states of two layers are mixed up",
            "set: no leak, own state, start at half the threshold, reset once per spike; it fires above the threshold, "
            "not at it",
        ),
    )
}  # fmt: skip
"""Simulators by name. The labels are verified by `make test-interop`."""


class LoadedNetwork(ABC):
    """A file of NIR in a simulator.

    Args:
        graph: content of the file.
        module: what the simulator has made of it.
        dtype: type that it computes in.

    Attributes:
        target: the simulator.
        graph, module, dtype: as given.
    """

    target: Target

    def __init__(self, graph: Graph, module: nn.Module, dtype: torch.dtype) -> None:
        self.graph, self.dtype = graph, dtype
        self.module = module.to(dtype)
        for node in graph.maps:  # the readers round to float32
            held = module.get_submodule(node.name)
            bias = torch.zeros(len(node.weight)) if node.bias is None else node.bias
            for name, tensor in (("weight", node.weight), ("bias", bias)):
                getattr(held, name).data = tensor.to(dtype)
        for neurons in graph.neurons:
            self._adapt(neurons)
            self.held(neurons).register_forward_hook(self._in_dtype)
        self.module.eval().requires_grad_(False)

    @abstractmethod
    def _adapt(self, neurons: Neurons) -> None:
        """Give a group of neurons the reset, the start and the spikes in a step that the file states."""

    @abstractmethod
    def _start(self, images: Tensor) -> None:
        """Back to the state before the first step."""

    @abstractmethod
    def _step(self, images: Tensor) -> Tensor:
        """One step of images [B, ...] -> logits [B, K]."""

    def _in_dtype(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Some neurons send float32, whatever they read."""
        return (output[0].to(self.dtype), *output[1:]) if isinstance(output, tuple) else output.to(self.dtype)

    def held(self, neurons: Neurons) -> nn.Module:
        """The simulator's module of a group of neurons."""
        return self.module.get_submodule(neurons.name)

    def steps(self, images: Tensor, num_steps: int) -> Iterator[Step]:
        """Run from the beginning; images: [B, ...], the same at each step."""
        found: dict[str, Tensor] = {}

        def observe(path: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                spikes = output[0] if isinstance(output, tuple) else output
                found[path] = spikes if bool((spikes > 1).any()) else spikes != 0

            return hook

        handles = [self.held(each).register_forward_hook(observe(each.path)) for each in self.graph.neurons]
        try:
            with torch.no_grad():
                self._start(images)
            for _ in range(num_steps):
                with torch.no_grad():
                    logits = self._step(images.to(self.dtype))
                yield Step(dict(found), logits.reshape(len(images), *self.graph.output.shape))
        finally:
            for handle in handles:
                handle.remove()

    def __repr__(self) -> str:
        return f"LoadedNetwork({self.target.name}, {self.target.label}, {self.graph})"


class _PlainNetwork(LoadedNetwork):
    target = TARGETS["mst"]

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        self.graph, self.dtype, self.module = graph, dtype, GraphNetwork(graph, dtype)

    def _adapt(self, neurons: Neurons) -> None:
        """Nothing to do."""

    def _start(self, images: Tensor) -> None:
        """Nothing to do: `steps` resets the state."""

    def _step(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(images).logits
        return logits

    def steps(self, images: Tensor, num_steps: int) -> Iterator[Step]:
        assert isinstance(self.module, GraphNetwork)
        return self.module.steps(images, num_steps)


class _SpikingJelly(LoadedNetwork):
    target = TARGETS["spikingjelly"]

    @staticmethod
    def read(whole: Any, dtype: torch.dtype) -> nn.Module:
        exchange = import_module("spikingjelly.activation_based.nir_exchange")
        module: nn.Module = exchange.import_from_nir(whole, dt=1.0, dtype=dtype)  # its IF asks for r = 1 / dt
        return module

    def _adapt(self, neurons: Neurons) -> None:
        node: Any = self.held(neurons).module
        node.v_threshold, node.v_reset = _only(neurons), None
        node.set_reset_value("v", _only(neurons) / 2)
        node.reset()

    def _start(self, images: Tensor) -> None:
        self._state: Any = None

    def _step(self, images: Tensor) -> Tensor:
        logits, self._state = self.module(images, self._state)
        return logits  # type: ignore[no-any-return]


class _Sinabs(LoadedNetwork):
    target = TARGETS["sinabs"]

    @staticmethod
    def read(whole: Any, dtype: torch.dtype) -> nn.Module:
        module: nn.Module = import_module("sinabs.nir").from_nir(whole, batch_size=1)
        return module

    def _adapt(self, neurons: Neurons) -> None:
        _in_order(self)
        layer: Any = self.held(neurons)
        layer.spike_fn = import_module("sinabs.activation").SingleSpike
        layer.min_v_mem = None
        layer.spike_threshold = nn.Parameter(neurons.threshold.to(self.dtype), requires_grad=False)

    def _start(self, images: Tensor) -> None:
        for neurons in self.graph.neurons:
            layer: Any = self.held(neurons)
            layer.batch_size, layer.num_timesteps = len(images), -1
            layer.register_buffer("v_mem", _half(neurons, len(images), self.dtype))

    def _step(self, images: Tensor) -> Tensor:
        logits: Tensor = _first(self.module(images))
        return logits


class _Norse(LoadedNetwork):
    target = TARGETS["norse"]

    @staticmethod
    def read(whole: Any, dtype: torch.dtype) -> nn.Module:
        module: nn.Module = import_module("norse.torch").from_nir(whole)
        return module

    def _adapt(self, neurons: Neurons) -> None:
        _in_order(self)
        cell: Any = self.held(neurons)
        iaf = import_module("norse.torch.functional.iaf")
        threshold = neurons.threshold.to(self.dtype)
        cell.p = iaf.IAFParameters(v_th=threshold, v_reset=torch.zeros((), dtype=self.dtype))
        cell.state_fallback = lambda x: iaf.IAFFeedForwardState(v=torch.zeros_like(x) + threshold / 2)

    def _start(self, images: Tensor) -> None:
        self._state: Any = None

    def _step(self, images: Tensor) -> Tensor:
        given = (images,) if self._state is None else (images, self._state)
        logits, self._state = self.module(*given)
        return logits  # type: ignore[no-any-return]


class _SnnTorch(LoadedNetwork):
    target = TARGETS["snntorch"]

    @staticmethod
    def read(whole: Any, dtype: torch.dtype) -> nn.Module:
        from contextlib import redirect_stdout
        from io import StringIO

        with redirect_stdout(StringIO()):  # it prints what it looks for
            module: nn.Module = import_module("snntorch.import_nir").import_from_nir(whole)
        return module

    def _adapt(self, neurons: Neurons) -> None:
        leaky: Any = self.held(neurons)
        leaky.init_hidden = True  # the state stays with the layer
        leaky.beta = torch.ones((), dtype=self.dtype)
        leaky.threshold = torch.tensor(_only(neurons), dtype=self.dtype)
        leaky.mem_reset = torch.zeros_like  # the charge above the threshold is not a second reset

    def _start(self, images: Tensor) -> None:
        for neurons in self.graph.neurons:
            leaky: Any = self.held(neurons)
            leaky.mem = _half(neurons, len(images), self.dtype)

    def _step(self, images: Tensor) -> Tensor:
        logits: Tensor = _first(self.module(images))
        return logits


_READERS: dict[str, type[_SpikingJelly | _Sinabs | _Norse | _SnnTorch]] = {
    each.target.name: each for each in (_SpikingJelly, _Sinabs, _Norse, _SnnTorch)
}


def load(path: Path | str, into: TargetName | str = "mst", *, dtype: torch.dtype = torch.float32) -> LoadedNetwork:
    """Load a file of `mst export --to nir` into a simulator, so that it fires the spikes that it fires here.

    The simulator's own reader makes the network. Then each neuron is given the reset, the start and the number of
    spikes in a step that the file states; `TARGETS` lists what is set and what a simulator lacks.

    Args:
        path: the file.
        into: a name of `TARGETS`; the package of this name must be installed.
        dtype: type that it computes in. In float32 each library adds up in its own order, so that a neuron that comes
            within rounding of its threshold may fire a step earlier or later; float64 shows that nothing else differs.

    Returns:
        The network; `steps` runs it, `module` is the simulator's own network.

    Raises:
        MissingFileError, InputError: as `read_nir`; an unknown simulator, or one that is not installed or cannot read
            the file.
    """
    if into not in TARGETS:
        remedy = suggestion(str(into), list(TARGETS), f"choose from {', '.join(TARGETS)}")
        raise InputError(f"unknown simulator {into!r}", remedy=remedy)
    graph = read_nir(path)
    if into == "mst":
        return _PlainNetwork(graph, dtype)
    reader = _READERS[into]
    try:
        import_module(into)
    except ImportError as error:
        what = f"the package {into} cannot be imported ({one_line(error)})"
        raise InputError(what, remedy=f"install {into} in an environment of its own, see docs/export.md") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nirtorch's and torch's, about their own calls
            module = reader.read(read_nir_package(path), dtype)
    except (RuntimeError, ValueError, AssertionError, TypeError, NotImplementedError, AttributeError) as error:
        raise InputError(f"{into} cannot read it: {one_line(error)}", where=str(path)) from error
    for node in graph.nodes.values():
        if isinstance(node, Flatten):  # some readers flatten the axis of images too
            flatten: Any = module.get_submodule(node.name)
            flatten.start_dim, flatten.end_dim = 1, -1
    return reader(graph, module, dtype)


def _in_order(network: LoadedNetwork) -> None:
    """Let nirtorch's executor compute every node behind its sources; of branches it may leave some out."""
    module: Any = network.module
    places = {name: place for place, name in enumerate(network.graph.nodes)}
    module.execution_order.sort(key=lambda node: places[node.name])


def _only(neurons: Neurons) -> float:
    if neurons.threshold.numel() > 1:
        what = "its neurons have several thresholds, and this simulator takes one for each group"
        raise InputError(what, where=neurons.path)
    return float(neurons.threshold)


def _half(neurons: Neurons, images: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(images, *neurons.shape, dtype=dtype) + neurons.threshold.to(dtype) / 2


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result
