"""Reasons why a function is an obstacle, and remedies, which depend on its role in the network."""

from __future__ import annotations

import torch
from torch import nn

from mst.models import about_chance

from .obstacles import Obstacle
from .places import Place
from .tables import ACTIVATIONS, ATTENTION, GATES, MAXIMA, POWER_POOLS, RECURRENT

AT_OUTPUT = "read the network out before it: convert it without this function, and apply that to result.logits"
"""Remedy for a function whose result is the network's output."""

LEAVE_OUT_GATE = "leave out the gate that it belongs to, and train"


def unsupported(name: str, where: str, module: nn.Module, is_over_batch: bool = False) -> Place:
    """A function that no neuron computes, in the forward of `module`.

    Args:
        name: of the function.
        where: path of the module.
        module: the one whose forward calls it.
        is_over_batch: True if its result has no axis of images any more.
    """
    if name in ATTENTION:
        what = f"{name} hides products of activations and a softmax in one function"
        remedy = "build it from nn.Softmax and mst.ActivationProduct, with mst.QCFS on the queries, keys and values"
        return Place("analog", Obstacle(where, what, remedy))
    if name in RECURRENT:
        what = f"{name} hides its activations in one function"
        return Place("analog", Obstacle(where, what, "choose another network"))
    kind, is_whole = type(module).__name__, not list(module.children())
    place = "" if kind.lower() == name or name in GATES else f" in {kind}" if is_whole else f" in the forward of {kind}"
    what = f"{name}{place} has no spiking counterpart"
    if is_over_batch:
        return Place("analog", Obstacle(where, what, "let it act on each image alone, not on the batch"), AT_OUTPUT)
    return Place("analog", Obstacle(where, what, _in_place_of(name, module)), AT_OUTPUT, LEAVE_OUT_GATE)


def _in_place_of(name: str, module: nn.Module) -> str:
    """Replacement for a function inside the network."""
    if name in MAXIMA:
        return "make a maximum over places an nn.AdaptiveMaxPool2d(1) (1d, 3d), which conversion makes exact"
    if name in POWER_POOLS:
        return f"use nn.AvgPool{name[-2:]} or nn.MaxPool{name[-2:]}, and train"
    if name not in ACTIVATIONS:
        return "leave it out, or build it from linear maps, average pools, max-pools and mst.QCFS, and train"
    if type(module).__module__ == "torch.nn.modules.activation" or is_activation_of_user(module):
        return _replace_by_qcfs(module)
    if list(module.children()):
        return "make it a module of its own, so that mst.quantize can put a QCFS in its place, or leave it out"
    return "put the activation into a module of its own, so that mst.quantize(..., also=...) can replace it"


def is_activation_of_user(module: nn.Module) -> bool:
    """True if a QCFS may take its place: a module of a user's class, without parts and weights."""
    is_bare = not list(module.children()) and not list(module.parameters()) and not list(module.buffers())
    return is_bare and not type(module).__module__.startswith("torch.")


def _replace_by_qcfs(module: nn.Module) -> str:
    return f"replace it by QCFS, for example with mst.quantize(..., also=({type(module).__name__},)), and train"


def product(name: str, where: str, module: nn.Module) -> Place:
    """A product of two activations in the forward of `module`."""
    remedy = "leave a gate (squeeze-and-excitation) out; make a matrix product an mst.ActivationProduct"
    if is_activation_of_user(module):
        remedy = _replace_by_qcfs(module)
    return Place("analog", Obstacle(where, f"{name} of two activations", remedy))


def division(where: str) -> Place:
    """A division by an activation."""
    return Place("analog", Obstacle(where, "division by an activation", "leave it out, or divide by a constant"))


def norm_before_neuron(name: str, where: str, site: str) -> Place:
    """A normalisation by statistics of the image whose result a neuron reads."""
    remedy = "put a BatchNorm there, whose statistics are constants, or train without it"
    return Place("analog", Obstacle(where, f"{name} before the neuron {site}", remedy))


def rounding_division(name: str, where: str) -> Place:
    """A division whose result is rounded."""
    return Place("analog", Obstacle(where, f"{name} with a rounding_mode", "leave the rounding out, and train"))


def cast(name: str, where: str, before: torch.dtype, after: torch.dtype) -> Place:
    """A cast that changes values."""
    types = f"{str(before).removeprefix('torch.')} to {str(after).removeprefix('torch.')}"
    if after.is_floating_point and after.itemsize > 1 and name != "view":
        what = f"{name} from {types} rounds the values of each step, so that their mean may differ in its last places"
        return Place("approximate", Obstacle(where, what, ""))
    remedy = "keep floating-point values, or quantise them with mst.QCFS"
    return Place("analog", Obstacle(where, f"{name} from {types} computes other values", remedy), AT_OUTPUT)


def narrows(before: torch.dtype, after: torch.dtype) -> bool:
    """True if values of floating point lose something in the cast."""
    if not before.is_floating_point or after == before or after.is_complex:
        return False
    if not after.is_floating_point or after.itemsize == 1:
        return True
    return before.itemsize > 1 and torch.promote_types(before, after) != after


def nonlinear_end(name: str, where: str) -> Place:
    """A softmax or norm that rate coding carries as an approximation; worth a word where it is the output."""
    what = f"{name} at the output is computed at each step, and the mean of the results is not the ANN's; {AT_OUTPUT}"
    return Place("approximate_output", Obstacle(where, what, ""))


def chance(name: str, where: str) -> Place:
    """A function that draws random numbers in evaluation."""
    return Place("refused", Obstacle(where, *about_chance(name)))


def batch_statistics(where: str) -> Place:
    """BatchNorm by the statistics of the present batch."""
    what = "BatchNorm without running statistics mixes images and steps"
    remedy = "let it track its statistics (track_running_stats=True), and train"
    return Place("refused", Obstacle(where, what, remedy))


def leaves_torch(name: str, where: str) -> Place:
    """A value of Python, made of activations, that changes what the network computes."""
    return Place(
        "refused",
        Obstacle(
            where,
            f"{name.strip('_')}() makes a value of Python of activations, and the answer depends on it",
            "let each image have its own: write it with torch functions (torch.where, a product), or leave it out",
        ),
    )


def invisible(what: str, where: str) -> Place:
    """A tensor that depends on the image although no torch function has made it of the image."""
    return Place(
        "refused",
        Obstacle(
            where,
            f"{what} was made by code that torch does not show",
            "write scripted or compiled functions, and in-place writes into views, as plain torch functions",
        ),
    )


def constant_output() -> Place:
    """An output that is the same for every image."""
    return Place(
        "refused", Obstacle("", "the output depends on no image", "return what the network makes of its input")
    )


def used_twice(where: str) -> Place:
    """A neuron that is used twice."""
    return Place("refused", Obstacle(where, "used several times in one pass", "give each use a QCFS of its own"))
