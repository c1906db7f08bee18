"""Sites in front of every product: at the input of each linear map and convolution, and at each operand of a product.

The network keeps its class, its code and the names of its weights. The site of a map is a child of it, `input_site`,
which a forward pre-hook calls. Products that are functions are answered by modules (`products`), as activations are by
sites (`redirection`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.neurons import QCFS

from .discovery import throwaway
from .products import PRODUCTS, operand_site, operands_of, product_kind
from .redirection import FORWARDS, CallKey, CallSites, place_of_call, redirect

MAPS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
"""Modules whose input is one operand of a product, and whose weight is the other."""

INPUT_SITE = "input_site"


def feed_from_input_site(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of a map: its input passes its site first."""
    return (module.input_site(args[0]), *args[1:])  # type: ignore[operator]


@dataclass
class _Products:
    """Products that were seen."""

    maps: Counter[str] = field(default_factory=Counter)
    """Path of a map -> its calls in a pass."""

    reads_image: set[str] = field(default_factory=set)
    """Maps that read the image itself, or a constant."""

    calls: dict[str, dict[tuple[CallKey, int], tuple[str, tuple[bool, ...]]]] = field(default_factory=dict)
    """Path of the module whose forward calls -> call -> (kind, which operands depend on the image)."""

    others: list[str] = field(default_factory=list)
    """Products that no site can be placed at, as "path (function)"."""


class _Watch(TorchFunctionMode):
    """Notes products, and for every tensor whether it is a constant, the image moved about, or computed from it."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.products = _Products()
        self._constants = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        self._raw = {id(image): image}
        self._stack: list[tuple[str, nn.Module, Counter[CallKey]]] = []

    def enter(self, path: str) -> Callable[..., None]:
        """The hook for the beginning of a forward."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if isinstance(module, MAPS):
                self.products.maps[path] += 1
                if id(args[0]) in self._raw or id(args[0]) in self._constants:
                    self.products.reads_image.add(path)
            self._stack.append((path, module, Counter()))

        return hook

    def leave(self, *_: Any) -> None:
        """A forward ends."""
        self._stack.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = list(_tensors_in((*args, *kwargs.values())))
        path, module, reached = self._stack[-1] if self._stack else ("", None, Counter())
        is_map = isinstance(module, MAPS)
        kind = None if is_map else product_kind(func)
        if kind is not None and module is not None:
            depends = tuple(id(each) not in self._constants for each in operands_of(func, args, kwargs))
            place = place_of_call(module, FORWARDS)
            if any(depends) and place is not None:
                if kind in PRODUCTS:
                    key: CallKey = (f"@{kind}", place)
                    self.products.calls.setdefault(path, {})[key, reached[key]] = (kind, depends)
                    reached[key] += 1
                else:
                    self.products.others.append(f"{path} ({kind})")
        result = func(*args, **kwargs)
        is_constant = all(id(each) in self._constants for each in tensors)
        is_raw = not is_map and kind is None and all(id(e) in self._raw or id(e) in self._constants for e in tensors)
        for each in _tensors_in((result,)):
            if is_constant:
                self._constants[id(each)] = each
            elif is_raw:
                self._raw[id(each)] = each
            else:  # written over
                self._raw.pop(id(each), None)
        return result


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors_in(value)
        elif isinstance(value, dict):
            yield from _tensors_in(value.values())


def place_at_products(model: nn.Module, make_site: Callable[[], QCFS], images: Tensor) -> list[str]:
    """Give every product of `model` a site at each operand that depends on the image, in place.

    Args:
        model: any network in evaluation mode.
        make_site: returns a new QCFS.
        images: [B, ...], to see the products with.

    Returns:
        Products that have no sites, as "path (function)".
    """
    spare = throwaway(model).eval()
    watch = _Watch(spare, images := images.clone())
    with torch.no_grad(), ExitStack() as stack:
        for path, module in spare.named_modules():
            stack.callback(module.register_forward_pre_hook(watch.enter(path)).remove)
            stack.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        with watch:
            spare(images)
    found = watch.products
    for path in found.maps:
        if path not in found.reads_image:
            linear = model.get_submodule(path)
            axis = -1 if isinstance(linear, nn.Linear) else 1
            linear.add_module(INPUT_SITE, operand_site(make_site, "input", axis))
            linear.register_forward_pre_hook(feed_from_input_site)
    for path, calls in found.calls.items():
        owner, call_sites = model.get_submodule(path), CallSites()
        for (key, number), (kind, depends) in calls.items():
            name = _free_name(owner, kind)
            owner.add_module(name, PRODUCTS[kind](make_site, depends))
            answers = call_sites.answers.setdefault(key, [])
            answers.extend([None] * (number + 1 - len(answers)))
            answers[number] = name
        redirect(owner, call_sites)
    return found.others


def _free_name(owner: nn.Module, wanted: str) -> str:
    name, number = wanted, 1
    while hasattr(owner, name):
        number += 1
        name = f"{wanted}_{number}"
    return name
