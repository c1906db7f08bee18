"""Options of a simulation, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mst.conversion import Coding
from mst.conversion.codings import no_effect
from mst.errors import InputError
from mst.numbers import whole_number
from mst.text import suggestion

from .early_exit import EarlyExit

_LEAST_WHOLE = {
    "num_steps": 1, "steps_per_chunk": 1, "batch_size": 1, "num_workers": 0, "input_steps": None, "seed": None,
}  # fmt: skip
"""Options that are whole numbers -> the smallest value of each; None if it is not fixed."""

_MAY_BE_NONE = ("steps_per_chunk", "batch_size")


@dataclass(frozen=True)
class SimulationOptions:
    """Options of `mst.simulate`.

    Raises:
        InputError: a value out of range, or options that contradict each other.
    """

    num_steps: int
    """T, time steps, at least 1. A network that settles may end earlier."""

    steps_per_chunk: int | None = None
    """Steps computed at once, folded into the batch axis; None chooses by the number of neurons."""

    keep_step_logits: bool = False
    """Keep the logits of each step, [T, N, classes]."""

    record_operations: bool = True
    """Count MACs and ACs too (about a tenth of the time)."""

    seed: int = 0
    """Seed of the spike masks. Masks depend on (seed, site, step, image); batch size and chunk length do not change
    them."""

    in_slices: bool = False
    """True if images have a time axis, [B, K, C, height, width] with K <= T; step t then sees slice t·K // T, and the
    neurons' state carries over. The ANN to compare with sees the mean of the slices. Where changes are sent, the slices
    add up to that mean."""

    input_steps: int = 1
    """Steps over which each image is spread, for codings that send changes; 1 shows it whole from the first step on."""

    early_exit: EarlyExit | None = None
    """Rule by which images leave before the last step; see `calibrate_early_exit`. Steps are then computed one at a
    time."""

    drop_settled: bool = False
    """Let each image leave when it has settled, instead of all when the last has, for codings that settle. The others
    are then computed in a smaller batch, whose floating-point sums may differ in their last bits. An incremental
    simulation keeps them: they cost nothing there."""

    incremental: bool | None = False
    """For codings that settle: compute each function again only for the images of which its arguments have changed, one
    step at a time. The values are the same but for the rounding of sums. True refuses a network that does not allow it,
    steps_per_chunk and early_exit. None does so from the third batch of a size on, where nothing speaks against it."""

    batch_size: int | None = None
    """Images at once, for each process; None takes 32 images of a data set, and all of a tensor."""

    num_workers: int = 0
    """Processes that prepare the images of a data set, for each process; 0 prepares them in this process."""

    def __post_init__(self) -> None:
        for name, least in _LEAST_WHOLE.items():
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                label = "num_steps (T)" if name == "num_steps" else name
                object.__setattr__(self, name, whole_number(label, value, least))
        for name in ("keep_step_logits", "record_operations", "in_slices", "drop_settled", "incremental"):
            value = getattr(self, name)
            if value is None and name == "incremental":
                continue
            if value not in (True, False):
                raise InputError(f"{name} must be True or False, got {value!r}")
            object.__setattr__(self, name, bool(value))
        if self.incremental and (self.steps_per_chunk not in (None, 1) or self.early_exit is not None):
            raise InputError(
                "incremental simulation goes one step at a time and keeps all images until they have settled",
                remedy="leave out incremental, or steps_per_chunk and early_exit",
            )
        if not isinstance(self.early_exit, EarlyExit | None):
            raise InputError(f"early_exit must be an EarlyExit, got {type(self.early_exit).__name__}")
        if not 1 <= self.input_steps <= self.num_steps:
            raise InputError(f"input_steps must be from 1 to the {self.num_steps} time steps, got {self.input_steps}")
        if self.in_slices and self.input_steps != 1:
            raise InputError("slices over time are spread already; input_steps is for still images")
        if self.early_exit is not None:
            self._check_early_exit(self.early_exit)

    def _check_early_exit(self, early_exit: EarlyExit) -> None:
        if self.steps_per_chunk not in (None, 1):
            raise InputError("with early exit steps are computed one at a time", remedy="leave out steps_per_chunk")
        if self.keep_step_logits:
            raise InputError(
                "an image that has left has no logits", remedy="keep the step logits of a run without early exit"
            )
        if self.in_slices:
            raise InputError("early exit is for still images: a recording that is cut short has not been seen whole")
        early_exit.check(self.num_steps)

    def check_coding(self, coding: Coding) -> None:
        """Check that every option that is set has an effect under `coding`.

        Raises:
            InputError: one has none.
        """
        if self.input_steps != 1 and not coding.sends_changes:
            raise no_effect("input_steps", coding, lambda each: each.sends_changes)
        if self.drop_settled and not coding.settles:
            raise no_effect("drop_settled", coding, lambda each: each.settles)
        if self.incremental and not coding.settles:
            raise no_effect("incremental", coding, lambda each: each.settles)


def options_of(options: SimulationOptions | int, changes: Mapping[str, Any]) -> SimulationOptions:
    """Options from a number of steps or from other options, with some fields changed.

    Raises:
        InputError: an unknown field, or values that `SimulationOptions` refuses.
    """
    known = [field.name for field in fields(SimulationOptions)]
    for name in changes:
        if name not in known:
            raise InputError(f"simulate has no option {name!r}", remedy=suggestion(name, known))
    if isinstance(options, SimulationOptions):
        return replace(options, **changes)
    return SimulationOptions(options, **changes)
