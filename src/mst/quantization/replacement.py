"""Activations of any network -> QCFS sites, one for each use; the network keeps its class, its names and its code.

A module that is an activation is replaced in its place. An activation that is a function (`F.relu`), or a module that
is called several times, has no place for each use: the calls are found first (`discovery`), get sites of their own, and
are answered by these whenever the forward runs (`redirection`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, fx, nn

from mst.models import set_submodule
from mst.neurons import QCFS

from .activations import RELU_FUNCTIONS, cap_of, is_activation
from .calibration import acting_as_relu
from .discovery import CannotFollowError, Use, chance_unchanged, follow, names_activations, throwaway, uses_in, watch
from .redirection import CallSites, redirect

logger = logging.getLogger(__name__)


@dataclass
class Replacement:
    """Result of `replace_activations`."""

    caps: dict[str, float | None] = field(default_factory=dict)
    """Site -> largest output of its activation, None if it does not saturate; in the order of the network."""

    not_followed: dict[str, str] = field(default_factory=dict)
    """Path of a module whose forward may call activations that were not found -> why it could not be followed."""


def replace_activations(
    model: nn.Module,
    make_site: Callable[[], QCFS],
    also: tuple[type[nn.Module], ...] = (),
    images: Tensor | None = None,
) -> Replacement:
    """Give every ReLU-like activation of `model` a site of its own, in place.

    Args:
        model: any network.
        make_site: returns a new QCFS.
        also: further module classes to treat as activations.
        images: [B, ...]: the network runs on them, to find calls where torch.fx cannot follow a forward. None: such
            calls stay, and their modules are named in `not_followed`.

    Returns:
        The sites and what could not be followed.
    """
    replacing = _Replacing(model, make_site, also)
    replacing.modules()
    replacing.calls(images)
    return replacing.done()


class _Replacing:
    """One call of `replace_activations`."""

    def __init__(self, model: nn.Module, make_site: Callable[[], QCFS], also: tuple[type[nn.Module], ...]) -> None:
        self.model, self.make_site, self.also = model, make_site, also
        self.result = Replacement()
        self.in_place: set[str] = set()

    def modules(self) -> None:
        """Replace the modules that are activations."""
        caps = self.result.caps
        # A module that is used under several names becomes a site under each; children of a replaced one are gone.
        for name, module in list(self.model.named_modules(remove_duplicate=False)):
            if name and is_activation(module, self.also) and not any(name.startswith(f"{done}.") for done in caps):
                caps[name] = cap_of(module)
                if getattr(module, "inplace", False):
                    self.in_place.add(name)
                set_submodule(self.model, name, self.make_site())
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                self._open_layer(name, module)
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False

    def _open_layer(self, path: str, layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> None:
        """Keep torch from computing a whole layer in one fused function, which would pass over its site."""
        if layer.activation in RELU_FUNCTIONS:
            del layer.activation
            layer.activation = self.make_site()
            self.result.caps[f"{path}.activation" if path else "activation"] = None
        if isinstance(layer.activation, QCFS):
            layer.activation_relu_or_gelu = 0  # the fused function knows these two only

    def calls(self, images: Tensor | None) -> None:
        """Find the calls that need sites of their own, and redirect them."""
        uses: dict[str, list[Use]] = {}
        with chance_unchanged():
            spare = throwaway(self.model)
            for path, module in self.model.named_modules():
                if not _has_own_forward(module):
                    continue
                if isinstance(module, fx.GraphModule):
                    _Calls(self, path, []).rewrite(module)
                    continue
                try:
                    uses[path] = follow(spare.get_submodule(path))
                except CannotFollowError as error:
                    if names_activations(module):
                        self.result.not_followed[path] = str(error)
            if images is not None:
                spare = throwaway(self.model)
                caps = {name: cap for name, cap in self.result.caps.items() if cap is not None}
                with acting_as_relu(spare, caps):
                    for path, seen in watch(spare, images, _is_code).items():
                        known = {(use.key, use.number) for use in uses.get(path, [])}
                        uses.setdefault(path, []).extend(use for use in seen if (use.key, use.number) not in known)
                self.result.not_followed.clear()
        for path, found in uses.items():
            _Calls(self, path, found).redirect()

    def done(self) -> Replacement:
        """The result, its sites in the order of the network."""
        names = dict(self.model.named_modules())  # a container under several names holds its sites once
        order = {name: place for place, name in enumerate(names)}
        sites = sorted((name for name in self.result.caps if isinstance(names.get(name), QCFS)), key=order.__getitem__)
        return Replacement({name: self.result.caps[name] for name in sites}, self.result.not_followed)


class _Calls:
    """The uses in the forward of one module."""

    def __init__(self, replacing: _Replacing, path: str, uses: list[Use]) -> None:
        self.replacing, self.path, self.uses = replacing, path, uses
        self.module = replacing.model.get_submodule(path)

    def redirect(self) -> None:
        """Give a site to each use that has none, and redirect the calls if there are such uses."""
        counts = Counter(use.called for use in self.uses if use.is_activation)
        call_sites = CallSites()
        taken: set[str] = set()
        for use in self.uses:
            name = self._site_of(use, taken) if use.is_activation else None
            if use.called and counts[use.called] == 1:
                continue
            answers = call_sites.answers.setdefault(use.key, [])
            answers.extend([None] * (use.number + 1 - len(answers)))
            answers[use.number] = name
        if any(name is not None for answers in call_sites.answers.values() for name in answers):
            redirect(self.module, call_sites)

    def rewrite(self, module: fx.GraphModule) -> None:
        """Call a site for each use in a module whose forward is a graph, which is code that can be changed."""
        taken: set[str] = set()
        for node, use in [*uses_in(module.graph, module)]:
            if use.is_activation:
                name = self._site_of(use, taken)
                source = node.args[0] if node.args else node.kwargs["input"]
                node.op, node.target, node.args, node.kwargs = "call_module", name, (source,), {}
        module.recompile()

    def _site_of(self, use: Use, taken: set[str]) -> str:
        """The site of a use: a module's own for its first, new ones for the others."""
        caps, absolute = self.replacing.result.caps, self._absolute
        if use.called and use.called not in taken:
            name = use.called
            in_place = absolute(name) in self.replacing.in_place
        else:
            name = self._free_name(use.called or "relu")
            set_submodule(self.module, name, self.replacing.make_site())
            caps[absolute(name)] = caps.get(absolute(use.called)) if use.called else use.cap
            in_place = use.in_place or (bool(use.called) and absolute(use.called) in self.replacing.in_place)
        taken.add(name)
        if in_place and use.is_read_later:
            self.module.get_submodule(name).overwrites_input = True  # type: ignore[assignment]
        return name

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


def _is_code(module: nn.Module) -> bool:
    """True if a user has written its forward."""
    return _has_own_forward(module) and not isinstance(module, fx.GraphModule)


def _has_own_forward(module: nn.Module) -> bool:
    """True if its forward is neither torch's nor ours; a chain of modules counts, for it may begin in place."""
    if "forward" in vars(module) or type(module).forward is nn.Sequential.forward:
        return True
    for kind in type(module).__mro__:
        if "forward" in vars(kind):
            return not kind.__module__.startswith(("torch.nn.", "mst."))
    return False
