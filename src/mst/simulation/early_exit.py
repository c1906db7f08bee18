"""Stop each image as soon as its answer is safe: the rules and their application.

A rule looks at the read-out after each step: the mean of the logits so far or the logits as they are, depending on the
coding. `exit_calibration.py` chooses the values of a rule from validation images.

Letters: T steps, B images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mst.errors import InputError

ExitRule = Literal["margin", "stability"]
EXIT_RULES: tuple[ExitRule, ...] = ("margin", "stability")


@dataclass(frozen=True)
class EarlyExit:
    """Rule by which an image leaves a simulation before the last step.

    Raises:
        InputError: an unknown rule, a value that the rule cannot have, or a first step below 1.
    """

    rule: ExitRule
    """"margin": the largest logit of the read-out is at least `value` above the next. "stability": the prediction has
    been the same in `value` steps in a row."""

    value: float
    """In logits for "margin", in steps for "stability"."""

    first_step: int = 1
    """Steps that every image takes at least."""

    def __post_init__(self) -> None:
        if self.rule not in EXIT_RULES:
            raise InputError(f"unknown rule {self.rule!r} for early exit; choose from {list(EXIT_RULES)}")
        if not self.value >= 0 or (self.rule == "stability" and self.value < 1):
            least = "1 step" if self.rule == "stability" else "0 logits"
            raise InputError(f"early exit by {self.rule} takes a value of {least} or more, got {self.value}")
        if self.first_step < 1:
            raise InputError(f"first_step must be at least 1, got {self.first_step}")

    def check(self, num_steps: int) -> None:
        """Check that the rule can trigger within `num_steps` steps.

        Raises:
            InputError: it cannot.
        """
        least = max(self.first_step, self.value if self.rule == "stability" else 1)
        if least > num_steps:
            raise InputError(f"early exit can never trigger within {num_steps} time steps: {self}")

    def __str__(self) -> str:
        unit = "logits" if self.rule == "margin" else "steps"
        return f"{self.rule} of {self.value:.4g} {unit} from step {self.first_step} on"


class ExitTracker:
    """Applies a rule to the images of one batch, step by step."""

    def __init__(self, early_exit: EarlyExit) -> None:
        self._exit = early_exit
        self._streak = Streak()

    def leaving(self, step: int, readout: Tensor) -> Tensor:
        """bool [B]: True for each image that may leave now.

        Args:
            step: steps done, at least 1; every step must be shown.
            readout: [B, classes].

        Raises:
            InputError: fewer than two classes, which have no margin.
        """
        score = margin(readout) if self._exit.rule == "margin" else self._streak.after(readout)
        return (score >= self._exit.value) & (step >= self._exit.first_step)

    def keep_images(self, kept: Tensor) -> None:
        """Forget the images that have left; kept: bool [B]."""
        self._streak.keep_images(kept)


def margin(readout: Tensor) -> Tensor:
    """[..., classes] -> [...]: largest value less the next.

    Raises:
        InputError: fewer than two classes.
    """
    if readout.shape[-1] < 2:
        raise InputError("a margin is between two classes; this network has one output")
    first, second = readout.topk(2, dim=-1).values.unbind(-1)
    return first - second


class Streak:
    """Counts for how many steps in a row each image has had the same prediction."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._length: Tensor | None = None

    def after(self, readout: Tensor) -> Tensor:
        """[B, classes] -> int64 [B], counting this step."""
        prediction = readout.argmax(dim=-1)
        if self._last is None or self._length is None:
            self._length = torch.ones_like(prediction)
        else:
            self._length = torch.where(prediction == self._last, self._length + 1, 1)
        self._last = prediction
        return self._length

    def keep_images(self, kept: Tensor) -> None:
        """Forget the images that have left; kept: bool [B]."""
        if self._last is not None and self._length is not None:
            self._last, self._length = self._last[kept], self._length[kept]
