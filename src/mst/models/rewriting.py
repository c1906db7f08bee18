"""Activations of any network -> QCFS sites of its own, one for each use, in a network that keeps its class and names.

A module that is an activation is replaced where it hangs. An activation that is a function (`F.relu`), or a module that
is called several times, has no place of its own; the forward of the module around it is traced with torch.fx, children
left whole, and written anew with a site for each use. Only such modules are traced, so the rest of a network may hold
whatever torch.fx cannot follow.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from mst.neurons import QCFS

logger = logging.getLogger(__name__)

RELU_MODULES: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6)
"""Subclasses (timm has some) count too. So do Hardtanh from 0 and, by `also`, what a user names."""

_RELU_FUNCTIONS: dict[Any, float | None] = {
    F.relu: None, F.relu_: None, torch.relu: None, torch.relu_: None, F.relu6: 6.0,
}  # fmt: skip
"""Function -> where it saturates."""

_RELU_METHODS = ("relu", "relu_")
_CLAMPS = (torch.clamp, torch.clamp_, torch.clamp_min, torch.clamp_min_, "clamp", "clamp_", "clamp_min", "clamp_min_")


@dataclass(frozen=True)
class FoundSite:
    """Where an activation was. cap: its largest output, None if it has none."""

    name: str
    cap: float | None


def replace_activations(
    model: nn.Module, make_site: Callable[[], QCFS], also: tuple[type[nn.Module], ...] = ()
) -> tuple[FoundSite, ...]:
    """Give every ReLU-like activation of `model` a site of its own, in place.

    Args:
        model: any network.
        make_site: a fresh QCFS.
        also: further module classes to take for activations.

    Returns:
        The sites, in the order of the network's modules.
    """
    found: dict[str, float | None] = {}
    in_place: set[str] = set()
    # A module that hangs in several places is one site in each.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and _is_activation(module, also):
            found[name] = _cap(module)
            if getattr(module, "inplace", False):
                in_place.add(name)
            set_submodule(model, name, make_site())
    for path, module in list(model.named_modules()):
        if _has_own_forward(module):
            rewriter = _Rewriter(model, path, module, make_site, in_place, found)
            rewriter.run()
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return tuple(FoundSite(name, cap) for name, cap in sorted(found.items(), key=lambda item: order[item[0]]))


def set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Hang `module` where `name` points to."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _is_activation(module: nn.Module, also: tuple[type[nn.Module], ...]) -> bool:
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return module.min_val == 0 or isinstance(module, also)
    return isinstance(module, (*RELU_MODULES, *also))


def _cap(module: nn.Module) -> float | None:
    return float(module.max_val) if isinstance(module, nn.Hardtanh) else None


def _has_own_forward(module: nn.Module) -> bool:
    """Whether its forward is somebody's code, rather than torch's or ours."""
    for kind in type(module).__mro__:
        if "forward" in vars(kind):
            return not kind.__module__.startswith(("torch.nn.", "mst."))
    return False


# ------------------------------------------------------------------------------------------ the forward


class _ChildrenWhole(fx.Tracer):
    """Follows one forward; the modules it calls stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _Rewriter:
    """One module's forward, written anew if an activation in it has no place of its own."""

    def __init__(
        self,
        model: nn.Module,
        path: str,
        module: nn.Module,
        make_site: Callable[[], QCFS],
        in_place: set[str],
        found: dict[str, float | None],
    ) -> None:
        self.model, self.path, self.module, self.make_site = model, path, module, make_site
        self.in_place, self.found = in_place, found

    def run(self) -> None:
        graphs = self._trace()
        if graphs is None:
            return
        uses = [list(self._uses(graph)) for graph in graphs]
        if not uses[0] and not uses[1]:
            return
        if [use.what for use in uses[0]] != [use.what for use in uses[1]]:
            logger.warning(
                "%s: its activations differ between training and evaluation; left as they are", self._where()
            )
            return
        if not self._needs_writing(uses[0]) and not self._needs_writing(uses[1]):
            return
        names = self._names(uses[0])
        for graph, same in zip(graphs, uses, strict=True):
            order = {node: place for place, node in enumerate(graph.nodes)}
            for use, name in zip(same, names, strict=True):
                _replace(graph, use, name, order)
            graph.lint()
        _set_forward(self.module, *graphs)

    def _trace(self) -> tuple[fx.Graph, fx.Graph] | None:
        """The forward in training and in evaluation; None if torch.fx cannot follow it."""
        was_training = self.module.training
        graphs = []
        try:
            for training in (True, False):
                self.module.training = training
                graphs.append(_ChildrenWhole().trace(self.module))
        except Exception as error:  # a foreign forward may fail in any way on the stand-ins for tensors
            logger.debug("%s cannot be traced: %s", self._where(), error)
            return None
        finally:
            self.module.training = was_training
        return graphs[0], graphs[1]

    def _uses(self, graph: fx.Graph) -> Iterator[_Use]:
        for node in graph.nodes:
            if node.op == "call_module":
                child = self.module.get_submodule(str(node.target))
                if isinstance(child, QCFS):
                    name = self._absolute(str(node.target))
                    yield _Use(node, str(node.target), self.found.get(name), name in self.in_place)
            elif node.op in ("call_function", "call_method"):
                cap = _function_cap(node)
                if cap is not False:
                    yield _Use(node, "", cap, _works_in_place(node))

    def _needs_writing(self, uses: list[_Use]) -> bool:
        calls = Counter(use.what for use in uses)
        return any(use.what == "" or calls[use.what] > 1 or (use.in_place and _seen_later(use.node)) for use in uses)

    def _names(self, uses: list[_Use]) -> list[str]:
        """A site for each use: a module's own for its first, new ones for the others."""
        names: list[str] = []
        for use in uses:
            if use.what and use.what not in names:
                names.append(use.what)
                continue
            name = self._free_name(use.what or "relu")
            set_submodule(self.module, name, self.make_site())
            self.found[self._absolute(name)] = use.cap
            names.append(name)
        return names

    def _free_name(self, wanted: str) -> str:
        parent, _, leaf = wanted.rpartition(".")
        holder = self.module.get_submodule(parent)
        name, number = leaf, 1
        while hasattr(holder, name):
            number += 1
            name = f"{leaf}_{number}"
        return f"{parent}.{name}" if parent else name

    def _absolute(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _where(self) -> str:
        return self.path or type(self.module).__name__


@dataclass(frozen=True)
class _Use:
    """A call of an activation. what: the module's path, "" for a function."""

    node: fx.Node
    what: str
    cap: float | None
    in_place: bool


def _function_cap(node: fx.Node) -> float | bool | None:
    """Where the function that `node` calls saturates (None: nowhere), or False if it is no ReLU."""
    if node.op == "call_function" and node.target in _RELU_FUNCTIONS:
        return _RELU_FUNCTIONS[node.target]
    if node.op == "call_method" and node.target in _RELU_METHODS:
        return None
    if node.target in _CLAMPS:
        bounds = dict(zip(("min", "max"), node.args[1:], strict=False)) | node.kwargs
        low, high = bounds.get("min"), bounds.get("max")
        if low == 0 and (high is None or isinstance(high, int | float)):
            return None if high is None else float(high)
    if node.target is F.hardtanh:
        bounds = dict(zip(("min_val", "max_val"), node.args[1:], strict=False)) | node.kwargs
        if bounds.get("min_val", -1.0) == 0:
            return float(bounds.get("max_val", 1.0))  # type: ignore[arg-type]
    return False


def _works_in_place(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or node.kwargs.get("inplace") is True or (node.target is F.relu and True in node.args[1:])


def _input(node: fx.Node) -> fx.Node:
    value = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(value, fx.Node)
    return value


def _seen_later(node: fx.Node) -> list[fx.Node]:
    """Who reads the input of `node` after it, and so sees what it has done in place."""
    order = {each: place for place, each in enumerate(node.graph.nodes)}
    return [user for user in _input(node).users if order[user] > order[node]]


def _replace(graph: fx.Graph, use: _Use, name: str, order: dict[fx.Node, int]) -> None:
    node, source = use.node, _input(use.node)
    later = [user for user in source.users if order.get(user, -1) > order[node]] if use.in_place else []
    with graph.inserting_before(node):
        site = graph.create_node("call_module", name, (source,))
    order[site] = order[node]
    node.replace_all_uses_with(site)
    for user in later:
        user.replace_input_with(source, site)
    graph.erase_node(node)


def _set_forward(module: nn.Module, in_training: fx.Graph, in_evaluation: fx.Graph) -> None:
    """Let `module` be of a subclass of its class whose forward runs these graphs."""
    training_code, evaluation_code = _compile(in_training), _compile(in_evaluation)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (training_code if self.training else evaluation_code)(self, *args, **kwargs)

    kind = type(module)
    module.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _compile(graph: fx.Graph) -> Callable[..., Any]:
    code = graph.python_code("self")
    scope = copy.copy(code.globals)
    exec(code.src, scope)
    forward: Callable[..., Any] = scope["forward"]
    return forward
