"""Sites in front of every product: at the input of each linear map and convolution, and at each operand of a product.

The network keeps its class, its code and the names of its weights. The site of a map is a child of it, `input_site`,
which a forward pre-hook calls; a map that is called several times has a site for each call. Products that are functions
are answered by modules (`kinds`), as activations are by sites (`redirection`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from mst.errors import InputError
from mst.models import ActivationProduct
from mst.neurons import QCFS

from .kinds import Make
from .products import operand_site
from .redirection import CallKey, CallSites, redirect
from .repeats import calls_of, number_calls
from .survey import Survey, survey_products

INPUT_SITE = "input_site"

_OPERAND_SITES = ("left_site", "right_site")
"""Sites of an `ActivationProduct`."""


def feed_from_input_site(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of a map: its input passes its site first."""
    x, *others = (*args, *([] if args else [kwargs.pop("input")]))
    return (module.input_site(x), *others), kwargs  # type: ignore[operator]


def feed_from_site_of_call(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of a map that is called several times: its input passes the site of this call first.

    Raises:
        InputError: more calls than when the network was quantised.
    """
    names, calls = module.__dict__[_SITES_OF_CALLS], calls_of(module)
    number = calls[INPUT_SITE]
    calls[INPUT_SITE] += 1
    if number >= len(names):
        raise InputError(
            f"a {type(module).__name__} is called more than {len(names)} times in one pass, as often as when the "
            "network was quantised",
            remedy="quantise with images that reach every call (example= or calibration=)",
        )
    x, *others = (*args, *([] if args else [kwargs.pop("input")]))
    name = names[number]
    return (x if name is None else module.get_submodule(name)(x), *others), kwargs


def feed_from_operand_sites(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of an `ActivationProduct`: each operand passes its site first."""
    operands = (*args, *(kwargs[name] for name in ("left", "right")[len(args) :]))
    sites = (getattr(module, name, None) for name in _OPERAND_SITES)
    return tuple(x if site is None else site(x) for x, site in zip(operands, sites, strict=True)), {}


_SITES_OF_CALLS = "_sites_of_calls"
"""Attribute of a map that is called several times: for each call the name of its site; None where it has none."""


def place_at_products(
    model: nn.Module, make_site: Callable[[], QCFS], images: Tensor, *, image_site: bool = False
) -> None:
    """Give every product of `model` a site at each operand that is computed from the image, in place.

    Args:
        model: any network in evaluation mode.
        make_site: returns a new QCFS.
        images: [B, ...], to see the products with.
        image_site: True for a site also at operands that are the image itself.

    Raises:
        InputError: products at which no site can be placed, all of them.
    """
    found = survey_products(model, images, image_site)
    if found.refused:
        raise _no_sites(type(model).__name__, found.refused)
    for module in model.modules():  # keep torch from computing whole layers in one fused function
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    for path, calls_of_map in found.maps.items():
        module = model.get_submodule(path)
        if isinstance(module, ActivationProduct):
            _feed_product(module, path, calls_of_map, make_site)
        else:
            _feed(module, [has_site for (has_site,) in calls_of_map], make_site)
    for path, calls in found.calls.items():
        if any(calls.values()):
            _answer(model.get_submodule(path), path, calls, make_site)
    _number_calls(model, found)


def _no_sites(name: str, refused: Mapping[str, InputError]) -> InputError:
    """The error for products that no site can be placed at: each reason with the places of all its products."""
    places: dict[str, list[str]] = {}
    for place, error in refused.items():
        places.setdefault(error.what, []).append(place)
    count = "1 product" if len(refused) == 1 else f"{len(refused)} products"
    reasons = "; ".join(f"{', '.join(where)}: {what}" for what, where in places.items())
    remedies = dict.fromkeys(error.remedy for error in refused.values())
    return InputError(f"no site can be placed at {count} of {name}: {reasons}", remedy="; ".join(remedies))


def _feed(linear: nn.Module, has_site: list[bool], make_site: Callable[[], QCFS]) -> None:
    """Sites at the input of a map, one for each call that is to have one."""
    if not any(has_site):
        return
    axis = -1 if isinstance(linear, nn.Linear) else 1
    names = [
        _free_name(linear, INPUT_SITE, add=operand_site(make_site, "input", axis)) if each else None
        for each in has_site
    ]
    if len(has_site) > 1:
        linear.__dict__[_SITES_OF_CALLS] = tuple(names)
    feed = feed_from_input_site if len(has_site) == 1 else feed_from_site_of_call
    linear.register_forward_pre_hook(feed, with_kwargs=True)


def _feed_product(
    product: ActivationProduct, path: str, calls: list[tuple[bool, ...]], make_site: Callable[[], QCFS]
) -> None:
    """A site at each operand of a product that depends on the image.

    Raises:
        InputError: it is called several times in one pass.
    """
    if len(calls) > 1:
        raise InputError(
            f"an mst.ActivationProduct is called {len(calls)} times in one pass",
            where=path,
            remedy="give each call an ActivationProduct of its own",
        )
    axes = (None, None if product.transpose_right else -1)  # the product adds up over the others
    for name, has_site, role, axis in zip(_OPERAND_SITES, calls[0], product.roles, axes, strict=True):
        if has_site:
            product.add_module(name, operand_site(make_site, role, axis))
    if any(calls[0]):
        product.register_forward_pre_hook(feed_from_operand_sites, with_kwargs=True)


def _answer(
    owner: nn.Module, path: str, calls: dict[tuple[CallKey, int], Make | None], make_site: Callable[[], QCFS]
) -> None:
    """Modules that answer the products in the forward of `owner`."""
    if isinstance(owner, fx.GraphModule):
        raise InputError(
            "a product that is a function in a graph of torch.fx gets no sites",
            where=path or type(owner).__name__,
            remedy="quantise the network that the graph was traced from",
        )
    call_sites = CallSites()
    for (key, number), make in calls.items():
        answers = call_sites.answers.setdefault(key, [])
        answers.extend([None] * (number + 1 - len(answers)))
        if make is not None:
            answers[number] = _free_name(owner, key[0].removeprefix("@"), add=make(make_site))
    redirect(owner, call_sites)


def _number_calls(model: nn.Module, found: Survey) -> None:
    """Let the calls of modules that are called several times be told apart."""
    for path in (*found.maps, *found.calls):
        within = found.within.get(path)
        if within is not None:
            number_calls(model, path, within)


def _free_name(owner: nn.Module, wanted: str, add: nn.Module) -> str:
    """Add a child to `owner` under the name that is wanted, or that name with a number; returns the name."""
    name, number = wanted, 1
    while hasattr(owner, name):
        number += 1
        name = f"{wanted}_{number}"
    owner.add_module(name, add)
    return name
