"""Activations of any network -> QCFS sites, one for each use, in a network that keeps its class and names.

A module that is an activation is replaced in its place. An activation that is a function (`F.relu`), or a module that
is called several times, has no place for each use. The forward of the module around it is then traced with torch.fx,
without entering the children, and rewritten with a site for each use. Only such modules are traced, so the rest of a
network may hold code that torch.fx cannot follow.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from mst.models import set_submodule
from mst.neurons import QCFS

logger = logging.getLogger(__name__)

RELU_MODULES: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6)
"""Subclasses (timm has some) count too. So do Hardtanh from 0 and the classes that a user names in `also`."""

_RELU_FUNCTIONS: dict[Any, float | None] = {
    F.relu: None, F.relu_: None, torch.relu: None, torch.relu_: None, F.relu6: 6.0,
}  # fmt: skip
"""Function -> where it saturates."""

_RELU_METHODS = ("relu", "relu_")
_CLAMPS = (torch.clamp, torch.clamp_, torch.clamp_min, torch.clamp_min_, "clamp", "clamp_", "clamp_min", "clamp_min_")


@dataclass(frozen=True)
class FoundSite:
    """A place where an activation was replaced."""

    name: str
    """Module path of the site."""

    cap: float | None
    """Largest output of the activation; None if it does not saturate."""


def replace_activations(
    model: nn.Module, make_site: Callable[[], QCFS], also: tuple[type[nn.Module], ...] = ()
) -> tuple[FoundSite, ...]:
    """Give every ReLU-like activation of `model` a site of its own, in place.

    Args:
        model: any network.
        make_site: returns a new QCFS.
        also: further module classes to treat as activations.

    Returns:
        The sites, in the order of the network's modules.
    """
    found: dict[str, float | None] = {}
    in_place: set[str] = set()
    # A module that is used under several names becomes a site under each; children of a replaced one are gone.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and _is_activation(module, also) and not any(name.startswith(f"{parent}.") for parent in found):
            found[name] = _cap(module)
            if getattr(module, "inplace", False):
                in_place.add(name)
            set_submodule(model, name, make_site())
    for path, module in list(model.named_modules()):
        if _has_own_forward(module):
            _Rewriter(path, module, make_site, in_place, found).run()
    names = dict(model.named_modules())  # a container under several names holds its sites once
    order = {name: place for place, name in enumerate(names)}
    sites = sorted((name for name in found if isinstance(names.get(name), QCFS)), key=order.__getitem__)
    return tuple(FoundSite(name, found[name]) for name in sites)


def _is_activation(module: nn.Module, also: tuple[type[nn.Module], ...]) -> bool:
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return module.min_val == 0 or isinstance(module, also)
    return isinstance(module, (*RELU_MODULES, *also))


def _cap(module: nn.Module) -> float | None:
    return float(module.max_val) if isinstance(module, nn.Hardtanh) else None


def _has_own_forward(module: nn.Module) -> bool:
    """True if its forward is neither torch's nor ours."""
    for kind in type(module).__mro__:
        if "forward" in vars(kind):
            return not kind.__module__.startswith(("torch.nn.", "mst."))
    return False


# ------------------------------------------------------------------------------------------ the forward


class _ChildrenWhole(fx.Tracer):
    """Follows one forward; the modules that it calls and the buffers that it reads stay as they are."""

    proxy_buffer_attributes = True
    traced_func_name = "forward"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class CannotFollowError(Exception):
    """A forward whose graph would compute something else."""


Given = dict[str, Any]
"""Arguments of a forward that are not tensors (None, a flag, ...): the graph holds for these values only."""


def _trace(module: nn.Module, given: Given, method: str = "forward") -> tuple[fx.Graph, fx.Graph]:
    """Graphs of the forward in training and in evaluation: torch.fx treats `self.training` as a constant.

    Raises:
        CannotFollowError: torch.fx cannot follow it, or would freeze values that may change.
    """
    before = dict(vars(module))
    graphs = []
    try:
        for training in (True, False):
            module.training = training
            tracer = _ChildrenWhole()
            tracer.traced_func_name = method
            graphs.append(tracer.trace(module, concrete_args=given or None))
    except Exception as error:  # a foreign forward may fail in any way on the stand-ins for tensors
        raise CannotFollowError(" ".join(str(error).split())) from error
    finally:
        after = dict(vars(module))
        vars(module).clear()
        vars(module).update(before)
    changed = [k for k, v in after.items() if k != "training" and (k not in before or before[k] is not v)]
    if any(name.startswith("_tensor_constant") for name in changed):
        raise CannotFollowError("it makes tensors that do not come from its input, which would be frozen")
    if changed:
        raise CannotFollowError(f"it writes to self.{changed[0]}, which would happen once only")
    return graphs[0], graphs[1]


class _Rewriter:
    """Rewrites the forward of one module if an activation in it has no place of its own."""

    def __init__(
        self,
        path: str,
        module: nn.Module,
        make_site: Callable[[], QCFS],
        in_place: set[str],
        found: dict[str, float | None],
    ) -> None:
        self.path, self.module, self.make_site = path, module, make_site
        self.in_place, self.found = in_place, found
        self.names: list[str] = []

    def run(self) -> None:
        given = {
            name: parameter.default
            for name, parameter in inspect.signature(self.module.forward).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        try:
            graphs = _trace(self.module, given)
        except CannotFollowError as error:
            level = logging.WARNING if _names_activations(self.module) else logging.DEBUG
            logger.log(
                level, "%s: activations that are functions in its forward stay, because torch.fx cannot follow it: %s",
                self._where(), error,
            )  # fmt: skip
            return
        uses = [list(self._uses(graph)) for graph in graphs]
        if [use.what for use in uses[0]] != [use.what for use in uses[1]]:
            logger.warning("%s: its activations differ between training and evaluation; they stay", self._where())
        elif self._needs_writing(uses[0]) or self._needs_writing(uses[1]):
            self.names = self._make_sites(uses[0])
            _set_forward(self.module, self, given, self._write(graphs))

    def variant(self, given: Given) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The forward for other arguments than its defaults, with the same sites in the same order.

        Raises:
            RuntimeError: it cannot be followed, or uses more activations.
        """
        try:
            return self._write(_trace(self.module, given, ORIGINAL))
        except CannotFollowError as error:
            raise RuntimeError(f"{self._where()} cannot be called with {given}: {error}") from error

    def _write(self, graphs: tuple[fx.Graph, fx.Graph]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        for graph in graphs:
            uses = list(self._uses(graph))
            if len(uses) > len(self.names):
                raise CannotFollowError(f"it uses {len(uses)} activations, and {len(self.names)} were found at first")
            order = {node: place for place, node in enumerate(graph.nodes)}
            for use, name in zip(uses, self.names, strict=False):
                _replace(graph, use, name, order)
            graph.lint()
        return _compile(graphs[0]), _compile(graphs[1])

    def _uses(self, graph: fx.Graph) -> Iterator[_Use]:
        for node in graph.nodes:
            if node.op == "call_module":
                child = self.module.get_submodule(str(node.target))
                if isinstance(child, QCFS):
                    name = self._absolute(str(node.target))
                    yield _Use(node, str(node.target), self.found.get(name), name in self.in_place)
            elif node.op in ("call_function", "call_method"):
                cap = _function_cap(node)
                if cap is not False and _acts_on_values(node):
                    yield _Use(node, "", cap, _works_in_place(node))

    def _needs_writing(self, uses: list[_Use]) -> bool:
        calls = Counter(use.what for use in uses)
        return any(use.what == "" or calls[use.what] > 1 or (use.in_place and _seen_later(use.node)) for use in uses)

    def _make_sites(self, uses: list[_Use]) -> list[str]:
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


def _names_activations(module: nn.Module) -> bool:
    """True if the code of its forward names a function that may be an activation."""
    code = getattr(type(module).forward, "__code__", None)
    names = code.co_names if code is not None else ()
    return any(name in ("relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_", "clamp_min") for name in names)


def _acts_on_values(node: fx.Node) -> bool:
    """True if the function acts on activations rather than on a parameter or on whole numbers."""
    source = _input(node)
    return source.op != "get_attr" and source.target not in ("long", "int", "short", "byte", "argmax", torch.argmax)


@dataclass(frozen=True)
class _Use:
    """A call of an activation."""

    node: fx.Node
    """The call."""

    what: str
    """Path of the module that is called; "" for a function."""

    cap: float | None
    """Largest output; None if it does not saturate."""

    in_place: bool
    """True if it overwrites its input."""


def _function_cap(node: fx.Node) -> float | bool | None:
    """Largest output of the function that `node` calls (None: it does not saturate), or False if it is not a ReLU."""
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
    """Nodes that read the input of `node` after it, and so see what it has overwritten."""
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


ORIGINAL = "_forward_before_quantisation"
_PLAIN = (type(None), bool, int, float, str)


def _set_forward(
    module: nn.Module,
    rewriter: _Rewriter,
    defaults: Given,
    at_defaults: tuple[Callable[..., Any], Callable[..., Any]],
) -> None:
    """Give `module` a subclass of its class whose forward runs graphs, one for each set of plain arguments."""
    kind = type(module)
    signature = inspect.signature(kind.forward)
    variants = {_key(defaults): at_defaults}

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = {name: v for name, v in list(bound.arguments.items())[1:] if isinstance(v, _PLAIN)}
        key = _key(given)
        if key not in variants:
            variants[key] = rewriter.variant(given)
        run = variants[key][0 if self.training else 1]
        return run(*bound.args, **bound.kwargs)

    fields = {"forward": forward, ORIGINAL: kind.forward, "__module__": kind.__module__}
    module.__class__ = type(kind.__name__, (kind,), fields)


def _key(given: Given) -> frozenset[tuple[str, Any]]:
    return frozenset(given.items())


def _compile(graph: fx.Graph) -> Callable[..., Any]:
    code = graph.python_code("self")
    scope = copy.copy(code.globals)
    exec(code.src, scope)
    forward: Callable[..., Any] = scope["forward"]
    return forward
