"""ANN -> SNN: every activation site becomes a neuron, and the result lists which became what."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.data import ImageData, image_batches
from mst.dataflow import THE_NETWORK, ConversionError, Dataflow, Obstacle, trace_dataflow
from mst.errors import InputError
from mst.models import NetworkInput, ann_of, check_one_tensor_in, copy_network, set_submodule
from mst.neurons import (
    DEFAULT_SCHEDULE,
    MAX_POOLS,
    QCFS,
    FiringSchedule,
    ScheduleName,
    SignedIFNeuron,
    SpikingMaxPool,
    SpikingNeuron,
    check_burst,
    find_sites,
    named_schedule,
)
from mst.quantization import image_shape_of

from .codings import CODINGS, Coding, coding_of, no_effect
from .examination import LEFTOVER_ACTIVATIONS, refuse_leftover_activations
from .folding import fold_batch_norms
from .independence import refuse_dependent_answers
from .initial_levels import median_levels, set_initial_levels
from .spiking_network import SiteConversion, SpikingNetwork


@torch.inference_mode(False)  # a network made in inference mode could never be changed again
def convert(
    model: nn.Module,
    coding: str | Coding = "rate",
    example: ImageData | None = None,
    *,
    burst: int = 1,
    schedule: ScheduleName | FiringSchedule | None = None,
    initial_images: ImageData | None = None,
) -> SpikingNetwork:
    """Turn an ANN with QCFS activations into a spiking neural network. The ANN is left as it was.

    Rate coding: each QCFS becomes an integrate-and-fire neuron with the same threshold; for a constant input
    and T = L steps its mean output equals the QCFS output. A max-pool becomes one of running sums (`SpikingMaxPool`),
    which is exact. BatchNorm folds into the linear map whose output it alone reads.

    Lossless coding: each QCFS becomes a signed integrate-and-fire neuron, and what flows is the change of each
    activation. Once no neuron can fire any more, the output equals the ANN's. Any function may lie between the neurons.
    The weights stay as they are, so that sums round as the ANN's do (a chip would fold BatchNorm; operations are
    counted as if it had). See docs/maths.md.

    One image is run through the network to see every function on its way: what the coding cannot carry is refused. So
    is, under every coding, a network whose answer to an image depends on other images, on chance or on earlier calls;
    for that it runs several times, also on an image of random values. What depends on no image stays a constant. The
    shape of an image is known of an MST and of what `mst.quantize` calibrated; for others give an example. Without
    one only a coding that needs none (rate) is possible; then only the kinds of the modules are examined, nothing is
    folded, and `mst.simulate` examines the first image.

    Args:
        model: a network whose activations are `mst.neurons.QCFS`; wrappers of torch around it are left out (see
            `mst.models.unwrapped`).
        coding: "rate", "lossless", or another registered coding (see `mst.register_coding`).
        example: images [B, ...], of which the first is used; any form of `mst.data.ImageData` will do.
        burst: maximum spikes per neuron per step, for codings with a schedule. Larger bursts settle in fewer steps.
        schedule: for codings with a schedule: "weighted" (the default, of the fewest spikes that carry a sign alone),
            "free" (the default with sites at products; spikes carry an exponent too), or with spikes of one quantum
            "staggered" or "plain" (see `mst.neurons.named_schedule`), or a custom `FiringSchedule`, which has its own
            burst.
        initial_images: for lossless coding: images, in any form of `mst.data.ImageData`, that are not reported on. Each
            neuron then starts from its median level over these, as a constant of the network, and its spikes carry what
            differs. None: from 0.

    Returns:
        The spiking network, a copy in evaluation mode, with what its `sites` became, what was `folded`, and `notes`.

    Raises:
        ConversionError: places that the coding cannot carry, all of them, each with a remedy (it is an InputError).
        InputError: unknown coding or schedule; nothing to convert; a burst below 1; options that have no effect under
            the coding; no example where the coding needs one and the shape of an image is not known; several inputs,
            or an output that is not one tensor; no initial images; a part that cannot be copied; NaN or infinity in
            weights or images; images that the network does not take.

    Source: Masked Spiking Transformer (ICCV 2023), conversion, for rate coding; docs/maths.md, section 9, for lossless.
    """
    model = ann_of(model, "mst.convert", "it has been converted already; give it to mst.simulate")
    check_one_tensor_in(model)
    chosen = coding_of(coding)
    firing = _schedule_of(model, chosen, burst, schedule)
    if initial_images is not None and not chosen.takes_initial_levels:
        raise no_effect("initial_images", chosen, lambda each: each.takes_initial_levels)
    _refuse_levels(model, chosen)
    network, sites = _with_neurons(model, chosen, firing)
    image = _image(model, example)
    if image is None and not chosen.needs_example:
        refuse_leftover_activations(network)
    if not sites:
        raise InputError("nothing was converted: the model has no QCFS activation", remedy="call mst.quantize first")
    if image is None:
        if chosen.needs_example:
            raise InputError(
                f"{chosen.name} coding examines one image first, and the shape of this model's images is not known",
                remedy="give an example: convert(..., example=images)",
            )
        return SpikingNetwork(network, chosen, sites)
    with NetworkInput(model).shown(image):
        flow, constants = _examine(network, model, chosen, image)
    folded = fold_batch_norms(network, flow.foldable) if chosen.folds_batch_norm else ()
    if initial_images is not None:
        set_initial_levels(network, median_levels(model, initial_images, leave_out=constants))
    snn = SpikingNetwork(
        network, chosen, tuple(each for each in sites if each.site not in constants), folded,
        _notes(flow, constants, chosen), examined=True, schedule=firing,
    )  # fmt: skip
    snn.reached_sites = tuple(flow.depths)
    return snn


def _schedule_of(
    model: nn.Module, coding: Coding, burst: int, schedule: ScheduleName | FiringSchedule | None
) -> FiringSchedule | None:
    """None if the coding has no schedule."""
    check_burst(burst)
    if not coding.has_schedule:
        for option, is_given in (("burst", burst != 1), ("schedule", schedule is not None)):
            if is_given:
                raise no_effect(option, coding, lambda each: each.has_schedule)
        return None
    if isinstance(schedule, FiringSchedule):
        if burst not in (1, schedule.burst):
            raise InputError(
                f"burst {burst} contradicts the schedule's {schedule.burst}", remedy="give it in the schedule alone"
            )
        return schedule
    levels = [max(site.num_levels, -site.min_level) for site in model.modules() if isinstance(site, QCFS)]
    return named_schedule(schedule or default_schedule(model), max(levels, default=1), burst)


def default_schedule(model: nn.Module) -> ScheduleName:
    """The schedule of a coding that has one, where none is asked for.

    Returns:
        "free" for a network with sites at products, whose many levels would take a clock many steps; "weighted" for
        others.
    """
    return "free" if any(site.is_operand for site in find_sites(model).values()) else DEFAULT_SCHEDULE


def _refuse_levels(model: nn.Module, coding: Coding) -> None:
    """Refuse sites whose levels no neuron of the coding ends at: below 0, or rounded to powers of two."""
    negative = " or ".join(each.name for each in CODINGS.values() if each.carries_negative_levels)
    settling = " or ".join(each.name for each in CODINGS.values() if each.settles)
    obstacles = []
    for name, site in find_sites(model).items():
        if site.min_level < 0 and not coding.carries_negative_levels:
            what = f"levels down to {site.min_level}, which {coding} coding does not carry"
            obstacles.append(Obstacle(name, what, f"choose {negative} coding"))
        if site.max_powers is not None and not coding.settles:
            what = f"levels of at most {site.max_powers} powers of two, at which no mean of {coding} coding ends"
            obstacles.append(Obstacle(name, what, f"choose {settling} coding, or call mst.limit_powers(model, None)"))
    if obstacles:
        raise ConversionError(tuple(obstacles))


def _with_neurons(
    model: nn.Module, coding: Coding, schedule: FiringSchedule | None
) -> tuple[nn.Module, tuple[SiteConversion, ...]]:
    """A copy with neurons in the places of QCFS and, if the coding asks for it, max-pools over time in those of
    max-pools."""
    network = copy_network(model).eval().requires_grad_(False)
    sites: list[SiteConversion] = []
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, MAX_POOLS) and name and coding.pools_over_time:
            set_submodule(network, name, SpikingMaxPool(module, name))
        if type(module) is not QCFS or (name and network.get_submodule(name) is not module):
            continue  # a module around it that has several names has been given its neuron under one of them
        neuron = coding.neuron(module, name, schedule)
        if (coding.has_schedule or coding.takes_initial_levels) and not isinstance(neuron, SignedIFNeuron):
            raise InputError(
                f"a coding with a schedule or initial levels needs signed neurons, got {type(neuron).__name__}",
                where=f"coding {coding.name!r}",
                remedy="derive the neuron from mst.SignedIFNeuron",
            )
        neuron.overwrites_input = module.overwrites_input
        if name:
            set_submodule(network, name, neuron)
        else:
            network = neuron
        sites.append(_account(name, module, neuron))
    left = [f"{n} ({type(m).__name__})" for n, m in network.named_modules() if isinstance(m, QCFS)]
    if left:
        raise InputError("these activations were not converted; use QCFS itself: " + ", ".join(left))
    return network, tuple(sites)


def _account(site: str, was: QCFS, became: SpikingNeuron) -> SiteConversion:
    threshold = became.threshold.item() if became.threshold.numel() == 1 else None
    return SiteConversion(site, type(was).__name__, type(became).__name__, threshold, was.num_levels, was.mask)


def _image(model: nn.Module, example: ImageData | None) -> Tensor | None:
    """One image [1, ...] as the network takes it; None if nothing is known of it."""
    if example is not None:
        images = next(image_batches(example), None)
        if images is None:
            raise InputError("the example holds no image")
        return NetworkInput(model).take(images[:1])
    shape = image_shape_of(model)
    if shape is None:
        return None
    return NetworkInput(model).take(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)))


def _examine(network: nn.Module, model: nn.Module, coding: Coding, image: Tensor) -> tuple[Dataflow, tuple[str, ...]]:
    """Run images through the network: refuse what the coding cannot carry, and give signed neurons their depth.

    Returns:
        The dataflow, and the places that depend on no image, which are what they were in `model` again.
    """
    constants: tuple[str, ...] = ()
    while True:
        flow = trace_dataflow(
            copy_network(network), image, activations=LEFTOVER_ACTIVATIONS, any_function=coding.carries_any_function
        )
        if flow.obstacles:
            raise ConversionError(tuple(flow.obstacles))
        new = tuple(path for path in dict.fromkeys(flow.constants) if _can_be_constant(model, path))
        if not new:
            break
        for path in new:
            set_submodule(network, path, copy_network(model.get_submodule(path)).eval().requires_grad_(False))
        constants += new
    refuse_dependent_answers(network, image)
    for module in network.modules():
        if isinstance(module, SignedIFNeuron):
            module.depth = flow.depths.get(module.site, 0)
    return flow, constants


def _can_be_constant(model: nn.Module, path: str) -> bool:
    """False for a site that masks: it drops other spikes for each image."""
    module = model.get_submodule(path)
    return not (isinstance(module, QCFS) and module.mask is not None)


def _notes(flow: Dataflow, constants: tuple[str, ...], coding: Coding) -> tuple[str, ...]:
    """Remarks for the user on places that are carried."""
    notes = [f"{path}: its input depends on no image, so it stays a constant of the network" for path in constants]
    if coding.carries_any_function:
        return (*notes, *map(_about_analog, flow.analog))
    return (
        *notes,
        *map(_about_max_pool, flow.max_pools),
        *(f"{place.where or THE_NETWORK}: {place.what}" for place in flow.approximate),
    )


def _about_max_pool(where: str) -> str:
    return (
        f"{where or THE_NETWORK}: a max-pool that is a function passes a spike on whenever any of its "
        "inputs spikes, so its rate may exceed the largest of theirs; as an nn.MaxPool2d it would be exact"
    )


def _about_analog(place: Obstacle) -> str:
    return (
        f"{place.where or THE_NETWORK}: {place.what} (an error under rate coding); here it stays analog, and is exact"
    )
