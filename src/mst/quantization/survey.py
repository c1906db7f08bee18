"""Products of a network, found while it runs on images: maps, calls of functions, and what can have no site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.errors import InputError
from mst.models import ActivationProduct

from .contractions import ACTIVATION, CONSTANT, IMAGE
from .discovery import forget, tensors_in, throwaway, written_tensor
from .kinds import Make, module_for, operands_of, product_kind, refusal
from .redirection import FORWARDS, CallKey, place_of_call

MAPS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
"""Modules whose input is one operand of a product, and whose weight is the other."""


@dataclass
class Survey:
    """Products of a network."""

    maps: dict[str, list[tuple[bool, ...]]] = field(default_factory=dict)
    """Path of a map or an `ActivationProduct` -> for each call in a pass, whether each operand is to have a site."""

    calls: dict[str, dict[tuple[CallKey, int], Make | None]] = field(default_factory=dict)
    """Path of the module whose forward calls -> call -> how to make the module that answers it; None for a call whose
    operands are all constants."""

    refused: dict[str, InputError] = field(default_factory=dict)
    """Products that no site can be placed at, as "path (function)", with the reason."""

    within: dict[str, str] = field(default_factory=dict)
    """Path of a module that is called several times in a pass -> that of the innermost module that is called once and
    whose forward makes all these calls."""


def survey_products(network: nn.Module, images: Tensor, image_site: bool) -> Survey:
    """Run a copy of `network` twice, and note its products.

    Args:
        network: any network.
        images: [B, ...].
        image_site: True if operands that are the image itself are to have sites too.
    """
    spare = throwaway(network).eval()
    calls = _Calls()
    with torch.no_grad(), _hooked(spare, calls.enter, calls.leave), calls:
        spare(images.clone())
    watch = _Watch(spare, images := images.clone(), calls, image_site)
    with torch.no_grad(), _hooked(spare, watch.enter, watch.leave), watch:
        spare(images)
    return watch.survey


@contextmanager
def _hooked(
    network: nn.Module, enter: Callable[[str], Callable[..., None]], leave: Callable[..., None]
) -> Iterator[None]:
    """Within the block `enter(path)` and `leave` are hooks of every module."""
    with ExitStack() as stack:
        for path, module in network.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(path), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


class _Calls(TorchFunctionMode):
    """Notes how often each module is called, by which chain of calls, and the products that maps make inside."""

    def __init__(self) -> None:
        super().__init__()
        self.chains: dict[str, list[tuple[tuple[str, int], ...]]] = {}
        self._products: Counter[str] = Counter()
        self._stack: list[tuple[str, int]] = []

    def enter(self, path: str) -> Callable[..., None]:
        """The hook for the beginning of a forward."""

        def hook(*_: Any) -> None:
            chains = self.chains.setdefault(path, [])
            chains.append(tuple(self._stack))
            self._stack.append((path, len(chains)))

        return hook

    def leave(self, *_: Any) -> None:
        """A forward ends."""
        self._stack.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._stack and product_kind(func) not in (None, "softmax"):
            self._products[self._stack[-1][0]] += 1
        return func(*args, **(kwargs or {}))

    def is_map(self, path: str, module: nn.Module) -> bool:
        """True for a module that multiplies once in each call. A subclass may do otherwise."""
        return isinstance(module, (*MAPS, ActivationProduct)) and self._products[path] <= len(self.chains[path])

    def within(self) -> dict[str, str]:
        """See `Survey.within`."""
        found = {}
        for path, chains in self.chains.items():
            if len(chains) > 1:
                shared = [each[0] for each in zip(*chains, strict=False) if len(set(each)) == 1]
                found[path] = next(outer for outer, _ in reversed(shared) if len(self.chains[outer]) == 1)
        return found


class _Watch(TorchFunctionMode):
    """Notes products, and for every tensor whether it is a constant, the image moved about, or computed from it."""

    def __init__(self, network: nn.Module, image: Tensor, calls: _Calls, image_site: bool) -> None:
        super().__init__()
        self.survey = Survey(within=calls.within())
        self._calls, self._image_role = calls, ACTIVATION if image_site else IMAGE
        self._constants = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        self._raw = {id(image): image}
        self._stack: list[tuple[str, nn.Module, Counter[CallKey]]] = []
        self._reached: dict[str, Counter[CallKey]] = {}

    def enter(self, path: str) -> Callable[..., None]:
        """The hook for the beginning of a forward."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._calls.is_map(path, module):
                operands = (*args, *kwargs.values())[: 2 if isinstance(module, ActivationProduct) else 1]
                roles = tuple(self._role(operand) == ACTIVATION for operand in operands)
                self.survey.maps.setdefault(path, []).append(roles)
            reached: Counter[CallKey] = Counter()
            if path in self.survey.within:
                reached = self._reached.setdefault(path, reached)
            self._stack.append((path, module, reached))

        return hook

    def leave(self, *_: Any) -> None:
        """A forward ends."""
        self._stack.pop()

    def _role(self, x: Tensor) -> str:
        return CONSTANT if id(x) in self._constants else self._image_role if id(x) in self._raw else ACTIVATION

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind, path = product_kind(func), self._stack[-1][0] if self._stack else ""
        error = refusal(func, kwargs)
        if error is not None and all(id(x) in self._constants for x in tensors_in((*args, *kwargs.values()))):
            error = None
        elif error is None and kind is not None:
            error = self._note(func, args, kwargs)
        if error is not None:
            self.survey.refused[f"{path or 'its forward'} ({func.__name__})"] = error
        result = func(*args, **kwargs)
        self._follow(func, args, kwargs, result, is_product=kind is not None or error is not None)
        return result

    def _note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> InputError | None:
        """Note the call of a product; returns the reason why it can have no sites."""
        path, module, reached = self._stack[-1] if self._stack else ("", None, Counter())
        roles = tuple(map(self._role, operands_of(func, args, kwargs)))
        try:
            make = None if set(roles) == {CONSTANT} else module_for(func, args, kwargs, roles)
        except InputError as error:
            return error
        if module is not None and (self._calls.is_map(path, module) or type(module) is nn.Softmax):
            return None  # a module whose operations are counted as they are
        place = place_of_call(module, FORWARDS)
        if place is None:
            outside = InputError("it is called outside of every forward", remedy="call it in the forward of a module")
            return None if make is None else outside
        key: CallKey = (f"@{product_kind(func)}", place)
        self.survey.calls.setdefault(path, {})[key, reached[key]] = make
        reached[key] += 1
        return None

    def _follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, *, is_product: bool
    ) -> None:
        """Note what the results of a call are, and the tensors that it has written to."""
        tensors = list(tensors_in((*args, *kwargs.values())))
        is_constant = all(id(each) in self._constants for each in tensors)
        is_raw = not is_product and all(id(each) in self._raw or id(each) in self._constants for each in tensors)
        written = None if is_constant else written_tensor(func, args, kwargs)
        if written is not None:
            changed = [*forget(self._constants, written), *forget(self._raw, written)]
            self._raw |= {id(each): each for each in changed if is_raw}
        for each in tensors_in((result,)):
            if is_constant:
                self._constants[id(each)] = each
            elif is_raw:
                self._raw[id(each)] = each
            else:  # written over
                self._raw.pop(id(each), None)
