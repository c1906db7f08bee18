"""Calls of ReLU-like activations in the forward of each module, found before anything is replaced.

torch.fx follows a forward without images. Where it cannot (a shape check, a branch on values), the forward is watched
while it runs on images.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from mst.neurons import QCFS
from mst.neurons.site import Site, running_redirections

from .activations import ACTIVATION_WORDS, relu_call
from .redirection import FORWARDS, CallKey, place_of_call


@dataclass(frozen=True)
class Use:
    """A call of an activation in the forward of one module."""

    key: CallKey
    """The call."""

    number: int
    """Number of earlier calls of its place in the same forward."""

    cap: float | None = None
    """Largest output of a function; None if it does not saturate, and for modules."""

    in_place: bool = False
    """True for a function that overwrites its input."""

    is_read_later: bool = True
    """False if nothing reads the input after the call."""

    is_activation: bool = True
    """False for a function of parameters alone, or of whole numbers."""

    @property
    def called(self) -> str:
        """Path of the module that is called; "" for a function."""
        return self.key[0]


class CannotFollowError(Exception):
    """torch.fx cannot follow a forward."""


# --------------------------------------------------------------------------------------- without images


class _Tracer(fx.Tracer):
    """Follows one forward; the modules that it calls and the buffers that it reads stay as they are."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["place"] = place_of_call(None, _FOLLOWING)
        return node


def follow(module: nn.Module) -> list[Use]:
    """The uses in the forward of `module`, in training and in evaluation, each once.

    Args:
        module: a throwaway copy: its forward is run with stand-ins for tensors, which it may keep.

    Raises:
        CannotFollowError: torch.fx cannot follow it.
    """
    if "forward" in vars(module):
        raise CannotFollowError("its forward was set on the module, not on its class")
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    found: dict[tuple[CallKey, int], Use] = {}
    for training in (True, False):
        module.training = training
        graph = _graph_of(module, defaults)
        for _, use in uses_in(graph, module):
            found.setdefault((use.key, use.number), use)
    return list(found.values())


def _graph_of(module: nn.Module, defaults: dict[str, Any]) -> fx.Graph:
    try:
        return _Tracer().trace(module, concrete_args=defaults or None)
    except Exception as error:  # a foreign forward may fail in any way on stand-ins for tensors
        raise CannotFollowError(" ".join(str(error).split())) from error


_FOLLOWING = frozenset({_graph_of.__code__})


def uses_in(graph: fx.Graph, module: nn.Module) -> Iterator[tuple[fx.Node, Use]]:
    """The uses in a graph of the forward of `module`, with their nodes."""
    reached: Counter[CallKey] = Counter()
    order = {node: number for number, node in enumerate(graph.nodes)}
    of_images: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(each in of_images for each in node.all_input_nodes):
            of_images.add(node)
        if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), QCFS):
            called, source = str(node.target), next(iter(node.all_input_nodes), None)
            cap, in_place = None, False
        elif node.op in ("call_function", "call_method"):
            call = relu_call(node.target, node.args, node.kwargs)
            if call is None or not isinstance(call.source, fx.Node):
                continue
            called, source, cap, in_place = "", call.source, call.cap, call.in_place
        else:
            continue
        key = (called, node.meta.get("place") or ())
        is_activation = source in of_images and source.target not in _WHOLE_NUMBERS
        later = source is not None and _is_read_later(source, node, order)
        yield node, Use(key, reached[key], cap, in_place, later, is_activation or bool(called))
        reached[key] += 1


_WHOLE_NUMBERS = ("long", "int", "short", "byte", "argmax", torch.argmax)


def _is_read_later(source: fx.Node, call: fx.Node, order: dict[fx.Node, int]) -> bool:
    """True if something may see what `call` has written over `source`: another node, or the caller of the forward."""
    return source.op == "placeholder" or any(order[user] > order[call] for user in source.users)


def names_activations(module: nn.Module) -> bool:
    """True if the code of its forward, or a function that it calls, names what may be an activation."""
    seen: set[Any] = set()

    def look(function: Any) -> bool:
        code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
        if code is None or code in seen:
            return False
        seen.add(code)
        if not ACTIVATION_WORDS.isdisjoint(code.co_names):
            return True
        scope = getattr(function, "__globals__", {})
        called = [inspect.getattr_static(type(module), name, None) or scope.get(name) for name in code.co_names]
        return any(look(each) for each in called if inspect.isfunction(each) and not _is_of_torch(each))

    forward = module.forward
    return look(getattr(forward, "__func__", forward))


def _is_of_torch(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "torch"


def throwaway(network: nn.Module) -> nn.Module:
    """A copy that shares its parameters with `network`."""
    return copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})


@contextmanager
def chance_unchanged() -> Iterator[None]:
    """Within the block random numbers may be drawn; afterwards the generators are where they were."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(state)


# ------------------------------------------------------------------------------------------ with images


@dataclass
class _Seen:
    """Uses in the forward of one module, as it runs."""

    uses: dict[tuple[CallKey, int], Use] = field(default_factory=dict)
    shared: dict[nn.Module, str] = field(default_factory=dict)


class _Watch(TorchFunctionMode):
    """Notes the calls of activations in the forward that runs, as that of a redirection would recognise them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.seen: dict[nn.Module, _Seen] = {}
        self._constants: dict[int, Tensor] = {
            id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]
        }
        self._running: list[tuple[nn.Module, Counter[CallKey]]] = []

    def enter(self, module: nn.Module, *_: Any) -> None:
        """A forward begins."""
        seen = self.seen.setdefault(module, _Seen())
        if not seen.shared:
            seen.shared = {each: name for name, each in module.named_modules() if name and isinstance(each, QCFS)}
        self._running.append((module, Counter()))

    def leave(self, *_: Any) -> None:
        """It ends."""
        self._running.pop()

    def _note(self, called: str, **facts: Any) -> None:
        module, reached = self._running[-1]
        place = place_of_call(module, FORWARDS)
        if place is not None:
            key = (called, place)
            use = Use(key, reached[key], **facts)
            self.seen[module].uses.setdefault((key, use.number), use)
            reached[key] += 1

    def answering(self, called: Site) -> Site:
        """See `mst.neurons.site.Redirection`; the module itself always answers."""
        if self._running:
            path = self.seen[self._running[-1][0]].shared.get(called)
            if path is not None:
                self._note(path)
        return called

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_constant = all(id(each) in self._constants for each in tensors_in((*args, *kwargs.values())))
        call = relu_call(func, args, kwargs)
        if call is not None and self._running and isinstance(call.source, Tensor) and call.source.is_floating_point():
            self._note("", cap=call.cap, in_place=call.in_place, is_activation=id(call.source) not in self._constants)
        result = func(*args, **kwargs)
        if is_constant and isinstance(result, Tensor):
            self._constants[id(result)] = result  # kept, so that its id stays its own
        elif not is_constant and (written := written_tensor(func, args, kwargs)) is not None:
            forget(self._constants, written)
        return result


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values and in their tuples, lists and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def written_tensor(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a call writes to: `t[...] = x`, `t += x`, `t.copy_(x)`, out=t. None if it writes to none."""
    if isinstance(kwargs.get("out"), Tensor):
        out: Tensor = kwargs["out"]
        return out
    name = str(getattr(function, "__name__", ""))
    writes = name == "__setitem__" or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
    return args[0] if writes and args and isinstance(args[0], Tensor) else None


def forget(known: dict[int, Tensor], written: Tensor) -> list[Tensor]:
    """Remove the tensors that share their memory with `written`; returns them."""
    if written.layout != torch.strided:
        found = [written] if id(written) in known else []
    else:
        memory = written.untyped_storage().data_ptr()
        strided = [each for each in known.values() if each.layout == torch.strided]
        found = [each for each in strided if each.untyped_storage().data_ptr() == memory]
    for each in found:
        del known[id(each)]
    return found


def watch(network: nn.Module, images: Tensor, is_watched: Callable[[nn.Module], bool]) -> dict[str, list[Use]]:
    """The uses in the forwards of `network` on images, in evaluation and in training.

    Args:
        network: a throwaway copy with sites in the places of modules, which act as ReLU. It has no redirections.
        images: [B, ...].
        is_watched: True for the modules whose forwards are watched.

    Returns:
        Module path -> its uses.
    """
    watch = _Watch(network)
    redirections = running_redirections()
    with torch.no_grad(), ExitStack() as stack:
        for module in network.modules():
            if is_watched(module):
                stack.callback(module.register_forward_pre_hook(watch.enter).remove)
                stack.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        redirections.append(watch)
        stack.callback(redirections.pop)
        stack.enter_context(watch)
        network.eval()
        network(images.clone())
        network.train()
        try:
            network(images.clone())
        except Exception:  # many networks cannot be trained on two images; evaluation has been seen
            del watch._running[:]
    return {path: list(watch.seen[m].uses.values()) for path, m in network.named_modules() if m in watch.seen}
