"""Outcome of one batch: which images are still in it, and the logits and steps of those that have left.

Letters: T steps of a chunk, B images now in the batch, K what the network returns for one image (classes, or a map).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mst.conversion import Coding
from mst.errors import InputError

from .early_exit import ExitTracker
from .options import SimulationOptions
from .readout import RunningReadout


class BatchOutcome:
    """Collects what becomes of the images of one batch.

    Args:
        size: images that the batch begins with.
        options: of the simulation.
        coding: of the network.
        labels: int64 [size], if there are any.
    """

    def __init__(self, size: int, options: SimulationOptions, coding: Coding, labels: Tensor | None) -> None:
        self._options = options
        self._exit = ExitTracker(options.early_exit) if options.early_exit is not None else None
        self._readout = RunningReadout(coding.averages_logits)
        self.here = torch.arange(size)
        self.logits: Tensor | None = None
        self.step_logits: Tensor | None = None
        self.labels = labels
        self.steps_taken = torch.full((size,), options.num_steps)
        self.settled_at = torch.full((size,), -1)

    @property
    def labels_here(self) -> Tensor:
        """int64 [B]: labels of the images that are still here."""
        assert self.labels is not None
        return self.labels[self.here.to(self.labels.device)] if len(self.here) < len(self.labels) else self.labels

    def read(self, start: int, logits_TBK: Tensor) -> Tensor:
        """Logits of the steps from `start` on -> what the predictions are read from, see `RunningReadout.after`.

        Raises:
            InputError: early exit from a network that returns something else than logits of classes.
        """
        steps, _, *each = logits_TBK.shape
        readout_TBK = self._readout.after(logits_TBK)
        if self._exit is not None and len(each) != 1:
            raise InputError(
                f"early exit compares the logits of classes, but the network returns {tuple(each)} for an image",
                remedy="leave early_exit out",
            )
        if self.logits is None:
            self.logits = readout_TBK.new_empty(len(self.steps_taken), *each)
        self.logits[self.here.to(self.logits.device)] = self._readout.in_logits(readout_TBK[-1], start + steps)
        if self._options.keep_step_logits:
            if self.step_logits is None:
                self.step_logits = logits_TBK.new_empty(self._options.num_steps, len(self.steps_taken), *each)
            here = self.here.to(self.step_logits.device)
            self.step_logits[start:, here] = logits_TBK[-1]  # stands for the steps to come, if there are none
            self.step_logits[start : start + steps, here] = logits_TBK
        return readout_TBK

    def leaving(self, start: int, readout_TBK: Tensor, unsettled_TB: Tensor | None, complete_at: int) -> Tensor | None:
        """bool [B]: True for the images that leave after these steps; None where none ever leaves, so that the device
        is not waited for. Notes which have settled, and when.

        Args:
            start: first of the steps.
            readout_TBK: from `read`.
            unsettled_TB: True where a neuron has yet to fire; None if the coding does not settle.
            complete_at: first step at which the network sees all that it will see.
        """
        if unsettled_TB is None and self._exit is None:
            return None
        done = start + len(readout_TBK)
        leaving = torch.zeros(len(self.here), dtype=torch.bool, device=readout_TBK.device)
        if unsettled_TB is not None:
            now = self._note_settled(start, ~unsettled_TB, complete_at)
            if self._options.drop_settled or self._exit is not None or bool(now.all()):
                leaving |= now
        if self._exit is not None:
            leaving |= self._exit.leaving(done, self._readout.in_logits(readout_TBK[-1], done))
        return leaving

    def _note_settled(self, start: int, settled_TB: Tensor, complete_at: int) -> Tensor:
        """bool [B]: images that have settled within these steps."""
        settled_TB[: max(0, complete_at - start)] = False
        first = (start + 1 + settled_TB.to(torch.uint8).argmax(dim=0)).cpu()
        now = settled_TB.any(dim=0)
        again = self.here[~settled_TB[-1].cpu()]  # found unsettled when the whole network was computed, see `passes`
        self.settled_at[again], self.steps_taken[again] = -1, self._options.num_steps
        is_new = now.cpu() & ~(self.settled_at[self.here] > 0)
        new = self.here[is_new]
        self.settled_at[new] = self.steps_taken[new] = first[is_new]
        return now

    def drop(self, done: int, leaving: Tensor) -> None:
        """Let images leave after `done` steps; leaving: bool [B]."""
        gone = leaving.cpu()
        self.steps_taken[self.here[gone]] = self.steps_taken[self.here[gone]].clamp_max(done)
        self.here = self.here[~gone]
        self._readout.keep_images(~leaving)
        if self._exit is not None:
            self._exit.keep_images(~leaving)
