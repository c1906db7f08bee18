"""Any network with ReLU-like activations -> the same network with QCFS in their places."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn

from mst.data import ImageData, image_batches
from mst.errors import InputError
from mst.models import (
    Architecture,
    ClippedReLU,
    MaskedSpikingTransformer,
    NetworkInput,
    ann_of,
    architecture_of,
    check_one_tensor_in,
    copy_network,
    refuse_chance,
    set_submodule,
)
from mst.neurons import QCFS, find_sites
from mst.numbers import whole_number

from .biases import correct_biases
from .calibration import in_evaluation, set_thresholds
from .checks import as_taken, check_reached, check_same
from .fitting import DEFAULT_PERCENTILE, ThresholdFrom
from .placement import place_at_products
from .replacement import Replacement, replace_activations
from .spec import MaxPool, Placement, Quantization, note_quantization, quantization_of

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


@torch.inference_mode(False)  # a network made in inference mode could never be trained
def quantize(
    model: Model,
    num_levels: int = 16,
    calibration: ImageData | None = None,
    *,
    placement: Placement = "activations",
    image_site: bool = False,
    threshold_from: ThresholdFrom = "least_squares",
    percentile: float = DEFAULT_PERCENTILE,
    per_channel: bool = False,
    bias_correction: bool = False,
    max_pool: MaxPool = "keep",
    also: Iterable[type[nn.Module]] = (),
    example: ImageData | None = None,
    architecture: Architecture | None = None,
) -> Model:
    """A copy of `model` whose ReLU-like activations are QCFS sites, ready for training, masking and conversion.

    Modules (ReLU, ReLU6, Hardtanh from 0) and functions (F.relu, torch.relu, x.relu(), x.clamp(min=0), F.relu6, ...)
    are found; one that is used several times becomes one site for each use. The network keeps its class, its code and
    the names of its weights. BatchNorm stays until `mst.convert` folds it.

    Functions are found without images as far as torch.fx can follow the forward that calls them. A forward that it
    cannot follow (a shape check, a branch on values) is watched on images instead, those of `calibration` or `example`.
    With images the quantised network is also checked: with ReLU at its sites it computes what `model` does, and reaches
    the same sites with gradients, without, in inference mode and under autocast.

    With placement "products" the sites stand at the operands of products instead: at the input of every linear map and
    convolution but those that read the image itself, at the queries, keys, values and softmax of attention, and at both
    operands of other products. A map or product that is called several times in a pass has a site for each call.
    Activations and norms (GELU, LayerNorm, softmax, ...) stay as functions between the sites, so a network need not
    have a ReLU, nor be trained again. Levels may be negative. Attention in one call is taken apart into its
    products. Lossless coding carries such a network. A Masked Spiking Transformer, which has sites at its activations
    already, keeps these as clipped ReLUs of the same thresholds; masks are left out.

    With placement "none" nothing is replaced: the copy computes in floating point and can be trained, saved and loaded
    like the others, to be quantised later. An example notes the shape of its images, which `mst.train` does too.

    Max-pools stay, and `mst.convert` makes them exact for spikes, at the cost of a counter for each of their inputs.
    "average" replaces them by average pools, which need no counters; the network then has to be trained with them. A
    max-pool that is a function stays as it is and sends too many spikes; `mst.convert` notes it.

    Args:
        model: any network; it does not change.
        num_levels: L of every site; at an operand the levels above the lowest, 2^b - 1 for b bits.
        calibration: a few hundred images, in any form of `mst.data.ImageData` (a tensor, a DataLoader, a data set), to
            set the thresholds from. The network runs on them with ReLU (ReLU6, ...) at every site. For a network that
            has been trained; None leaves every threshold at 2, which is the better start for training from scratch.
        placement: "activations", "products" or "none"; "products" needs calibration, or an example.
        image_site: for placement "products": a site also before what reads the image itself, so that the image comes in
            as spikes, and no weight meets an analog value.
        threshold_from: for placement "activations". "least_squares" makes QCFS nearest to the activation that it
            replaces; "max" takes the largest value seen; "percentile" the value that this percentage of the positive
            ones does not exceed.
        percentile: in (0, 100].
        per_channel: a threshold for each channel rather than one for the site.
        bias_correction: take the shift that quantisation makes in the mean of each channel out of the biases, see
            `correct_biases`; for a trained network that is not trained again.
        max_pool: "keep" or "average".
        also: further module classes to replace, for example nn.GELU; the network then has to be trained.
        example: images [B, ...] to watch and check the network on where there is no calibration; no threshold changes.
        architecture: how to build the network again, for checkpoints; `mst.create_model` fills it in, and a network
            with placement "none" brings it along.

    Returns:
        The copy, which carries its `Quantization` as `network_spec`.

    Raises:
        InputError: no activation to replace (with the reason why a forward could not be followed); num_levels below 1;
            an unknown choice, or one that has no effect; no calibration images, or images that the network does not
            take; per_channel or bias_correction without calibration, or no bias to correct; NaN or infinity in weights
            or images; a network that would compute something else (see `check_same`) or that reaches other sites in
            another mode (see `check_reached`); a product at which no site can be placed (a recurrent layer in one
            function, weights computed from the image, a function in a graph of torch.fx).

    Source: Masked Spiking Transformer (ICCV 2023) for QCFS; `fit_threshold` for the least squares.
    """
    needs_images = {"per_channel": per_channel, "bias_correction": bias_correction}
    _check_choices(placement, max_pool, image_site, needs_images, has_calibration=calibration is not None)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a scripted network's code cannot be changed", remedy="quantise it first, then script it")
    has_images = calibration is not None or example is not None
    model = ann_of(model, "mst.quantize", "quantise the ANN, then convert it", has_weights=has_images)  # type: ignore[assignment]
    num_levels, classes = whole_number("num_levels", num_levels, 1), tuple(also)
    if isinstance(model, MaskedSpikingTransformer) and placement != "activations":
        model = model.without_sites()  # type: ignore[assignment]
        architecture = architecture or architecture_of(model.config)
    if placement == "none":
        _refuse_without_sites(
            calibration=calibration is not None, also=bool(classes), max_pool=max_pool != "keep", **needs_images
        )
        return _without_sites(model, num_levels, example, architecture)
    batches = list(image_batches(calibration)) if calibration is not None else []
    example = next(image_batches(example), None) if example is not None else None
    images = batches[0] if batches else example
    quantized, caps, noted = _placed(model, num_levels, classes, images, placement, image_site)
    architecture = architecture or (None if noted is None else noted.architecture)
    pools = _replace_max_pools(quantized) if max_pool == "average" else []
    sites = find_sites(quantized)
    shapes = None
    if calibration is not None:
        shapes = set_thresholds(quantized, batches, caps, threshold_from, percentile, per_channel)
    elif example is not None:
        shapes = _shapes(quantized, example)
    logger.info("%d sites%s", len(sites), f", {len(pools)} max-pools became average pools" if pools else "")
    quantized.network_spec = Quantization(  # type: ignore[assignment]
        num_levels=num_levels,
        max_pool=max_pool,
        also=tuple(sorted(kind.__name__ for kind in classes)),
        placement=placement,
        image_site=image_site,
        caps=caps,
        image_shape=shapes[0] if shapes else None,
        num_classes=shapes[1] if shapes else None,
        architecture=architecture,
        class_name=type(model).__name__,
    )
    if bias_correction:
        correct_biases(quantized, batches)
    return quantized


def _placed(
    model: Model,
    num_levels: int,
    also: tuple[type[nn.Module], ...],
    images: Tensor | None,
    placement: Placement,
    image_site: bool,
) -> tuple[Model, dict[str, float], Quantization | None]:
    """A copy with sites, checked on images; the largest outputs of what they replaced, and what `model` had noted."""
    with NetworkInput(model).shown(images) if images is not None else nullcontext():
        if placement == "products":
            quantized, caps = _with_operand_sites(model, num_levels, also, images, image_site)
        else:
            quantized, caps = _with_sites(model, num_levels, also, images)
        noted = quantization_of(quantized)
        if noted is not None:  # of a network without sites, trained in floating point; its levels are not these
            del quantized.network_spec
        if images is not None:
            check_same(model, quantized, images, caps, also)
            check_reached(quantized, images)
    return quantized, caps, noted


def _check_choices(
    placement: str, max_pool: str, image_site: bool, needs_images: Mapping[str, bool], *, has_calibration: bool
) -> None:
    """Check the options of `quantize` that do not depend on the network."""
    if placement not in get_args(Placement):
        raise InputError(f"placement must be one of {', '.join(get_args(Placement))}, got {placement!r}")
    if max_pool not in get_args(MaxPool):
        raise InputError(f"max_pool must be one of {', '.join(get_args(MaxPool))}, got {max_pool!r}")
    if image_site and placement != "products":
        raise InputError(f"image_site has no effect with placement={placement!r}", remedy="give placement='products'")
    for option, is_given in needs_images.items():
        if is_given and not has_calibration:
            raise InputError(f"what {option} changes is set from images", remedy="give calibration")


def _refuse_without_sites(**given: bool) -> None:
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise InputError(f"{', '.join(names)} would have no effect with placement='none', which sets no sites")


def _without_sites(
    model: Model, num_levels: int, example: ImageData | None, architecture: Architecture | None
) -> Model:
    """A copy with the description that a checkpoint needs, and nothing else."""
    plain = copy_network(model)
    plain.network_spec = Quantization(  # type: ignore[assignment]
        num_levels=num_levels, placement="none", architecture=architecture, class_name=type(model).__name__
    )
    image = next(image_batches(example), None) if example is not None else None
    if image is not None:
        shape, num_classes = _shapes(plain, image)
        note_quantization(plain, image_shape=shape, num_classes=num_classes)
    return plain


def _with_operand_sites(
    model: Model, num_levels: int, also: tuple[type[nn.Module], ...], images: Tensor | None, image_site: bool
) -> tuple[Model, dict[str, float]]:
    """A copy with a site at each operand of a product, and no largest outputs, since no activation is replaced."""
    if also:
        raise InputError("also has no effect on sites at products", remedy="leave it out: activations stay as they are")
    if images is None:
        raise InputError(
            "sites at products are placed by watching the network on images",
            remedy="give calibration=images, or example=images",
        )
    check_one_tensor_in(model)
    quantized = copy_network(model)
    if find_sites(quantized):
        raise InputError(f"{type(model).__name__} has QCFS sites already; there is nothing to quantise")
    shown = as_taken(images[:2], model)
    refuse_chance(copy_network(model).eval(), shown)
    lowest = -(num_levels // 2)
    place_at_products(quantized, lambda: QCFS(num_levels + lowest, min_level=lowest), shown, image_site=image_site)
    if not find_sites(quantized):
        raise InputError(f"{type(model).__name__} has no product of something computed from the image")
    like = next(model.parameters(), None)
    if like is not None:
        for site in find_sites(quantized).values():
            site.to(like.device, like.dtype)
    return quantized, {}


def _with_sites(
    model: Model, num_levels: int, also: tuple[type[nn.Module], ...], images: Tensor | None
) -> tuple[Model, dict[str, float]]:
    """A copy with a site for each use of an activation, and the largest outputs of those that saturate."""
    name = type(model).__name__
    check_one_tensor_in(model)
    quantized = copy_network(model)
    if images is not None:
        refuse_chance(copy_network(model).eval(), as_taken(images[:2], model))
    if find_sites(quantized):
        raise InputError(f"{name} has QCFS sites already; there is nothing to quantise")
    root_is_activation = not list(quantized.children()) and isinstance(quantized, nn.ReLU)
    found = replace_activations(
        quantized, lambda: QCFS(num_levels), also, None if images is None else as_taken(images[:2], model)
    )
    if root_is_activation or not found.caps:
        raise _nothing_found(model, found)
    for path, reason in found.not_followed.items():
        logger.warning(
            "%s: activations that are functions in its forward stay, because torch.fx cannot follow it (%s); give "
            "example= or calibration= images to find them", path or name, reason,
        )  # fmt: skip
    like = next(model.parameters(), None)
    if like is not None:
        for site in find_sites(quantized).values():
            site.to(like.device, like.dtype)
    return quantized, {site: cap for site, cap in found.caps.items() if cap is not None}


def _nothing_found(model: nn.Module, found: Replacement) -> InputError:
    name = type(model).__name__
    if not found.not_followed:
        return InputError(
            f"{name} has no ReLU-like activation to replace",
            remedy="name the classes of others in also=(...), write one of your own (x * (x > 0), torch.maximum(x, 0)) "
            "as F.relu, put mst.QCFS there yourself, or choose placement='products', which needs none",
        )
    path, reason = next(iter(found.not_followed.items()))
    others = f", and {len(found.not_followed) - 1} more" if len(found.not_followed) > 1 else ""
    return InputError(
        f"the activations of {name} are functions in forwards that cannot be followed without images: "
        f"{path or name} ({reason}){others}",
        remedy="give images that the network takes, quantize(..., example=images) or calibration=images, or make its "
        "activations nn.ReLU modules",
    )


def _shapes(quantized: nn.Module, example: Tensor) -> tuple[tuple[int, ...], int | None]:
    """The shape of one image, and the length of the output."""
    with torch.no_grad(), in_evaluation(quantized):
        output = quantized(as_taken(example[:1], quantized))
    return tuple(example.shape[1:]), output.shape[1] if isinstance(output, Tensor) and output.dim() == 2 else None


def _replace_max_pools(model: nn.Module) -> list[str]:
    """Put average pools of the same windows in place of max-pools; returns their paths."""
    replaced = []
    for name, pool in list(model.named_modules(remove_duplicate=False)):
        if isinstance(pool, nn.MaxPool2d):
            if pool.dilation not in (1, (1, 1)):
                raise InputError(f"a max-pool with dilation {pool.dilation} has no average pool like it", where=name)
            average = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
            set_submodule(model, name, average)
            replaced.append(name)
    if not replaced:
        raise InputError(f"max_pool='average' has no effect: {type(model).__name__} has no nn.MaxPool2d")
    return replaced


def shape_thresholds(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give every site and clipped ReLU a threshold of the shape that `state` holds for it, ready to be loaded."""
    for name, module in model.named_modules():
        stored = state.get(f"{name}.threshold")
        if isinstance(module, QCFS | ClippedReLU) and stored is not None and stored.shape != module.threshold.shape:
            module.threshold = nn.Parameter(torch.full_like(stored, 2.0))
