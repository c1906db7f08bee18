"""ANN -> SNN: every activation site becomes a neuron, and the conversion says which became what."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mst.dataflow import ConversionError, Obstacle, trace_dataflow
from mst.models import set_submodule
from mst.neurons import (
    DEFAULT_SCHEDULE,
    MAX_POOLS,
    QCFS,
    FiringSchedule,
    IFNeuron,
    ScheduleName,
    SignedIFNeuron,
    SpikingMaxPool,
    SpikingNeuron,
    begin_run,
    check_burst,
    named_schedule,
    running,
)
from mst.quantization import image_shape_of

from .folding import fold_batch_norms
from .resting import resting_counts, set_resting_counts

Coding = Literal["rate", "lossless"]
CODINGS: tuple[Coding, ...] = ("rate", "lossless")

LEFTOVER_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
"""Activations that no neuron reproduces: one of these left in a network means it was not quantised."""


@dataclass(frozen=True)
class SiteConversion:
    """One line of the account. threshold: the acting one, in activation units; None if there is one per channel."""

    site: str
    was: str
    became: str
    threshold: float | None
    num_levels: int
    masking_ratio: float


class SpikingNetwork(nn.Module):
    """A converted network. It runs only inside a simulation, which owns its state; see `mst.simulate`.

    Attributes:
        network: the converted modules.
        coding: how activations are carried by spikes.
        account: what each site was and became.
        folded: BatchNorms that went into the linear map before them.
        remarks: what is only approximate beyond rate coding itself, or what stays analog under lossless coding.
        examined: whether an image has been run through it to look for what spikes cannot carry.
        schedule: when signed neurons may fire; None under rate coding.
    """

    def __init__(
        self,
        network: nn.Module,
        coding: Coding,
        account: tuple[SiteConversion, ...],
        folded: tuple[str, ...] = (),
        remarks: tuple[str, ...] = (),
        examined: bool = False,
        schedule: FiringSchedule | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.coding = coding
        self.account = account
        self.folded = folded
        self.remarks = remarks
        self.examined = examined
        self.schedule = schedule
        self.eval()

    @property
    def is_lossless(self) -> bool:
        """Whether changes are sent, so that the output is the read-out and not one term of a mean."""
        return self.coding == "lossless"

    @property
    def depth(self) -> int:
        """Sites in the longest chain of a network of signed neurons."""
        return 1 + max((m.depth for m in self.network.modules() if isinstance(m, SignedIFNeuron)), default=-1)

    @property
    def longest_settling(self) -> int:
        """Steps after which a lossless network has settled whatever it is shown, for an image given at step 0."""
        levels = [m.num_levels for m in self.network.modules() if isinstance(m, SignedIFNeuron)]
        return 0 if self.schedule is None else self.schedule.longest(self.depth, max(levels, default=1))

    def forward(self, x: Tensor) -> Tensor:
        """x: [T*B, ...], the images of T steps, time outermost -> logits of each step [T*B, classes].

        Raises:
            RuntimeError: called outside a simulation.
        """
        y: Tensor = self.network(x)
        return y

    def train(self, mode: bool = True) -> SpikingNetwork:
        """Only evaluation mode exists.

        Raises:
            RuntimeError: asked for training mode.
        """
        if mode:
            raise RuntimeError("a spiking network is not trained: train the ANN and convert it again")
        super().train(False)
        return self


def convert(
    model: nn.Module,
    coding: Coding = "rate",
    example: Tensor | None = None,
    *,
    burst: int = 1,
    schedule: ScheduleName | FiringSchedule | None = None,
    resting_images: Tensor | Iterable[Tensor] | None = None,
) -> SpikingNetwork:
    """Turn an ANN with QCFS activations into a spiking neural network. The ANN is left as it was.

    Rate coding: each QCFS becomes an integrate-and-fire neuron with the same threshold; for a constant input
    and T = L steps its mean output equals the QCFS output. A max-pool becomes one of running sums (`SpikingMaxPool`),
    which is exact.

    Lossless coding: each QCFS becomes a signed integrate-and-fire neuron, and what flows is the change of each
    activation. Once no neuron can fire any more, the output equals the ANN's. Any function may lie between the neurons.

    Under rate coding BatchNorm folds into the linear map whose output it alone reads. Lossless coding leaves the
    weights as they are, so that sums round as the ANN's do (a chip would fold; operations are counted as if it had).
    See docs/maths.md.

    One image is run through the network to see every function on its way: what the coding cannot carry is refused. Its
    shape is known of an MST and of what `mst.quantize` calibrated; for others give an example. Without one only rate
    coding is possible; then only the kinds of the modules are looked at, nothing is folded, and `mst.simulate` looks at
    the first image.

    Args:
        model: a network whose activations are `mst.neurons.QCFS`.
        coding: "rate" or "lossless".
        example: images [B, ...], of which the first is used.
        burst: lossless: most spikes of a neuron in one step. More mean fewer steps.
        schedule: lossless: "weighted" (the default, of the fewest spikes), or with spikes of one quantum "staggered" or
            "plain" (see `mst.neurons.named_schedule`), or a `FiringSchedule` of your own, which has its own burst.
        resting_images: lossless: images [B, ...] (or batches of them) that are not reported on. Each neuron then
            starts from its median level over these, as a constant of the network, and its spikes tell what differs.
            None: from 0.

    Returns:
        The spiking network, a copy in evaluation mode, with its `account`, what was `folded`, and `remarks`.

    Raises:
        ConversionError: places that the coding cannot carry, all of them, each with a remedy (it is a ValueError).
        ValueError: unknown coding or schedule; nothing to convert; a burst below 1; options of lossless coding with
            rate coding; lossless coding without an example where the shape of an image is not known; no resting images.

    Source: Masked Spiking Transformer (ICCV 2023), conversion, for rate coding; docs/maths.md, section 9, for lossless.
    """
    if coding not in CODINGS:
        raise ValueError(f"unknown coding {coding!r}; choose from {list(CODINGS)}")
    firing = _schedule_of(model, coding, burst, schedule)
    if firing is None and resting_images is not None:
        raise ValueError("resting_images belong to lossless coding; an IF neuron starts from half its threshold")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    network, account = _swap(network, firing)
    left = [f"{n} ({type(m).__name__})" for n, m in network.named_modules() if isinstance(m, QCFS)]
    if left:
        raise ValueError("these activations were not converted; use QCFS itself: " + ", ".join(left))
    image = _image(model, example)
    if image is None and firing is None:
        _refuse_left_over(network)
    if not account:
        raise ValueError("nothing was converted: the model has no QCFS activation")
    if image is None:
        if firing is not None:
            raise ValueError("lossless coding looks at one image first; give an example: convert(..., example=images)")
        return SpikingNetwork(network, coding, account)
    flow = trace_dataflow(network, image, activations=LEFTOVER_ACTIVATIONS, any_function=firing is not None)
    if flow.obstacles:
        raise ConversionError(tuple(flow.obstacles))
    for module in network.modules():
        if isinstance(module, SignedIFNeuron):
            module.depth = flow.depths.get(module.site, 0)
    if firing is not None:
        if _mixes_images(model, image):
            raise ConversionError((_MIXED,))
        if resting_images is not None:
            batches = [resting_images] if isinstance(resting_images, Tensor) else resting_images
            set_resting_counts(network, resting_counts(model, batches).get)
        remarks = tuple(map(_about_analog, flow.analog))
        return SpikingNetwork(network, coding, account, (), remarks, examined=True, schedule=firing)
    folded = fold_batch_norms(network, flow.foldable)
    return SpikingNetwork(network, coding, account, folded, tuple(map(_about_max_pool, flow.max_pools)), examined=True)


def _schedule_of(
    model: nn.Module, coding: Coding, burst: int, schedule: ScheduleName | FiringSchedule | None
) -> FiringSchedule | None:
    """None under rate coding."""
    check_burst(burst)
    if coding == "rate":
        if burst != 1 or schedule is not None:
            raise ValueError("burst and schedule belong to lossless coding; an IF neuron fires once a step at most")
        return None
    if isinstance(schedule, FiringSchedule):
        if burst not in (1, schedule.burst):
            raise ValueError(f"burst {burst} contradicts the schedule's {schedule.burst}; give it there alone")
        return schedule
    levels = [site.num_levels for site in model.modules() if isinstance(site, QCFS)]
    return named_schedule(schedule or DEFAULT_SCHEDULE, max(levels, default=1), burst)


def _swap(network: nn.Module, schedule: FiringSchedule | None) -> tuple[nn.Module, tuple[SiteConversion, ...]]:
    """Neurons in the places of QCFS, and under rate coding max-pools over time in those of max-pools."""
    account: list[SiteConversion] = []
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, MAX_POOLS) and name and schedule is None:
            set_submodule(network, name, SpikingMaxPool(module, name))
        if type(module) is not QCFS:
            continue
        neuron: SpikingNeuron = (
            IFNeuron.from_qcfs(module, name) if schedule is None else SignedIFNeuron.from_qcfs(module, name, schedule)
        )
        if name:
            set_submodule(network, name, neuron)
        else:
            network = neuron
        account.append(_account(name, module, neuron))
    return network, tuple(account)


def _image(model: nn.Module, example: Tensor | None) -> Tensor | None:
    """One image [1, ...] as the network takes it; None if nothing is known of it."""
    like = next((t for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()), torch.empty(0))
    if example is not None:
        if len(example) == 0:
            raise ValueError("the example holds no image")
        return example[:1].to(like.device, like.dtype)
    shape = image_shape_of(model)
    return None if shape is None else torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(like)


_MIXED = Obstacle(
    "",
    "the answer to an image depends on the others beside it",
    "let every function act on each image alone; a norm or a maximum over the batch does not",
)


def _mixes_images(model: nn.Module, image: Tensor) -> bool:
    """Whether the ANN answers differently to two images together than to each alone. Steps are folded into the batch,
    so such a network would mix steps too, which `trace_dataflow` cannot see."""

    def answer(images: Tensor, first_image: int) -> Tensor:
        with running(begin_run(network, batch_size=len(images), first_image=first_image)):
            logits: Tensor = network(images)
        return logits

    with torch.no_grad():
        try:
            network, first = copy.deepcopy(model).eval().double(), image.double()  # where no difference is rounding
            images = torch.cat([first, first.flip(-1) / 2 + first.roll(1, dims=-1)])
            together, alone = answer(images, 0), torch.cat([answer(images[i : i + 1], i) for i in range(2)])
        except (RuntimeError, TypeError):  # the network or its device takes no float64
            return False
    return not torch.allclose(together, alone, rtol=1e-6, atol=1e-9)


def _refuse_left_over(network: nn.Module) -> None:
    obstacles = tuple(
        Obstacle(name, f"{type(module).__name__} has no spiking counterpart", "replace it by QCFS (see mst.quantize)")
        for name, module in network.named_modules()
        if isinstance(module, LEFTOVER_ACTIVATIONS)
    )
    if obstacles:
        raise ConversionError(obstacles)


def _about_max_pool(where: str) -> str:
    return (
        f"{where or '(the network itself)'}: a max-pool that is a function passes a spike on whenever any of its "
        "inputs spikes, so its rate may exceed the largest of theirs; as an nn.MaxPool2d it would be exact"
    )


def _about_analog(place: Obstacle) -> str:
    return (
        f"{place.where or '(the network itself)'}: {place.what} under rate coding; here it stays analog, and is exact"
    )


def _account(site: str, was: QCFS, became: SpikingNeuron) -> SiteConversion:
    threshold = became.threshold.item() if became.threshold.numel() == 1 else None
    return SiteConversion(site, type(was).__name__, type(became).__name__, threshold, was.num_levels, was.masking_ratio)
