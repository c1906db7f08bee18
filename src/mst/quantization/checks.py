"""Checks that a quantised network is the plain one with sites in it, and reaches them in every mode of torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import NetworkInput, copy_network, set_submodule
from mst.neurons import find_sites
from mst.neurons.site import noting_sites

from .calibration import acting_as_relu, in_evaluation


def as_taken(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the device and in the floating-point type of the network."""
    return NetworkInput(model, has_warned=True).take(images)


def check_same(
    plain: nn.Module,
    quantized: nn.Module,
    images: Tensor,
    caps: Mapping[str, float],
    also: tuple[type[nn.Module], ...] = (),
) -> None:
    """Check that the quantised network, its sites acting as ReLU, computes what the plain one does.

    Args:
        plain: the network before quantisation.
        quantized: the network after it.
        images: [B, ...].
        caps: site -> largest output of the activation that it replaced, for those that saturate.
        also: module classes that were replaced although they are not ReLU-like; both sides use ReLU for them.

    Raises:
        InputError: the outputs differ.
    """
    if also:
        plain = copy_network(plain)
        for name, module in list(plain.named_modules(remove_duplicate=False)):
            if name and isinstance(module, also):
                set_submodule(plain, name, nn.ReLU())
    batch = as_taken(images[:2], plain)
    with torch.no_grad(), in_evaluation(plain), in_evaluation(quantized), acting_as_relu(quantized, caps):
        before, after = plain(batch.clone()), quantized(batch.clone())
    is_float = isinstance(before, Tensor) and before.is_floating_point()
    tolerance = max(1e-3, 8 * torch.finfo(before.dtype).eps) if is_float else 1e-3  # attention taken apart rounds more
    if isinstance(before, Tensor) and not torch.allclose(
        before, after, rtol=tolerance, atol=tolerance * float(before.abs().max())
    ):
        raise InputError(
            f"{type(plain).__name__} with sites in place of its activations computes something else",
            remedy="if an activation overwrites what another module reads later, make it inplace=False; if the network "
            "draws random numbers or keeps values from call to call, turn that off in evaluation",
        )


def check_reached(quantized: nn.Module, images: Tensor) -> None:
    """Check that the quantised network reaches the same sites in evaluation whatever torch's mode.

    Torch computes some layers in one fused function where no gradient is asked for, which passes over their sites.

    Args:
        quantized: a network with sites.
        images: [B, ...].

    Raises:
        InputError: a site is reached with gradients, and not without, in inference mode or under autocast.
    """
    batch = as_taken(images[:2], quantized)
    names = {site: name for name, site in find_sites(quantized).items()}
    modes: dict[str, AbstractContextManager[Any]] = {
        "with gradients": torch.enable_grad(),
        "without gradients": torch.no_grad(),
        "in inference mode": torch.inference_mode(),
        "under autocast": torch.autocast(batch.device.type, torch.bfloat16),
    }
    reached: dict[str, set[str]] = {}
    for mode, entered in modes.items():
        with in_evaluation(quantized), noting_sites() as sites, entered:
            try:
                quantized(batch.clone())
            except Exception:  # a mode that the network does not take is not one that it will be run in
                if mode == "with gradients":
                    raise
                continue
        reached[mode] = {names[site] for site in sites if site in names}
    for mode, sites_reached in reached.items():
        missed = sorted(set().union(*reached.values()) - sites_reached)
        if missed:
            raise InputError(
                f"{mode} its forward passes over {', '.join(missed)}",
                where=type(quantized).__name__,
                remedy="write the layer of these activations in modules that torch does not fuse, and without branches "
                "on the mode",
            )
