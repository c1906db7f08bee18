"""The same pass again: whether a tensor depends on the image, a draw on chance, the answer on a value of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.models import draws_random_numbers, function_name
from mst.neurons import SpikingNeuron, begin_run, current_run, running

from . import tables
from .values import tensors_in

LARGE = 10**6
"""A number that crosses most limits."""


@dataclass
class Seen:
    """Result of one pass."""

    inputs: list[Tensor] = field(default_factory=list)
    """Inputs of the watched modules in the order of their calls; the output comes last."""

    draws: list[Tensor] = field(default_factory=list)
    """Results of functions that draw random numbers."""

    def equals(self, other: Seen) -> bool:
        """True if the same has reached the watched modules and the output."""
        return len(self.inputs) == len(other.inputs) and all(map(same, self.inputs, other.inputs))


def same(one: Tensor, other: Tensor) -> bool:
    """True if two tensors hold the same values; NaN is the same as NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    tolerance = 1e-6 if one.element_size() >= 4 else 1e-2  # a GPU may add in another order
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * 1e-2, equal_nan=True)


def other_image(image: Tensor) -> Tensor:
    """An image [1, ...] of the same range as `image`, but of other values and darker on average."""
    low, high = image.min(), image.max()
    high = torch.where(high > low, high, low + 1)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return low + (high - low) * noise.square().to(image)


def smooth_output(neuron: SpikingNeuron, x: Tensor) -> Tensor:
    """λ·|x|/(λ + |x|), in place of a neuron's output: what it may send on average, without levels, so that nothing that
    depends on its input is quantised away or silent."""
    size = x.abs()
    return (neuron.threshold * size / (neuron.threshold + size)).to(x.dtype)


class Replay(TorchFunctionMode):
    """Runs a network on images as the tracer does, with the `smooth_output` of its neurons.

    Args:
        network: a network of spiking neurons.
        watched: modules whose inputs are noted.
        opaque: modules whose inside is left alone.
    """

    def __init__(
        self, network: nn.Module, watched: tuple[type[nn.Module], ...], opaque: tuple[type[nn.Module], ...]
    ) -> None:
        super().__init__()
        self._network, self._watched, self._opaque = network, watched, opaque

    def run(self, image: Tensor, change: tuple[int, Callable[[Any], Any]] | None = None) -> Seen:
        """One pass over `image` [1, ...]; `change` is the number of a call that leaves torch, and what to return
        instead, as a function of its tensor."""
        self._seen, self._change, self._left, self._inside, self._is_flag = Seen(), change, 0, 0, False
        self._state = begin_run(self._network, batch_size=len(image))
        with self._watching(), torch.no_grad(), running(self._state), self:
            output = self._network(image.clone())
        self._seen.inputs.append(output)
        return self._seen

    @contextmanager
    def _watching(self) -> Iterator[None]:
        handles = []
        for module in self._network.modules():
            handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        if current_run() is not self._state or kwargs is None:
            return
        if isinstance(module, self._watched):
            self._seen.inputs.extend(x.clone() for x in list(tensors_in((*args, *kwargs.values())))[:1])
        self._inside += isinstance(module, self._opaque)
        if isinstance(module, SpikingNeuron) and module.site in self._state.visited_sites:
            self._state.forget(module.site)  # used twice, which the tracer reports

    def _after(self, module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> Tensor | None:
        if current_run() is not self._state:
            return None
        if isinstance(module, SpikingNeuron):
            output = smooth_output(module, next(tensors_in((*args, *keywords_and_output[0].values()))))
        self._inside -= isinstance(module, self._opaque)
        return output if isinstance(module, SpikingNeuron) else None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside or current_run() is not self._state:
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") in tables.LEAVES_TORCH:
            self._left += 1
            if self._change is not None and self._change[0] == self._left - 1:
                value = _changed(func, args, kwargs, self._change[1])
                self._is_flag = isinstance(value, bool)
                return value
        result = func(*args, **kwargs)
        if draws_random_numbers(function_name(func), args, kwargs):
            self._seen.draws.extend(x.clone() for x in tensors_in((result,)))
        return result

    def decides(self, image: Tensor, number: int, base: Seen) -> bool:
        """True if the answer depends on the value that the call `number` has taken out of torch.

        The value is changed; a pass that then fails (an assertion, an error that the network raises) shows a check,
        which is harmless, unless it fails whatever the value.

        Args:
            image: [1, ...].
            number: of the call, counted from 0 among those that leave torch.
            base: the pass with the value as it is.
        """
        failed = 0
        for change in CHANGES:
            try:
                seen = self.run(image, (number, change))
            except Exception:  # a foreign forward may raise anything
                failed += 1
            else:
                if not seen.equals(base):
                    return True
            if self._is_flag:
                return False
        return failed == len(CHANGES)


def _changed(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], change: Any) -> Any:
    """The result of `func` for other values than those of its tensor; a truth value becomes its opposite."""
    result = func(*args, **kwargs)
    if isinstance(result, bool):
        return not result
    return func(change(args[0]), *args[1:], **kwargs)


def _moved(x: Tensor) -> Tensor:
    return ~x if x.dtype == torch.bool else x + 1 if not x.is_floating_point() else 2 * x + 1


def _large(x: Tensor) -> Tensor:
    return ~x if x.dtype == torch.bool else (x.double() + LARGE).to(x.dtype)


def _small(x: Tensor) -> Tensor:
    return ~x if x.dtype == torch.bool else (x.double() - LARGE).to(x.dtype)


CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (_moved, _large, _small)
