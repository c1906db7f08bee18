"""Errors that quantisation makes in a network, site by site: where they arise, and what becomes of them.

Letters: B images of a batch, K classes.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from mst.data import ImageData
from mst.models import NetworkInput, copy_network, rows_of, spec_of
from mst.neurons import ALL_SITES, MIN_THRESHOLD, QCFS, begin_run, find_sites, running, select_sites, set_levels
from mst.neurons.functional import to_levels
from mst.progress import Stage

from .calibration import set_thresholds

Reference = Literal["unclipped", "clipped"]
"""A site without quantisation. unclipped: the ReLU (ReLU6, ...) that it replaced, or the identity at the operand of a
product. clipped: no rounding, but limited to the range of its levels."""


NEARER = 4.0
"""See `beside_reference`."""


@dataclass(frozen=True)
class SiteErrors:
    """One site of a network on some images. Errors are relative: the norm of a difference over that of the reference.

    The reference is the network without quantisation at any site. Spike masks act in it as they do in the network.
    """

    site: str
    """Module path."""

    lowest_level: int
    """n, the lowest level that the site has."""

    highest_level: int
    """The highest level that the site has; L where the lowest is 0."""

    threshold: tuple[float, float, float]
    """Smallest, median and largest λ of its channels, in units of its input; three times the same for one λ."""

    num_thresholds: int
    """Channels with a λ of their own; 1 for one λ."""

    own_error: float
    """Error of the site's output if it alone quantises."""

    clipping_share: float
    """Share of the square of `own_error` that is due to values beyond the levels; the rest is rounding."""

    own_effect: float
    """Error of the network's output if this site alone quantises."""

    arriving_error: float
    """Error of what the site would pass on without quantising, if all sites before it quantise."""

    passed_error: float
    """Error of the site's output if it and all sites before it quantise."""

    lowest_used: int
    """Lowest level that any image uses, all sites quantising; likewise below."""

    highest_used: int
    """Highest level that any image uses."""

    effective_levels: float
    """exp(H), H the entropy of the levels' frequencies: the number of equally frequent levels with that entropy."""

    clipped_below: float
    """Share of the values below the lowest level by more than half a quantum; none in the place of a ReLU."""

    clipped_above: float
    """Share of the values above the highest level by more than half a quantum."""

    lost_to_zero: float
    """Share, of the values that are not 0 without quantisation, that become level 0."""


@dataclass(frozen=True)
class OutputError:
    """Output of a network beside that of its reference, on the same images."""

    error: float
    """Norm of the difference over the norm of the reference's output."""

    agreement: float | None
    """Fraction of the images with the reference's prediction; None where the output is not logits [B, K]."""

    accuracy: float | None
    """Fraction of the images whose label has the largest logit; None without labels."""


class Outputs(NamedTuple):
    """Outputs of a site for one input, before masking."""

    unclipped: Tensor
    """Without quantisation: the input, or what the activation in the site's place would make of it."""

    reference: Tensor
    """Output in the reference, see `Reference`."""

    quantised: Tensor
    """Output of the site."""


@contextmanager
def quantising(
    model: nn.Module,
    sites: Collection[str],
    reference: Reference = "unclipped",
    caps: Mapping[str, float] | None = None,
    observe: Callable[[str, Outputs], None] | None = None,
) -> Iterator[None]:
    """Within the block only these sites quantise; the others act as the reference does. Masks act at all of them.

    Args:
        model: an ANN with QCFS sites. With masks, run it within `mst.neurons.running`.
        sites: names of the sites that quantise.
        reference: see `Reference`.
        caps: site -> largest output of the activation that it replaced, for those that saturate.
        observe: called at every use of a site with its name and what it may pass on.
    """

    def act(name: str, site: QCFS, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        unclipped = inputs[0] if site.is_operand else inputs[0].clamp(0.0, (caps or {}).get(name))
        full = unclipped if reference == "unclipped" else _within_levels(site, unclipped)
        if observe is not None:
            observe(name, Outputs(unclipped, full, site.quantised(inputs[0])))
        return output if name in sites else site.masked(full)

    with ExitStack() as hooks:
        for name, site in find_sites(model).items():
            hooks.callback(site.register_forward_hook(partial(act, name)).remove)
        yield


def _within_levels(site: QCFS, x: Tensor) -> Tensor:
    highest = site.threshold.clamp_min(MIN_THRESHOLD)
    return torch.minimum(torch.maximum(x, highest * (site.min_level / site.num_levels)), highest)


@dataclass
class _Sums:
    """Sums over images for one site."""

    site: QCFS
    norm: float = 0.0
    own: float = 0.0
    clipping: float = 0.0
    effect: float = 0.0
    arriving: float = 0.0
    passed: float = 0.0
    below: int = 0
    above: int = 0
    lost: int = 0
    not_zero: int = 0
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def add_alone(self, outputs: Outputs) -> None:
        """The site on what reaches it without quantisation."""
        error = (outputs.quantised - outputs.reference).double().square()
        is_below, is_above = self._beyond(outputs.unclipped)
        self.norm += _squares(outputs.reference)
        self.own += float(error.sum())
        self.clipping += float(error[is_below | is_above].sum())

    def add_in_place(self, outputs: Outputs, reference: Tensor) -> None:
        """The site on what reaches it where all sites quantise; reference: its output where none does."""
        unclipped, full, quantised = outputs
        self.arriving += _squares(full - reference)
        self.passed += _squares(quantised - reference)
        is_below, is_above = self._beyond(unclipped)
        self.below, self.above = self.below + int(is_below.sum()), self.above + int(is_above.sum())
        is_lost = (quantised == 0) & (full != 0)
        self.lost, self.not_zero = self.lost + int(is_lost.sum()), self.not_zero + int((full != 0).sum())
        levels = to_levels(
            unclipped, self.site.threshold, self.site.num_levels, self.site.min_level, self.site.max_powers
        )
        number = self.site.num_levels - self.site.min_level + 1
        counts = torch.bincount(levels.flatten().long() - self.site.min_level, minlength=number).cpu()
        self.counts = counts if not len(self.counts) else self.counts + counts

    def _beyond(self, unclipped: Tensor) -> tuple[Tensor, Tensor]:
        quanta = unclipped * (self.site.num_levels / self.site.threshold.clamp_min(MIN_THRESHOLD))
        return quanta < self.site.min_level - 0.5, quanta >= self.site.num_levels + 0.5

    def errors(self, name: str, output_norm: float) -> SiteErrors:
        """The sums of all images as errors."""
        site, values, lam = self.site, max(1, int(self.counts.sum())), self.site.threshold.detach().double()
        lam = lam.clamp_min(MIN_THRESHOLD)
        used = self.counts.nonzero().flatten() + site.min_level
        shares = self.counts[self.counts > 0].double() / values
        return SiteErrors(
            site=name,
            lowest_level=site.min_level,
            highest_level=site.num_levels,
            threshold=(float(lam.min()), float(lam.median()), float(lam.max())),
            num_thresholds=lam.numel(),
            own_error=_relative(self.own, self.norm),
            clipping_share=self.clipping / self.own if self.own else 0.0,
            own_effect=_relative(self.effect, output_norm),
            arriving_error=_relative(self.arriving, self.norm),
            passed_error=_relative(self.passed, self.norm),
            lowest_used=int(used.min()),
            highest_used=int(used.max()),
            effective_levels=float((-shares * shares.log()).sum().exp()),
            clipped_below=self.below / values,
            clipped_above=self.above / values,
            lost_to_zero=self.lost / max(1, self.not_zero),
        )


def _squares(x: Tensor) -> float:
    return float(x.double().square().sum())


def _relative(squares: float, norm: float) -> float:
    return (squares / norm) ** 0.5 if norm else 0.0


@dataclass(frozen=True)
class Batch:
    """Images of one batch, and what the reference answers."""

    images: Tensor
    """[B, ...], as the network takes them."""

    first_image: int
    """Index of the first, for masks."""

    labels: Tensor | None
    """int64 [B]; None without labels."""

    output: Tensor
    """Output of the reference, [B, ...]."""


class Diagnoser:
    """Runs a network with some of its sites quantising, beside a reference with none.

    Args:
        model: an ANN with QCFS sites, in evaluation mode.
        reference: see `Reference`.
        seed: of the spike masks.
    """

    def __init__(self, model: nn.Module, reference: Reference, seed: int) -> None:
        spec = spec_of(model)
        self.model, self.reference, self.seed = model, reference, seed
        self.sites = select_sites(model, ALL_SITES)
        self.caps = {} if spec is None else spec.caps
        self.batches: list[Batch] = []

    def run(
        self,
        images: Tensor,
        first_image: int,
        sites: Collection[str],
        observe: Callable[[str, Outputs], None] | None = None,
        model: nn.Module | None = None,
    ) -> Tensor:
        """The output [B, ...] if only `sites` quantise, in the network itself or in a copy with other levels."""
        model = model or self.model
        run = begin_run(model, seed=self.seed, batch_size=len(images), first_image=first_image)
        with torch.no_grad(), running(run), quantising(model, sites, self.reference, self.caps, observe):
            return rows_of(model(images), model, len(images))

    def add(self, images: Tensor, labels: Tensor | None) -> None:
        """Take a batch and run the reference on it."""
        first = sum(len(batch.images) for batch in self.batches)
        self.batches.append(Batch(images, first, labels, self.run(images, first, ())))

    def output_error(self, sites: Collection[str], model: nn.Module | None = None) -> OutputError:
        """The output over all batches if only `sites` quantise."""
        outputs = [self.run(batch.images, batch.first_image, sites, None, model) for batch in self.batches]
        return compare(outputs, self.batches)

    def site_errors(self, progress: Stage) -> tuple[SiteErrors, ...]:
        """Every site that takes part in the forward pass, in the order in which they act."""
        sums: dict[str, _Sums] = {}
        for batch in self.batches:
            kept: dict[str, Tensor] = {}

            def alone(name: str, outputs: Outputs, kept: dict[str, Tensor] = kept) -> None:
                kept[name] = outputs.reference.clone()  # the network may write over its input
                sums.setdefault(name, _Sums(self.sites[name])).add_alone(outputs)

            def in_place(name: str, outputs: Outputs, kept: dict[str, Tensor] = kept) -> None:
                sums[name].add_in_place(outputs, kept.pop(name))

            self.run(batch.images, batch.first_image, (), alone)
            self.run(batch.images, batch.first_image, self.sites, in_place)
            progress.advance(2 * len(batch.images))
            for name, each in sums.items():
                each.effect += _squares(self.run(batch.images, batch.first_image, (name,)) - batch.output)
                progress.advance(len(batch.images))
        norm = sum(_squares(batch.output) for batch in self.batches)
        return tuple(each.errors(name, norm) for name, each in sums.items())


def beside_reference(
    model: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor | None]],
    reference: Reference | Literal["auto"] = "auto",
    seed: int = 0,
) -> tuple[Diagnoser, OutputError]:
    """A network with its reference on images, and the error of its output.

    Args:
        model: an ANN with QCFS sites, in evaluation mode.
        batches: pairs (images [B, ...] as the network takes them, labels [B] or None).
        reference: see `Reference`. "auto" takes the clipped one if the network is nearer to it by a factor of `NEARER`:
            then training has fitted the weights to what the sites clip.
        seed: of the spike masks.
    """
    found: list[tuple[Diagnoser, OutputError]] = []
    for each in get_args(Reference) if reference == "auto" else (reference,):
        diagnoser = Diagnoser(model, each, seed)
        for images, labels in batches:
            with NetworkInput(model, has_warned=True).shown(images):
                diagnoser.add(images, labels)
        found.append((diagnoser, diagnoser.output_error(diagnoser.sites)))
    return found[-1] if found[0][1].error > NEARER * found[-1][1].error else found[0]


def compare(outputs: Sequence[Tensor], batches: Sequence[Batch]) -> OutputError:
    """Outputs of a network, one [B, ...] for each batch, beside those of the reference."""
    ours, theirs = torch.cat(list(outputs)), torch.cat([batch.output for batch in batches])
    error = _relative(_squares(ours - theirs), _squares(theirs))
    if theirs.dim() != 2:
        return OutputError(error, None, None)
    answers = ours.argmax(dim=1)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return OutputError(
        error,
        float((answers == theirs.argmax(dim=1)).double().mean()),
        float((answers == torch.cat(labels)).double().mean()) if len(labels) == len(batches) else None,
    )


def with_levels(
    model: nn.Module,
    num_levels: int | None,
    calibration: ImageData | None,
    *,
    add_bit: bool = False,
    per_channel: bool = False,
) -> nn.Module:
    """A copy of a network with other levels at every site.

    Args:
        model: an ANN with QCFS sites.
        num_levels: levels above the lowest, for all sites; None keeps what each site has.
        calibration: images to set the thresholds from, for the new levels. None keeps the range of each site, as
            training has chosen it, and divides it otherwise.
        add_bit: twice the quanta of `num_levels`, 2L + 1.
        per_channel: a threshold for each channel, see `mst.quantize`; with calibration.
    """
    copy = copy_network(model)
    levels = {glob.escape(name): site.num_levels - site.min_level for name, site in find_sites(copy).items()}
    levels = levels if num_levels is None else dict.fromkeys(levels, num_levels)
    set_levels(copy, {name: 2 * number + 1 if add_bit else number for name, number in levels.items()})
    if calibration is not None:
        set_thresholds(copy, calibration, per_channel=per_channel)
    return copy
