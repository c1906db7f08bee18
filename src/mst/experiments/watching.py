"""One image under rate and under lossless coding, after every time step: scores, spikes, energy.

Letters: T steps, K classes, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mst.checkpoints import load_checkpoint, pinned_reference, read_checkpoint_info
from mst.conversion import ConversionError, SpikingNetwork, convert
from mst.data import DATASETS, DatasetInfo, Preprocessing, dataset_info, inputs_of
from mst.errors import InputError
from mst.measure import MAP_KINDS, EnergyEstimate, budget_by, budget_by_step, estimate_energy
from mst.neurons import find_sites
from mst.simulation import EarlyExit, SimulationResult, readouts_of, simulate
from mst.simulation.early_exit import ExitTracker
from mst.threads import choose_threads, intra_op_threads
from mst.training import evaluate
from mst.zoo import cards

from .opening import choose_device, masking_ratio_of, set_masking
from .options import CodingOptions, check_counts

if TYPE_CHECKING:
    from mst.checkpoints import CheckpointInfo

ZOO = "zoo:"

MAPS, FUNCTIONS, BESIDE_MAPS = "maps and products", "functions", "neurons, masks, input"
"""Parts of the energy."""

SNNS_KEPT = 4
"""Converted networks that are kept for the next image."""


@dataclass(frozen=True)
class WatchOptions:
    """How one image is run.

    Raises:
        InputError: fewer than one time step.
    """

    time_steps: int = 32
    """T, of both codings."""

    masking_ratio: float | None = None
    """Fraction of the spikes dropped; None leaves the masks of the network."""

    early_exit: EarlyExit | None = None
    """Rule by which the image leaves a run before the last step."""

    seed: int = 0
    """Seed of the masks."""

    def __post_init__(self) -> None:
        check_counts(time_steps=self.time_steps)
        if self.early_exit is not None:
            self.early_exit.check(self.time_steps)


@dataclass(frozen=True)
class AnnAnswer:
    """The quantised ANN on the same image, with the same masks."""

    scores: Tensor
    """[K], softmax of its logits."""

    energy_pj: Mapping[str, float]
    """Part of the energy -> pJ."""

    table_energy_pj: float
    """Energy in pJ of the operations in the table of `mst measure`."""

    @property
    def answer(self) -> int:
        """The class."""
        return int(self.scores.argmax())


@dataclass(frozen=True)
class WatchedCoding:
    """One coding, step by step. Step t is entry t - 1; entries after the last step are not part of the run."""

    coding: CodingOptions
    """The coding."""

    scores: Tensor
    """[T, K], softmax of the read-out."""

    sites: tuple[str, ...]
    """Names of the sites, in the order in which they fire."""

    spikes_per_neuron: Tensor
    """float64 [T, sites], spikes sent in the step, per neuron of the site."""

    sent: Tensor
    """int64 [T], spikes sent by all sites."""

    dropped: Tensor
    """int64 [T], spikes that masks dropped."""

    num_neurons: int
    """Neurons of the network."""

    step_energy_pj: Mapping[str, tuple[float, ...]]
    """Part of the energy -> [T], pJ spent in the step."""

    table_energy_pj: tuple[float, ...]
    """[T], cumulative: energy in pJ of the operations in the table of `mst measure`."""

    settled_at: int | None
    """Steps after which no neuron could fire any more; None if it has not settled, or under a coding that does not."""

    exit_at: int | None
    """Steps after which the image leaves by early exit; None if it does not."""

    @property
    def last_step(self) -> int:
        """Steps of the run: until early exit, until it has settled, or T."""
        return min(each for each in (self.exit_at, self.settled_at, len(self.sent)) if each is not None)

    def at(self, step: int) -> int:
        """The step of this run that is shown at `step`: the last one, once it has ended."""
        return min(step, self.last_step)

    def answer_at(self, step: int) -> int:
        """Class after `step` steps."""
        return int(self.scores[self.at(step) - 1].argmax())

    def spikes_after(self, step: int) -> int:
        """Spikes sent in the first `step` steps."""
        return int(self.sent[: self.at(step)].sum())

    def energy_after(self, step: int) -> dict[str, float]:
        """Part of the energy -> pJ spent in the first `step` steps."""
        return {part: sum(steps[: self.at(step)]) for part, steps in self.step_energy_pj.items()}


@dataclass(frozen=True)
class Watched:
    """One image under both codings."""

    image: Tensor
    """[C, height, width] as the network saw it, before normalisation: from 0 to 1, or counts of events."""

    class_names: tuple[str, ...]
    """Names in the order of the classes."""

    codings: Mapping[str, WatchedCoding]
    """"rate" and "lossless", without one that cannot carry the network."""

    refusals: Mapping[str, str]
    """Coding that cannot carry the network -> the reason."""

    ann: AnnAnswer
    """The quantised ANN."""

    cost_model: str
    """Name of the cost model."""

    masking_ratio: float
    """Largest masking ratio of a site."""

    masked_sites: int
    """Sites that drop spikes."""

    @property
    def last_step(self) -> int:
        """Steps of the longest run."""
        return max(each.last_step for each in self.codings.values())

    @property
    def steps(self) -> range:
        """The steps after which there is something new to see."""
        return range(1, self.last_step + 1)


class WatchableNetwork:
    """A network of which single images can be watched. Converted networks are kept for the next image.

    Args:
        reference: a checkpoint, zoo:NAME or hf:USER/NAME.
        device: auto, cpu, cuda, ...

    Raises:
        MissingFileError: it does not exist.
        InputError: a damaged file, one that does not state how its images are made, or no such device.
    """

    def __init__(self, reference: Path | str, device: str = "auto") -> None:
        self.checkpoint = pinned_reference(Path(reference))
        self.info: CheckpointInfo = read_checkpoint_info(self.checkpoint)
        if self.info.preprocessing is None:
            raise InputError(
                "it does not state how its images are made", where=str(reference),
                remedy="save it with mst.save_checkpoint(model, path, CheckpointInfo(preprocessing=...))",
            )  # fmt: skip
        self.preprocessing: Preprocessing = self.info.preprocessing
        self.model: nn.Module = load_checkpoint(self.checkpoint).to(choose_device(device))
        self._snns: dict[tuple[str, float | None], SpikingNetwork] = {}

    @property
    def dataset(self) -> DatasetInfo | None:
        """The data set that it was trained on, if it has a name here."""
        return dataset_info(self.info.dataset) if self.info.dataset in DATASETS else None

    @property
    def takes_events(self) -> bool:
        """True if its inputs are recordings of an event camera."""
        return self.preprocessing.events is not None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, height, width)."""
        return (self.preprocessing.in_chans, *self.preprocessing.size)

    @property
    def masking_ratio(self) -> float:
        """The largest masking ratio of a site as the network was saved."""
        return masking_ratio_of(self.model)

    @cached_property
    def lossless(self) -> CodingOptions:
        """Lossless coding with the burst and the schedule of the network's card, or with a burst of 4."""
        name = str(self.checkpoint).removeprefix(ZOO)
        options = cards()[name].runs[-1].options if str(self.checkpoint).startswith(ZOO) else {}
        return CodingOptions("lossless", burst=options.get("burst", 4), schedule=options.get("schedule"))

    def read(self, path: Path | str) -> Tensor:
        """float32 [C, height, width]: a picture, an array or a recording, made as the network's test images were.

        Raises:
            MissingFileError, InputError: no such file, or one that cannot be read.
        """
        inputs = inputs_of([Path(path)], self.preprocessing, self.dataset)
        if len(inputs.paths) != 1:
            raise InputError(f"one file is watched at a time, got {len(inputs.paths)}", where=str(path))
        return inputs.read(0)

    def watch(self, image: Tensor, options: WatchOptions = WatchOptions()) -> Watched:
        """Run one image under both codings, with its energy as `mst measure` counts it.

        Args:
            image: float32 [C, height, width], from `read`.
            options: length of the runs, masks, early exit.

        Raises:
            InputError: an image of another shape, masks that do not fit, a network whose operations have no price.
            ConversionError: neither coding can carry the network.
        """
        if tuple(image.shape) != self.image_shape:
            raise InputError(f"the network takes images {self.image_shape}, got {tuple(image.shape)}")
        model = self._masked(options.masking_ratio)
        codings: dict[str, WatchedCoding] = {}
        refusals: dict[str, ConversionError] = {}
        estimate: EnergyEstimate | None = None
        with intra_op_threads(choose_threads(model, self.image_shape, 1)):
            for coding in (CodingOptions(), self.lossless):
                try:
                    snn = self._converted(model, coding, image, options.masking_ratio)
                except ConversionError as error:
                    refusals[coding.coding] = error
                    continue
                result = simulate(snn, image[None], options.time_steps, seed=options.seed, keep_step_logits=True)
                estimate = estimate_energy(result)
                codings[coding.coding] = _watched(coding, result, estimate, options.early_exit)
            zeros = torch.zeros(1, dtype=torch.int64)
            logits = evaluate(model, [(image[None], zeros)], seed=options.seed).logits[0]
        if estimate is None:
            raise next(iter(refusals.values()))
        parts = {part: ann for part, (_, ann) in _by_part(budget_by(estimate.budget, "kind")).items()}
        answer = AnnAnswer(logits.softmax(0).cpu(), parts, estimate.ann.energy_pj)
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.preprocessing.mean, self.preprocessing.std))
        masked = sum(site.mask is not None for site in find_sites(model).values())
        return Watched(
            image * std + mean, self._names(len(logits)), codings,
            {name: error.problem for name, error in refusals.items()}, answer, estimate.cost_model.name,
            masking_ratio_of(model), masked,
        )  # fmt: skip

    def _names(self, num_classes: int) -> tuple[str, ...]:
        known = () if self.dataset is None else self.dataset.class_names
        return tuple(self.info.class_names or known or map(str, range(num_classes)))

    def _masked(self, masking_ratio: float | None) -> nn.Module:
        if masking_ratio is None:
            return self.model
        model = copy.deepcopy(self.model)
        set_masking(model, self.checkpoint, masking_ratio)
        return model

    def _converted(
        self, model: nn.Module, coding: CodingOptions, image: Tensor, masking_ratio: float | None
    ) -> SpikingNetwork:
        key = coding.coding, masking_ratio
        if key not in self._snns:
            while len(self._snns) >= SNNS_KEPT:
                del self._snns[next(iter(self._snns))]
            self._snns[key] = convert(model, coding.coding, image[None], burst=coding.burst, schedule=coding.schedule)
        return self._snns[key]


def _watched(
    coding: CodingOptions, result: SimulationResult, estimate: EnergyEstimate, early_exit: EarlyExit | None
) -> WatchedCoding:
    if estimate.unpriced:
        raise InputError(f"{estimate.cost_model.name} has no price for {', '.join(estimate.unpriced)}")
    readouts_TK = readouts_of(result)[:, 0]
    if readouts_TK.dim() != 2:
        raise InputError("only networks that return logits of classes can be watched")
    settled = -1 if result.settled_at is None else int(result.settled_at[0])
    records = result.sites.values()
    rates = [each.sent_per_step.double() / each.num_neurons for each in records]
    by_kind = {
        kind: torch.tensor(steps, dtype=torch.float64) for kind, steps in budget_by_step(estimate.budget).items()
    }
    parts: dict[str, Tensor] = {}
    for kind, steps in by_kind.items():
        parts[_part(kind)] = parts.get(_part(kind), torch.zeros_like(steps)) + steps
    return WatchedCoding(
        coding=coding,
        scores=readouts_TK.softmax(dim=1),
        sites=tuple(result.sites),
        spikes_per_neuron=torch.stack(rates, dim=1),
        sent=result.sent_per_step,
        dropped=torch.stack([each.dropped_per_step for each in records]).sum(dim=0),
        num_neurons=sum(each.num_neurons for each in records),
        step_energy_pj={part: tuple(steps.tolist()) for part, steps in parts.items()},
        table_energy_pj=estimate.snn_energy_pj_per_step,
        settled_at=settled if settled > 0 else None,
        exit_at=None if early_exit is None else exit_step(readouts_TK, early_exit),
    )


def exit_step(readouts_TK: Tensor, early_exit: EarlyExit) -> int | None:
    """Steps after which an image leaves by a rule; None if it does not."""
    tracker = ExitTracker(early_exit)
    leaves = [bool(tracker.leaving(step, readout[None])) for step, readout in enumerate(readouts_TK, 1)]
    return leaves.index(True) + 1 if True in leaves else None


def _part(kind: str) -> str:
    return MAPS if kind in MAP_KINDS else FUNCTIONS if kind == "function" else BESIDE_MAPS


def _by_part(energies: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    parts: dict[str, tuple[float, float]] = {}
    for kind, (snn, ann) in energies.items():
        before = parts.get(_part(kind), (0.0, 0.0))
        parts[_part(kind)] = before[0] + snn, before[1] + ann
    return parts
