"""Sites in front of every product: at the input of each linear map and convolution, and at each operand of a product.

The network keeps its class, its code and the names of its weights. The site of a map is a child of it, `input_site`,
which a forward pre-hook calls. Products that are functions are answered by modules (`products`), as activations are by
sites (`redirection`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from mst.errors import InputError
from mst.neurons import QCFS

from .discovery import forget, tensors_in, throwaway, written_tensor
from .heads import Heads
from .products import OTHER_PRODUCTS, PRODUCTS, operand_site, operands_of, product_kind
from .redirection import FORWARDS, CallKey, CallSites, place_of_call, redirect

MAPS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
"""Modules whose input is one operand of a product, and whose weight is the other."""

INPUT_SITE = "input_site"


def feed_from_input_site(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of a map: its input passes its site first."""
    x, *others = (*args, *([] if args else [kwargs.pop("input")]))
    return (module.input_site(x), *others), kwargs  # type: ignore[operator]


@dataclass
class _Products:
    """Products that were seen."""

    maps: Counter[str] = field(default_factory=Counter)
    """Path of a map -> its calls in a pass."""

    reads_image: Counter[str] = field(default_factory=Counter)
    """Path of a map -> its calls that read the image itself, or a constant."""

    calls: dict[str, dict[tuple[CallKey, int], tuple[str, tuple[bool, ...]] | None]] = field(default_factory=dict)
    """Path of the module whose forward calls -> call -> (kind, which operands depend on the image); None for a call
    whose operands are all constants."""

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

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if isinstance(module, MAPS):
                x = args[0] if args else kwargs["input"]
                self.products.maps[path] += 1
                if id(x) in self._raw or id(x) in self._constants:
                    self.products.reads_image[path] += 1
            self._stack.append((path, module, Counter()))

        return hook

    def leave(self, *_: Any) -> None:
        """A forward ends."""
        self._stack.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        path, module, reached = self._stack[-1] if self._stack else ("", None, Counter())
        is_map = isinstance(module, MAPS)
        kind = product_kind(func) if not is_map and "out" not in kwargs else None
        if kind is not None and module is not None:
            self._note(kind, path, module, reached, operands_of(func, args, kwargs))
        elif not is_map and self._is_analog(func, (*args, *kwargs.values())):
            self.products.others.append(f"{path or type(module).__name__} ({func.__name__})")
        result = func(*args, **kwargs)
        self._follow(func, args, kwargs, result, is_product=is_map or kind is not None)
        return result

    def _note(
        self, kind: str, path: str, module: nn.Module, reached: Counter[CallKey], operands: tuple[Tensor, ...]
    ) -> None:
        depends = tuple(id(each) not in self._constants for each in operands)
        place = place_of_call(module, FORWARDS)
        if place is None:
            return
        if kind == "heads":
            query, key_of, value = operands
            own = (True, key_of is not query, value is not query and value is not key_of)
            depends = (*depends, *own)
        if kind in MODULES:
            key: CallKey = (f"@{kind}", place)
            calls = self.products.calls.setdefault(path, {})
            calls[key, reached[key]] = (kind, depends) if any(depends) else None
            reached[key] += 1
        elif any(depends):
            self.products.others.append(f"{path} ({kind})")

    def _is_analog(self, function: Callable[..., Any], values: tuple[Any, ...]) -> bool:
        """True for a product that no module stands for, of something computed from the image."""
        tensors = tensors_in(values) if function in OTHER_PRODUCTS else ()
        return any(id(each) not in self._constants and id(each) not in self._raw for each in tensors)

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


def _heads(make_site: Callable[[], QCFS], depends: tuple[bool, ...]) -> nn.Module:
    return Heads(make_site, depends[:3], depends[3:])


MODULES: dict[str, Callable[[Callable[[], QCFS], tuple[bool, ...]], nn.Module]] = {**PRODUCTS, "heads": _heads}
"""Kind of a call -> the module that takes its place."""


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
            stack.callback(module.register_forward_pre_hook(watch.enter(path), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        with watch:
            spare(images)
    found = watch.products
    for module in model.modules():  # keep torch from computing whole layers in one fused function
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    for path in found.maps:
        if not found.reads_image[path]:
            linear = model.get_submodule(path)
            axis = -1 if isinstance(linear, nn.Linear) else 1
            linear.add_module(INPUT_SITE, operand_site(make_site, "input", axis))
            linear.register_forward_pre_hook(feed_from_input_site, with_kwargs=True)
        elif found.reads_image[path] < found.maps[path]:
            found.others.append(f"{path} (called {found.maps[path]} times, also with the image itself or a constant)")
    for path, calls in found.calls.items():
        owner, call_sites = model.get_submodule(path), CallSites()
        if not any(calls.values()):
            continue
        if isinstance(owner, fx.GraphModule):
            raise InputError(
                "a product that is a function in a graph of torch.fx gets no sites",
                where=path or type(owner).__name__,
                remedy="quantise the network that the graph was traced from",
            )
        for (key, number), call in calls.items():
            answers = call_sites.answers.setdefault(key, [])
            answers.extend([None] * (number + 1 - len(answers)))
            if call is not None:
                kind, depends = call
                answers[number] = _free_name(owner, kind)
                owner.add_module(str(answers[number]), MODULES[kind](make_site, depends))
        redirect(owner, call_sites)
    return found.others


def _free_name(owner: nn.Module, wanted: str) -> str:
    name, number = wanted, 1
    while hasattr(owner, name):
        number += 1
        name = f"{wanted}_{number}"
    return name
