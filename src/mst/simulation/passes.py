"""How the network is computed at each step: whole, or for the images of which anything has changed.

Letters: T steps of a chunk, B images now in the batch, K what the network returns for one image.
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.incremental import Execution, Key, NotRecordableError, Observer, Program, program_of
from mst.models import NetworkInput, rows_of
from mst.neurons import RunState, SignedIFNeuron, SpikingNeuron, begin_run, running

from .examination import Prepared
from .input_schedule import InputSchedule
from .options import SimulationOptions

logger = logging.getLogger(__name__)

FEWEST_IMAGES = 8
"""Images of a batch from which on it pays to write the network down first, where that is left open."""


class WholePasses:
    """Computes all images at every step, several steps at once.

    Args:
        snn: the network.
        intake: has taken the images.
        run: the run, at the chunk that is to be computed.
        shown: the input of each step.
    """

    def __init__(self, snn: SpikingNetwork, intake: NetworkInput, run: RunState, shown: InputSchedule) -> None:
        self._snn, self._intake, self._run, self._shown = snn, intake, run, shown

    def logits(self) -> Tensor:
        """[T*B, K]: the output of the steps of the run's present chunk."""
        return self._whole(self._run, self._shown.at(self._run.step, self._run.steps_in_chunk))

    def keep_images(self, kept: Tensor) -> None:
        """Forget the images that have left; kept: bool [B]."""
        self._shown.keep_images(kept)

    def _whole(self, run: RunState, images: Tensor) -> Tensor:
        with running(run), self._intake.shown(images):
            return rows_of(self._snn(images), self._snn.network, len(images))


class IncrementalPasses(WholePasses):
    """Computes what has changed, one step at a time.

    When no neuron has anything left to send, all is computed once more, whole, by the network itself, while no neuron
    fires. So the answer is that of the whole network, and that it has settled is seen there too; if not (a value at the
    border of a level was rounded otherwise), all steps that follow are whole.

    Args:
        snn, intake, run, shown: see `WholePasses`.
        program: the network.
        prepared: whose counters count what is computed.
    """

    def __init__(
        self,
        snn: SpikingNetwork,
        intake: NetworkInput,
        run: RunState,
        shown: InputSchedule,
        program: Program,
        prepared: Prepared,
    ) -> None:
        super().__init__(snn, intake, run, shown)
        self._execution = Execution(program, run, _observers(prepared, run))
        self._before: Tensor | None = None
        self._is_doubtful = False

    def logits(self) -> Tensor:
        if self._is_doubtful:
            return super().logits()
        images = self._shown.at(self._run.step, 1)
        is_new = self._before is None or not torch.equal(images, self._before)
        self._before = images
        with running(self._run), self._intake.shown(images):
            logits = self._execution.step(images, is_new)
        assert self._run.unsettled is not None
        if self._run.step < self._shown.complete_at or bool(self._run.unsettled.any()):
            return logits
        review = copy.copy(self._run)
        review.is_review, review.counts, review.spike_observers = True, {}, {}
        review.notes_changed, review.visited_sites = False, set()
        review.begin_chunk(self._run.step, 1)
        logits = self._whole(review, images)
        assert review.unsettled is not None
        self._run.unsettled = review.unsettled
        self._is_doubtful = bool(review.unsettled.any())
        return logits

    def keep_images(self, kept: Tensor) -> None:
        super().keep_images(kept)
        self._execution.keep_images(kept)
        assert self._before is not None
        self._before = self._before[kept]


def leaves_out_unchanged(
    snn: SpikingNetwork, options: SimulationOptions, num_images: int, device: torch.device
) -> bool:
    """Whether a batch of this size is to be computed by `IncrementalPasses`, if the network can be."""
    if options.incremental is not None:
        return options.incremental
    pays = num_images >= FEWEST_IMAGES and device.type == "cpu" and options.steps_per_chunk is None
    return pays and snn.coding.settles


def program_for(snn: SpikingNetwork, images: Tensor, options: SimulationOptions) -> Program | None:
    """The network as a program, for passes over what has changed; None where it cannot be written down.

    Args:
        snn: the network.
        images: [B, ...], the first batch of this size, or its first slices.
        options: of the simulation.

    Raises:
        InputError: options.incremental is True, and the network cannot be written down.
    """
    try:
        _refuse_strangers(snn.network, images)
        return _tried_program(snn, images)
    except NotRecordableError as error:
        if options.incremental:
            raise InputError(
                f"what has not changed cannot be left out: {error}", remedy="leave incremental out"
            ) from error
        logger.info("every step computes all images: %s", error)
        return None


def _tried_program(snn: SpikingNetwork, images: Tensor) -> Program:
    """The program of a network, of which one step has been made for as many images as these.

    Raises:
        NotRecordableError: there is none, or it does not hold for so many images.
    """
    try:
        program, run = program_of(snn.network, images[:1]), begin_run(snn.network, batch_size=len(images))
        with running(run):
            Execution(program, run, {}).step(images, all_changed=True)
    except (InputError, RuntimeError, ValueError, TypeError, IndexError) as error:
        raise NotRecordableError("the calls depend on the number of images") from error
    return program


def _refuse_strangers(network: nn.Module, image: Tensor) -> None:
    """Refuse what must see every pass of the network as it is.

    Raises:
        NotRecordableError: there is such a thing.
    """
    modules = list(network.modules())
    if torch.is_autocast_enabled(image.device.type):
        raise NotRecordableError("autocast is on")
    neurons = [each for each in modules if isinstance(each, SpikingNeuron)]
    if not all(type(each) is SignedIFNeuron for each in neurons):
        raise NotRecordableError("neurons of another kind than mst.SignedIFNeuron")
    hooks = [hook for each in modules for hook in (*each._forward_hooks.values(), *each._forward_pre_hooks.values())]
    if any(getattr(hook, "__module__", "").partition(".")[0] != __package__.partition(".")[0] for hook in hooks):
        raise NotRecordableError("a hook watches a module")


def _observers(prepared: Prepared, run: RunState) -> dict[Key, list[Observer]]:
    found: dict[Key, list[Observer]] = {}
    if prepared.counter is not None:
        for key, observe in prepared.counter.observers(run).items():
            found.setdefault(Key(*key), []).append(Observer(observe))
    if prepared.functions is not None:
        for key, (observe, first_step) in prepared.functions.observers(run).items():
            found.setdefault(Key(*key), []).append(Observer(observe, first_step))
    return found
