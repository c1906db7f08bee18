"""Questions that the trace of one pass leaves open, and further passes that settle them."""

from __future__ import annotations

from torch import Tensor, nn

from mst.neurons import SpikingMaxPool, SpikingNeuron

from . import remedies
from .places import Place, Places
from .replay import Replay, other_image, same
from .values import Dataflow


class Doubts:
    """Collects the doubts of a pass.

    Args:
        places: those of the pass.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._num_watched = 0
        self._without_flow: list[tuple[int, str, str]] = []  # (number among the watched, path, what it is)
        self._draws: list[tuple[int, int]] = []  # (place, number of the first result among the draws)
        self._num_draws = 0
        self._left_torch: list[tuple[bool, str, str]] = []  # (depends on the image or on chance, path, function)

    def watch(self, where: str, what: str, has_flow: bool) -> None:
        """A tensor has arrived. Without a flow it is a constant of the network, or made by code that torch does not
        show."""
        if not has_flow:
            self._without_flow.append((self._num_watched, where, what))
        self._num_watched += 1

    def draw(self, place: int, num_results: int) -> None:
        """A function at `place` has drawn random numbers, perhaps of a generator that always begins with one seed."""
        self._draws.append((place, self._num_draws))
        self._num_draws += num_results

    def leave(self, where: str, name: str, depends: bool) -> None:
        """The function `name` has made a value of Python; `depends` if of activations or of chance."""
        self._left_torch.append((depends, where, name))

    def settle(self, replay: Replay, image: Tensor, network: nn.Module, seen: Dataflow) -> None:
        """Run further passes over `image` [1, ...] and another image, if there is any doubt; add places for what stands
        in the way, and the constants to `seen`."""
        leaving = [number for number, (depends, _, _) in enumerate(self._left_torch) if depends]
        if not (self._without_flow or self._draws or leaving):
            return
        base = replay.run(image)
        if self._draws:
            again = replay.run(image)
            for place, number in self._draws:
                if same(base.draws[number], again.draws[number]):
                    self._places[place].is_used = False
        if self._without_flow:
            other = replay.run(other_image(image))
            for number, where, what in self._without_flow:
                if not same(base.inputs[number], other.inputs[number]):
                    self._refuse(remedies.invisible(what, where))
                elif not where and what == "the output":
                    self._refuse(remedies.constant_output())
                elif isinstance(network.get_submodule(where), SpikingNeuron | SpikingMaxPool):
                    seen.constants.append(where)
        for number in leaving:
            if replay.decides(image, number, base):
                _, where, name = self._left_torch[number]
                self._refuse(remedies.leaves_torch(name, where))

    def _refuse(self, place: Place) -> None:
        self._places.use([self._places.add(place)])
