"""Codings: how spikes carry activations. Each is an object, and everything that depends on the coding asks it.

To add one, write a neuron, make a `Coding` and register it:

    mst.register_coding(mst.Coding("leaky", neuron=lambda qcfs, site, schedule: LeakyNeuron.from_qcfs(qcfs, site)))

Then `mst.convert(model, "leaky")`, `mst.simulate` and `mst.estimate_energy` work with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mst.errors import InputError
from mst.neurons import QCFS, FiringSchedule, IFNeuron, SignedIFNeuron, SpikingNeuron
from mst.operations import ChangeCounter, OperationCounter, SpikeCounter
from mst.text import suggestion

NeuronFactory = Callable[[QCFS, str, FiringSchedule | None], SpikingNeuron]
"""(site's activation, site's name, firing schedule) -> neuron. The schedule is None if the coding has none."""


@dataclass(frozen=True)
class Coding:
    """A way for spikes to carry activations. The defaults of the fields are those of rate coding.

    Raises:
        InputError: an empty name, or a counter that counts something else than what the neurons send.
    """

    name: str
    """Name by which users choose it; results and records keep it."""

    neuron: NeuronFactory
    """Makes the neuron that takes the place of a QCFS."""

    counter: type[OperationCounter] = SpikeCounter
    """Counts what operations spend while a simulation runs, and states its assumptions."""

    sends_changes: bool = False
    """True if a spike stands for a change of its activation. Running sums then flow through the network, and an image
    may be spread over `input_steps`. False: the mean over time stands for the activation."""

    carries_any_function: bool = False
    """True if any function may lie between the neurons. False: only those that keep the mean over time."""

    carries_negative_levels: bool = False
    """True if its neurons send spikes of either sign, and so stand for sites whose lowest level is below 0."""

    folds_batch_norm: bool = True
    """True if conversion folds BatchNorm into the linear map before it."""

    pools_over_time: bool = True
    """True if conversion replaces max-pools by `SpikingMaxPool`, which pools running sums of values."""

    averages_logits: bool = True
    """True if the prediction after t steps is that of the mean of t logits. False: of the logits as they are."""

    settles: bool = False
    """True if a run can reach a state in which no neuron fires any more (its neurons call `RunState.note_unsettled`).
    Its logits then are the ANN's, the run ends, and `drop_settled` applies."""

    has_schedule: bool = False
    """True if its neurons are `SignedIFNeuron`s that take turns by a firing schedule; `burst` and `schedule` apply."""

    takes_initial_levels: bool = False
    """True if its neurons are `SignedIFNeuron`s that can start from given levels; `initial_images` applies."""

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a coding needs a name")
        if self.counter.counts_changes != self.sends_changes:
            sent, counted = ("changes", "values") if self.sends_changes else ("values", "changes")
            raise InputError(
                f"its neurons send {sent}, but {self.counter.__name__} counts {counted}",
                where=f"coding {self.name!r}",
                remedy="give a counter whose counts_changes equals sends_changes",
            )

    @property
    def needs_example(self) -> bool:
        """True if conversion cannot do without an image."""
        return self.carries_any_function or self.has_schedule

    def __str__(self) -> str:
        return self.name


CODINGS: dict[str, Coding] = {}
"""Registered codings by name; see `register_coding`."""


def register_coding(coding: Coding) -> Coding:
    """Make a coding known under its name.

    Returns:
        The same coding.

    Raises:
        InputError: another coding has that name.
    """
    if CODINGS.setdefault(coding.name, coding) != coding:
        raise InputError(f"another coding is called {coding.name!r}", remedy="choose another name")
    return coding


def coding_of(coding: str | Coding) -> Coding:
    """A registered coding, by its name or as it is.

    Raises:
        InputError: it is not registered.
    """
    if isinstance(coding, Coding):
        if CODINGS.get(coding.name) != coding:
            raise InputError(f"coding {coding.name!r} is not registered", remedy="call mst.register_coding first")
        return coding
    if not isinstance(coding, str) or coding not in CODINGS:
        remedy = suggestion(str(coding), list(CODINGS), f"choose from {', '.join(CODINGS)}")
        raise InputError(f"unknown coding {coding!r}", remedy=remedy)
    return CODINGS[coding]


def no_effect(option: str, coding: Coding, belongs_to: Callable[[Coding], bool]) -> InputError:
    """The error for an option that has no effect under `coding`, naming the codings that it belongs to."""
    takers = " or ".join(other.name for other in CODINGS.values() if belongs_to(other))
    return InputError(
        f"{option} has no effect under {coding.name} coding; it belongs to {takers} coding",
        remedy=f"leave {option} out, or choose {takers} coding",
    )


def _if_neuron(qcfs: QCFS, site: str, schedule: FiringSchedule | None) -> SpikingNeuron:
    return IFNeuron.from_qcfs(qcfs, site)


def _signed_if_neuron(qcfs: QCFS, site: str, schedule: FiringSchedule | None) -> SpikingNeuron:
    assert schedule is not None
    return SignedIFNeuron.from_qcfs(qcfs, site, schedule)


RATE = register_coding(Coding("rate", _if_neuron))
"""A spike stands for its threshold; the mean over time stands for the activation.

Source: Masked Spiking Transformer (ICCV 2023), conversion.
"""

LOSSLESS = register_coding(
    Coding(
        "lossless",
        _signed_if_neuron,
        counter=ChangeCounter,
        sends_changes=True,
        carries_any_function=True,
        carries_negative_levels=True,
        folds_batch_norm=False,  # sums then round as the ANN's do; operations are counted as if it were folded
        pools_over_time=False,
        averages_logits=False,
        settles=True,
        has_schedule=True,
        takes_initial_levels=True,
    )
)
"""A signed spike stands for a change of its activation; a settled network equals its ANN.

Source: docs/maths.md, section 9.
"""
