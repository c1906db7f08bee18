"""Activations that have no place of their own: a site answers each call, while the forward runs as it is written.

An activation that is a function (`F.relu`), or a module that is called several times, has no module for each call. The
module whose forward makes such calls becomes an instance of a subclass of its class, which only puts a
`TorchFunctionMode` around the forward. It recognises a call by its place in the code and, in loops, by how often this
place has been reached. The code of the forward does not change, so whatever state it reads or writes stays alive.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.errors import InputError
from mst.neurons.site import Site, answer, running_redirections

from .activations import relu_call
from .kinds import product_kind
from .repeats import calls_of

Place = tuple[tuple[Any, ...], ...]
"""Place of a call: (name of the function, lines and columns of the expression) for each function from the call up to
the forward. Not the instruction: the interpreter replaces instructions while it runs."""

CallKey = tuple[str, Place]
"""(path of the module that is called, "" for a function; place)."""


@dataclass
class CallSites:
    """Table of the sites that answer the calls in the forward of one module."""

    answers: dict[CallKey, list[str | None]] = field(default_factory=dict)
    """Call -> the path of the site that answers it, for each time that the place is reached in one forward. None
    leaves the call as it is."""

    @property
    def shared(self) -> frozenset[str]:
        """Paths of the modules that are called several times."""
        return frozenset(called for called, _ in self.answers if called and not called.startswith("@"))

    @property
    def has_activations(self) -> bool:
        """True if sites answer activations; False if they answer products alone."""
        return any(not called.startswith("@") for called, _ in self.answers)


_CALL_SITES = "_call_sites"
_OWN_FORWARD = "_own_forward"
"""Attribute that holds a forward which a user has set on the module itself."""

_OWN_ROOMS = ("torch", "mst")
_CHECKPOINTED = InputError(
    "a part of a forward that torch.utils.checkpoint repeats calls a function that a site answers, or a module twice",
    remedy="make this part a module of its own, or (for a ReLU) give each call an nn.ReLU module of its own",
)


def redirect(module: nn.Module, call_sites: CallSites) -> None:
    """Let calls in the forward of `module` be answered by the sites that `call_sites` names, from now on."""
    module.__dict__[_CALL_SITES] = call_sites
    if "forward" in module.__dict__:
        module.__dict__[_OWN_FORWARD] = module.__dict__.pop("forward")
    module.__class__ = _redirected(type(module))


def call_sites_of(module: nn.Module) -> CallSites | None:
    """The calls that are answered by sites in the forward of `module`; None if there are none."""
    found: CallSites | None = module.__dict__.get(_CALL_SITES)
    return found


def place_of_call(owner: nn.Module | None, stops: frozenset[CodeType]) -> Place | None:
    """Place, in the forward of `owner`, of the call that is being made.

    Args:
        owner: the module; None takes whatever forward runs.
        stops: code that runs forwards. A forward of another module ends the search.

    Returns:
        The place; None if another module makes the call.

    Raises:
        InputError: the call is inside torch.utils.checkpoint, which repeats it in the backward pass, outside of it.
    """
    place: list[tuple[Any, ...]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in stops:
            return tuple(place) if owner is None or frame.f_locals.get("self") is owner else None
        room = frame.f_globals.get("__name__", "")
        if room == "torch.utils.checkpoint" and torch.is_grad_enabled():
            raise _CHECKPOINTED
        if room.partition(".")[0] not in _OWN_ROOMS:
            place.append((frame.f_code.co_name, *_positions(frame.f_code)[frame.f_lasti // 2]))
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=1024)
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    """Lines and columns of each instruction, counted from the first line of the function."""
    first = code.co_firstlineno
    return [
        (line and line - first, end and end - first, column, end_column)
        for line, end, column, end_column in code.co_positions()
    ]


class _Redirection(TorchFunctionMode):
    """One run of the forward of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._sites: CallSites = module.__dict__[_CALL_SITES]
        self._has_activations = self._sites.has_activations
        self._shared = {module.get_submodule(path): path for path in self._sites.shared}
        self._reached: Counter[CallKey] = calls_of(module)

    def __enter__(self) -> _Redirection:
        running_redirections().append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        running_redirections().pop()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = relu_call(func, args, kwargs) if self._has_activations else None
        if call is not None and isinstance(call.source, Tensor) and call.source.is_floating_point():
            place = place_of_call(self._module, FORWARDS)
            site = None if place is None else self._answering("", place)
            if site is not None:
                return answer(site, call.source)
        kind = product_kind(func) if kwargs.get("out") is None else None
        if kind is not None and any(called == f"@{kind}" for called, _ in self._sites.answers):
            place = place_of_call(self._module, FORWARDS)
            product = None if place is None else self._answering(f"@{kind}", place)
            if product is not None:
                return product.answer(func, args, kwargs)  # type: ignore[operator]
        return func(*args, **kwargs)

    def answering(self, called: Site) -> Site:
        """See `mst.neurons.site.Redirection`."""
        path = self._shared.get(called)
        place = None if path is None else place_of_call(self._module, FORWARDS)
        if path is None or place is None:
            return called
        return self._answering(path, place) or called

    def _answering(self, path: str, place: Place) -> Site | None:
        key = (path, place)
        number = self._reached[key]
        self._reached[key] += 1
        answers = self._sites.answers.get(key, [])
        if number >= len(answers):
            what = f"the activation {path!r}" if path else "an activation that is a function"
            remedy = "give each call an nn.ReLU module of its own, or quantise with images that reach every call "
            if path.startswith("@"):
                what, remedy = f"a product ({path[1:]})", "quantise with images that reach every call "
            raise InputError(
                f"{what} is called where it was not when the network was quantised",
                where=f"the forward of {type(self._module).__name__}",
                remedy=f"{remedy}(example= or calibration=)",
            )
        name = answers[number]
        return None if name is None else self._module.get_submodule(name)  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------- the class

_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


def _redirected(kind: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `kind` whose forward runs inside a redirection."""
    if kind not in _CLASSES:

        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            run = _run_redirected if "torch._dynamo" not in sys.modules else _uncompiled()
            return run(kind, self, args, kwargs)

        fields: dict[str, Any] = {"forward": forward, "__reduce_ex__": _reduce, "_plain_class": kind}
        fields |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        try:  # a class may register its subclasses when they are made, so it becomes the base afterwards
            made = type(kind.__name__, (nn.Module,), fields)
            made.__bases__ = (kind,)
        except TypeError:  # __slots__
            made = type(kind.__name__, (kind,), fields)
        _CLASSES[kind] = made
    return _CLASSES[kind]


def _run_redirected(kind: type[nn.Module], self: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _CALL_SITES not in self.__dict__:
        raise InputError(
            f"this {kind.__name__} was made by another of its class that is quantised, and has no sites",
            remedy="copy it by copy.deepcopy, without a __deepcopy__ that builds a new one, or quantise it by itself",
        )
    with _Redirection(self):
        own = self.__dict__.get(_OWN_FORWARD)
        return own(*args, **kwargs) if own is not None else kind.forward(self, *args, **kwargs)


_UNCOMPILED: list[Callable[..., Any]] = []


def _uncompiled() -> Callable[..., Any]:
    """`_run_redirected` for when a torch.compile may be active: the code that it makes has other places."""
    if not _UNCOMPILED:
        _UNCOMPILED.append(torch.compiler.disable(_run_redirected))  # type: ignore[no-untyped-call]
    return _UNCOMPILED[0]


FORWARDS = frozenset({nn.Module._call_impl.__code__, _run_redirected.__code__})
"""Code that runs the forward of the module that it calls `self`."""


def _reduce(self: Any, protocol: int) -> tuple[Any, ...]:
    """Pickle the module as one of its own class, to be redirected again."""
    kind = self._plain_class
    if kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__:
        return _new, (kind,), self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
    make, args, *rest = kind.__reduce_ex__(self, protocol)
    return _remake, (make, args, self.__dict__[_CALL_SITES]), *rest


def _new(kind: type[nn.Module]) -> nn.Module:
    made: nn.Module = _redirected(kind).__new__(_redirected(kind))
    return made


def _remake(make: Callable[..., nn.Module], args: tuple[Any, ...], call_sites: CallSites) -> nn.Module:
    made = make(*args)
    redirect(made, call_sites)
    return made
