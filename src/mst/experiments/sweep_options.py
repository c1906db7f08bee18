"""Options of `mst sweep`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mst.data.options import DataOptions
from mst.errors import InputError
from mst.options import FLAT
from mst.training.config import TrainConfig

from .options import (
    DEFAULT_MODEL,
    CodingName,
    CodingOptions,
    ExitOptions,
    ExitRule,
    QuantizeOptions,
    ScheduleName,
    StepOptions,
    check_counts,
    check_steps,
)

Method = Literal["train", "fine-tune", "evaluate"]
SweptPlacement = Literal["activations", "products"]
SweptExit = Literal["none", "margin", "stability"]


@dataclass(frozen=True)
class SweepOptions:
    """The combinations to train and simulate. A sweep's recipe fills one of these."""

    method: Method = "train"
    """train each combination from scratch; fine-tune each from the checkpoint; or evaluate the checkpoint as it is,
    with masks at inference only."""

    checkpoint: Path | None = None
    """The checkpoint to evaluate; or, to fine-tune, any weights that `mst train --init-from` takes."""

    pretrained: bool = False
    """Fine-tune from the weights that timm or torchvision publish under the model's name."""

    calibration_images: int | None = None
    """Training images that set thresholds where the initial weights bring none; 256 by default."""

    masking_ratios: tuple[float, ...] = (0.0, 0.5, 0.75)
    """Fractions of the spikes dropped, in [0, 1)."""

    mask_sites: tuple[str, ...] | None = None
    """Sites to mask; each entry is a setting of its own, and + joins several selections in one entry, as in query+key.
    By default attention for an MST, all for others."""

    mask_rule: str = "random"
    """Unit that a mask drops: random, channel or token."""

    num_levels: tuple[int, ...] | None = None
    """L; 16 by default. A checkpoint that is evaluated has its own."""

    spike_penalties: tuple[float, ...] | None = None
    """Weights in the loss of a quantum sent, see train.spike_penalty; 0 by default."""

    max_powers: tuple[int, ...] | None = None
    """Round levels to sums of at most this many signed powers of two, in training too; each entry is a setting of its
    own. By default every level stays, or those of a checkpoint that is evaluated."""

    placements: tuple[SweptPlacement, ...] | None = None
    """Places of the sites, a setting each: activations, products; in place of quantize.placement. Rate coding does not
    carry sites at products and is left out for them."""

    codings: tuple[CodingName, ...] = ("rate",)
    """Codings that each network is simulated under; it is trained once for all of them. Networks with sites at products
    need lossless."""

    schedules: tuple[ScheduleName, ...] | None = None
    """Lossless: schedules, a setting each: plain, staggered, weighted, free. By default weighted, and with sites at
    products free."""

    bursts: tuple[int, ...] = (1,)
    """Lossless: maximum spikes per neuron per step, a setting each."""

    resting_images: int = 0
    """Lossless: neurons start from their median level over this many training images; 0: they start from 0."""

    input_steps: int = 1
    """Lossless: spread the image over this many steps."""

    time_steps: tuple[int, ...] = (16, 32, 64, 128)
    """T of the rows; one simulation up to the largest gives them all. A lossless run ends before, once all images have
    settled; it then stays as it is for every larger T."""

    early_exit: ExitRule | None = None
    """Let an image leave once its answer is safe, see `mst simulate`. The value is chosen for each setting and mask
    seed on validation images, at the largest T."""

    early_exits: tuple[SweptExit, ...] | None = None
    """Rules of early exit, a setting each: none, margin, stability; in place of early_exit."""

    exit: ExitOptions = ExitOptions()  # noqa: RUF009  frozen
    """Accuracy that early exit may cost, and how sure that is."""

    mask_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the masks in evaluation and simulation."""

    dataset: str | None = None
    """Name of the data set; by default digits, or the one that the checkpoint was trained on."""

    model: str = DEFAULT_MODEL
    """As for `mst train`."""

    model_kwargs: dict[str, Any] | None = None
    """As for `mst train`."""

    quantize: QuantizeOptions = QuantizeOptions()  # noqa: RUF009  frozen
    """Quantisation of a network other than an MST."""

    align_chans: int = 0
    """As for `mst train`."""

    data: DataOptions = field(default=DataOptions(), metadata=FLAT)
    """Reading of the images, see `mst train`; `dataset` names them."""

    train: TrainConfig = TrainConfig()  # noqa: RUF009  frozen
    """Settings of each training; their spike_penalty is given by spike_penalties."""

    batch_size: int = 32
    """Images simulated at once."""

    max_images: int | None = None
    """Simulate only the first test images, this many."""

    threads: int | None = None
    """CPU threads; by default chosen by the size of the network."""

    shard: str | None = None
    """I/N: compute only part I of N, from 1/N to N/N, of a sweep that N jobs share in one output folder; in a job array
    $TASK_ID/N. The job that finishes last writes the table."""

    def __post_init__(self) -> None:
        axes = (self.num_levels, self.spike_penalties, self.max_powers, self.schedules, self.placements)
        if () in (*axes, self.early_exits) or not (
            self.time_steps and self.masking_ratios and self.mask_seeds and self.codings and self.bursts
        ):
            raise InputError(
                "a sweep needs at least one entry of each: ratios, levels, penalties, powers, placements, codings, "
                "schedules, bursts, early exits, seeds, and time steps from 1"
            )
        check_counts(batch_size=self.batch_size, max_images=self.max_images, threads=self.threads)
        for limit in self.max_powers or ():
            check_counts(max_powers=limit)
        for burst in self.bursts:
            CodingOptions(burst=burst, resting_images=self.resting_images)
        if min(self.time_steps) < 1:
            raise InputError(f"a sweep needs time steps from 1, got {min(self.time_steps)}")
        check_steps(max(self.time_steps), input_steps=self.input_steps)
        self._check_alternatives()
        for rule in self.exit_rules:
            self.steps(seed=0, rule=rule)
        if self.shard is not None:
            parse_shard(self.shard)

    def _check_alternatives(self) -> None:
        if self.early_exits is not None and self.early_exit is not None:
            raise InputError("early_exit and early_exits are given", remedy="give one of them")
        if self.placements is not None and self.quantize.placement != QuantizeOptions().placement:
            raise InputError("quantize.placement and placements are given", remedy="give one of them")
        if self.exit != ExitOptions() and not any(self.exit_rules):
            raise InputError("options of early exit have no effect without --early-exit or --early-exits")
        if self.exit.value is not None and len(set(self.exit_rules) - {None}) > 1:
            raise InputError("--exit.value belongs to one rule of early exit", remedy="sweep margin or stability alone")

    @property
    def exit_rules(self) -> tuple[ExitRule | None, ...]:
        """Rules of early exit that are swept; None: no image leaves early."""
        if self.early_exits is None:
            return (self.early_exit,)
        return tuple(None if rule == "none" else rule for rule in self.early_exits)

    def steps(self, seed: int, rule: ExitRule | None) -> StepOptions:
        """Options of the simulation with masks of a seed and a rule of early exit, up to the largest T."""
        return StepOptions(max(self.time_steps), rule, self.exit if rule else ExitOptions(), seed=seed)


def parse_shard(text: str) -> tuple[int, int]:
    """I and N of a shard "I/N".

    Raises:
        InputError: text of another form, or I is not from 1 to N.
    """
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal()):
        raise InputError(f"a shard is written I/N, as in 1/4, got {text!r}", where="--shard")
    index, count = int(first), int(second)
    if not 1 <= index <= count:
        raise InputError(
            f"there is no shard {text}", where="--shard", remedy=f"shards of {count} are 1/{count} to {count}/{count}"
            if count else "N must be at least 1",
        )  # fmt: skip
    return index, count
