"""Networks with QCFS sites by name: an MST, or a quantised network of timm or torchvision."""

from __future__ import annotations

import dataclasses
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import (
    MODEL_NAMES,
    RELEASED_MASK_SITES,
    Architecture,
    MaskedSpikingTransformer,
    MSTConfig,
    build,
)
from mst.models.foreign import architecture
from mst.neurons import ALL_SITES, find_sites, mask_spikes
from mst.text import suggestion

from .checks import check_same
from .quantizer import quantize
from .spec import MaxPool, Placement, quantization_of


def create_model(
    name: str,
    *,
    num_levels: int = 16,
    masking_ratio: float = 0.0,
    mask_sites: str | tuple[str, ...] | None = None,
    mask_rule: str = "random",
    placement: Placement = "activations",
    image_site: bool = False,
    example: Tensor | None = None,
    max_pool: MaxPool = "keep",
    also: tuple[str, ...] = (),
    small_stem: bool = False,
    pretrained: bool = False,
    align_chans: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a network with QCFS activations by name: an MST, or any network of timm or torchvision, quantised.

    Args:
        name: one of `MODEL_NAMES`, any name of timm, or torchvision:NAME.
        num_levels: L of every site.
        masking_ratio, mask_sites, mask_rule: see `mask_spikes`; by default "attention" for an MST and "all" for others.
        placement, image_site, example: see `quantize`; sites at products need an example of the images.
        max_pool, also: see `quantize`; `also` by the names of torch's classes ("GELU"). Not for an MST.
        small_stem: see `use_small_stem`. Not for an MST.
        pretrained: fetch the published weights of that name. Thresholds still have to be set (`set_thresholds`).
        align_chans: channels to which a 1x1 convolution in front brings those of the images (in_chans); 0: none.
        options: fields of `MSTConfig`, or keyword arguments of the library's builder (num_classes, in_chans, ...).

    Raises:
        InputError: unknown name or option (suggests the nearest), a value out of range, a network without a ReLU, or
            weights that cannot be fetched.
    """
    is_mst = name in MODEL_NAMES
    if is_mst:
        _refuse_on_mst(name, max_pool=max_pool != "keep", also=bool(also), small_stem=small_stem, pretrained=pretrained)
        options = _mst_options(options, align_chans)
    if not is_mst or placement != "activations":
        own = architecture(name, {**options, "activation": "clip"}) if is_mst else None
        network = quantize_named(
            own or architecture(name, options, small_stem, align_chans),
            num_levels,
            also,
            pretrained,
            max_pool=max_pool,
            placement=placement,
            image_site=image_site,
            example=example,
        )
        if placement == "none" and not masking_ratio and mask_sites is None:
            return network
        usual = RELEASED_MASK_SITES if is_mst else (ALL_SITES,)
        return mask_spikes(network, masking_ratio, mask_sites or usual, mask_rule)
    if image_site:
        raise InputError(f"image_site has no effect with placement={placement!r}", remedy="give placement='products'")
    options |= {"num_levels": num_levels, "masking_ratio": masking_ratio, "mask_rule": mask_rule}
    if mask_sites is not None:
        options["mask_sites"] = (mask_sites,) if isinstance(mask_sites, str) else tuple(mask_sites)
    model: MaskedSpikingTransformer = timm.create_model(name, **options)
    return model


def _refuse_on_mst(name: str, *, pretrained: bool, **taken: bool) -> None:
    for option, is_set in taken.items():
        if is_set:
            raise InputError(f"{option} has no effect on {name}, which has no max-pool, no ReLU and its own stem")
    if pretrained:
        raise InputError(
            f"no weights are published for {name}", remedy="use mst.import_released or mst.load_checkpoint"
        )


def _mst_options(options: dict[str, Any], align_chans: int) -> dict[str, Any]:
    """Fields of `MSTConfig`, checked.

    Raises:
        InputError: an unknown one (suggests the nearest).
    """
    options = options | {"align_chans": align_chans}
    for option in ("depths", "num_heads"):  # of one stage
        if isinstance(options.get(option), int):
            options[option] = (options[option],)
    fields = [f.name for f in dataclasses.fields(MSTConfig)]
    for option in options:
        if option not in fields:
            raise InputError(
                f"unknown model option {option!r}", remedy=suggestion(option, fields, f"known: {', '.join(fields)}")
            )
    return options


def quantize_named(
    of: Architecture,
    num_levels: int,
    also: tuple[str, ...] = (),
    pretrained: bool = False,
    *,
    example: Tensor | None = None,
    **options: Any,
) -> nn.Module:
    """Build and quantise a network of a library.

    Args:
        of: the network.
        num_levels: see `quantize`.
        also: names of torch's activation classes.
        pretrained: fetch its published weights.
        example: see `quantize`; used where the placement needs one.
        options: other options of `quantize`.

    Raises:
        InputError: as `build` and `quantize`; a name in `also` that is not an activation of torch.
    """
    return quantize(
        build(of, pretrained),
        num_levels,
        also=activation_classes(also),
        example=None if options.get("placement", "activations") == "activations" else example,
        architecture=of,
        **options,
    )


def check_same_as_plain(quantized: nn.Module, images: Tensor) -> None:
    """Check that a network of a library, quantised, computes what the library's own network does (see `check_same`).

    Args:
        quantized: a network that `create_model` made. Others, and networks with average pools for max-pools, pass.
        images: [B, ...].

    Raises:
        InputError: the outputs differ.
    """
    noted = quantization_of(quantized)
    if noted is None or noted.architecture is None or noted.max_pool != "keep":
        return
    plain = build(noted.architecture)
    of_sites = {f"{name}.threshold" for name in find_sites(quantized)}
    weights = {name: tensor for name, tensor in quantized.state_dict().items() if name not in of_sites}
    plain.load_state_dict(weights, strict=False)
    check_same(plain, quantized, images, noted.caps, activation_classes(noted.also))


def activation_classes(names: tuple[str, ...]) -> tuple[type[nn.Module], ...]:
    activations = {name: getattr(torch.nn.modules.activation, name, None) for name in names}
    for name, kind in activations.items():
        known = torch.nn.modules.activation.__all__
        if name not in known or not isinstance(kind, type):
            raise InputError(f"{name!r} is not an activation of torch.nn", remedy=suggestion(name, known))
    return tuple(kind for kind in activations.values() if isinstance(kind, type))
