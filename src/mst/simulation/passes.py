"""How the network is computed at each step: whole, or for the images of which anything has changed.

Letters: T steps of a chunk, B images now in the batch, K what the network returns for one image.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.modules.module as torch_modules
from torch import Tensor, nn

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.incremental import Execution, Key, NotRecordableError, Observer, Program, program_of
from mst.models import NetworkInput, rows_of
from mst.neurons import RunState, SignedIFNeuron, SpikingNeuron, begin_run, running
from mst.text import one_line

from .examination import Prepared
from .input_schedule import InputSchedule

WITHOUT = "leave incremental out"
"""The remedy where incremental simulation is not possible."""


class NotIncrementalError(InputError):
    """A network cannot be computed incrementally."""


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

    When no neuron has anything left to send, and after the last step, the network itself computes all images once more
    while no neuron fires. The answers are those of this pass, and an image has settled only if no neuron misses
    anything there either. If one does (a value at the border of a level was rounded otherwise), all steps that follow
    are whole.

    Args:
        snn, intake, run, shown: see `WholePasses`.
        program: the network.
        prepared: whose counters count what is computed.
        num_steps: T.
    """

    def __init__(
        self,
        snn: SpikingNetwork,
        intake: NetworkInput,
        run: RunState,
        shown: InputSchedule,
        program: Program,
        prepared: Prepared,
        num_steps: int,
    ) -> None:
        super().__init__(snn, intake, run, shown)
        self._execution = Execution(program, run, _observers(prepared, run))
        self._num_steps = num_steps
        self._before: Tensor | None = None
        self._is_doubtful = False

    def logits(self) -> Tensor:
        if self._is_doubtful:
            return super().logits()
        images = self._shown.at(self._run.step, 1)
        is_new = self._before is None or not torch.equal(images, self._before)
        self._before = images
        try:
            with running(self._run):
                logits = self._execution.step(images, is_new)
        except torch.OutOfMemoryError:
            raise
        except (NotRecordableError, RuntimeError, TypeError, ValueError, IndexError) as error:
            raise _impossible(error) from error
        unsettled = self._run.unsettled
        assert unsettled is not None
        is_last = self._run.step + 1 == self._num_steps
        if not is_last and (self._run.step < self._shown.complete_at or bool(unsettled.any())):
            return logits
        review = copy.copy(self._run)
        review.is_review, review.counts, review.spike_observers = True, {}, {}
        review.notes_changed, review.visited_sites = False, set()
        review.begin_chunk(self._run.step, 1)
        logits = self._whole(review, images)
        assert review.unsettled is not None
        self._run.unsettled = unsettled | review.unsettled
        self._is_doubtful = bool(review.unsettled.any())
        return logits


def program_for(snn: SpikingNetwork, images: Tensor) -> Program:
    """The network as a program for incremental passes, of which one step has been tried on these images.

    Args:
        snn: the network.
        images: [B, ...], the first batch of this size, or its first slices.

    Raises:
        NotIncrementalError: the network cannot be recorded, or the program does not do on these images what it does.
    """
    try:
        _refuse_observed(snn.network, images)
        program = program_of(snn.network, images[:1])
        one, other = (begin_run(snn.network, batch_size=len(images)) for _ in range(2))
        with running(one):
            found = Execution(program, one, {}).step(images, all_changed=True)
        with running(other):
            expected = rows_of(snn(images), snn.network, len(images))
        slots = [(neuron.site, slot) for neuron in _neurons(snn.network) for slot in neuron.slots]
        if not _close(found, expected) or not all(_close(one.state[slot], other.state[slot]) for slot in slots):
            raise NotRecordableError("its first step differs from that of the whole network")
        return program
    except NotRecordableError as error:
        raise _impossible(error) from error
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a foreign forward may raise anything
        raise _impossible(error) from error


def _impossible(error: Exception) -> NotIncrementalError:
    return NotIncrementalError(
        f"incremental simulation of this network is not possible: {one_line(error)}", remedy=WITHOUT
    )


def _close(one: Tensor, other: Tensor) -> bool:
    """True if two tensors differ by rounding at most."""
    tolerance = 1e-9 if one.element_size() == 8 else 1e-4 if one.element_size() == 4 else 3e-2
    return torch.equal(one, other) or torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _neurons(network: nn.Module) -> list[SpikingNeuron]:
    return [module for module in network.modules() if isinstance(module, SpikingNeuron)]


def _refuse_observed(network: nn.Module, image: Tensor) -> None:
    """Refuse autocast, neurons of other classes, and hooks, which have to see every pass of the network.

    Raises:
        NotRecordableError: there is one of these.
    """
    modules = list(network.modules())
    if torch.is_autocast_enabled(image.device.type):
        raise NotRecordableError("autocast is on")
    if not all(type(each) is SignedIFNeuron for each in _neurons(network)):
        raise NotRecordableError("neurons of another kind than mst.SignedIFNeuron")
    hooks = [hook for each in modules for hook in (*each._forward_hooks.values(), *each._forward_pre_hooks.values())]
    hooks += [*torch_modules._global_forward_hooks.values(), *torch_modules._global_forward_pre_hooks.values()]
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
