"""A network as a list of calls that holds for any number of images, made of two recordings of different size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mst.dataflow.tables import CONSTANTS
from mst.models import function_name
from mst.neurons import SignedIFNeuron

from .recording import Key, NotRecordableError, Recorded, Recording, Ref, leaves, record, replaced

SIZES = (2, 3)
"""Images of the two recordings."""


@dataclass(frozen=True)
class PerImage:
    """A whole number that grows with the batch: an argument that is a size."""

    number: int
    """For one image."""


@dataclass
class Call:
    """One call of a program."""

    func: Callable[..., Any]
    """The function, or the neuron."""

    args: tuple[Any, ...]
    """Positional arguments, with a `Ref` for each tensor of an earlier call, and `PerImage` for sizes."""

    kwargs: dict[str, Any]
    """Keyword arguments, likewise."""

    refs: tuple[Ref, ...]
    """Those of args and kwargs."""

    reads: frozenset[int]
    """`sources` of its arguments."""

    sources: frozenset[int]
    """Numbers of the calls that decide for which images its result changes: the image (0), neurons, and calls that mix
    images. Empty for a constant."""

    rows: tuple[int, ...]
    """Rows of each result for one image; empty if the results do not grow with the batch."""

    is_by_image: bool
    """True if each image's rows of its results depend on the same image's rows of its arguments only."""

    written: Ref | None
    """The argument that it writes into; it is given a copy."""

    key: Key | None
    """The call as counters know it."""

    @property
    def is_neuron(self) -> bool:
        """True if signed neurons are called."""
        return isinstance(self.func, SignedIFNeuron)


@dataclass
class Program:
    """A network as a list of calls."""

    calls: list[Call]
    """In order; the first stands for the image."""

    entered: dict[Key, tuple[int, tuple[Any, ...]]]
    """Calls of modules: how many calls came before, and the tensors that the module is given, or `Ref`s to them."""

    output: Ref
    """The output of the network."""


def program_of(network: nn.Module, image: Tensor) -> Program:
    """The program of a network of signed neurons.

    Args:
        network: the network.
        image: [1, ...], for the form of images; their values are random.

    Raises:
        NotRecordableError: the network does what cannot be made again for some of the images alone.
    """
    tensors = [*network.parameters(), *network.buffers()]
    kept, versions = [each.clone() for each in network.buffers()], [each._version for each in tensors]
    try:
        small, large = (record(network, _random_images(image, size)) for size in SIZES)
    finally:
        is_changed = [each._version for each in tensors] != versions
        if is_changed:
            for buffer, content in zip(network.buffers(), kept, strict=True):
                buffer.copy_(content)
    if is_changed:
        raise NotRecordableError("its forward changes a buffer")
    return _Builder(small, large).build()


def _random_images(image: Tensor, number: int) -> Tensor:
    """Images [number, ...] between the lowest and the highest value of `image`, no two alike."""
    low, high = image.min(), image.max()
    noise = torch.rand((number, *image.shape[1:]), generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return low + (torch.where(high > low, high, low + 1) - low) * noise.to(image)


class _Builder:
    """Makes a program of two recordings."""

    def __init__(self, small: Recording, large: Recording) -> None:
        self._small, self._large = small, large
        self._calls: list[Call] = []

    def build(self) -> Program:
        """See `program_of`."""
        if len(self._small.calls) != len(self._large.calls) or self._small.output != self._large.output:
            raise NotRecordableError("the calls depend on the number of images")
        for number, pair in enumerate(zip(self._small.calls, self._large.calls, strict=True)):
            self._calls.append(self._call(number, *pair))
        if not self._calls[self._small.output.call].sources:
            raise NotRecordableError("the output does not depend on the image")
        entered = {key: (at, self._merged(tensors, self._large.entered[key][1]))
                   for key, (at, tensors) in self._small.entered.items()}  # fmt: skip
        return Program(self._calls, entered, self._small.output)

    def _call(self, number: int, small: Recorded, large: Recorded) -> Call:
        if small.func != large.func or small.written != large.written or small.key != large.key:
            raise NotRecordableError("the calls depend on the number of images")
        args, kwargs = self._merged(small.args, large.args), self._merged(small.kwargs, large.kwargs)
        refs = tuple(each for each in leaves((args, kwargs)) if isinstance(each, Ref))
        grows = any(one.shape != other.shape for one, other in zip(small.outputs, large.outputs, strict=True))
        rows = tuple(len(each) // SIZES[0] if each.dim() else 0 for each in small.outputs) if grows else ()
        reads: frozenset[int] = frozenset().union(*(self._calls[ref.call].sources for ref in refs))
        sources = frozenset() if function_name(small.func) in CONSTANTS else reads
        call = Call(small.func, args, kwargs, refs, reads, sources, rows, True, small.written, small.key)
        if number == 0 or call.is_neuron:
            call.sources = frozenset({number})
            return call
        if not sources and not rows:
            if any(isinstance(each, PerImage) for each in leaves((args, kwargs))):
                raise NotRecordableError("a constant depends on the number of images")
            return call
        call.is_by_image = self._is_by_image(call, small, large)
        if not call.is_by_image:
            if not sources:
                raise NotRecordableError("a constant depends on the number of images")
            call.sources = frozenset({number})
        return call

    def _has_rows(self, ref: Ref) -> bool:
        return bool(self._calls[ref.call].sources or self._calls[ref.call].rows)

    def _is_by_row(self, ref: Ref) -> bool:
        return _grows(self._of(self._small, ref), self._of(self._large, ref))

    @staticmethod
    def _of(recording: Recording, ref: Ref) -> Tensor:
        return recording.calls[ref.call].outputs[ref.item]

    def _merged(self, small: Any, large: Any) -> Any:
        """One structure of arguments for two that differ in sizes only."""
        others = iter(list(leaves(large)))
        if len(list(leaves(small))) != len(list(leaves(large))):
            raise NotRecordableError("arguments depend on the number of images")
        return replaced(small, lambda each: self._merged_leaf(each, next(others)))

    def _merged_leaf(self, small: Any, large: Any) -> Any:
        if isinstance(small, Tensor):
            if small is large or (isinstance(large, Tensor) and _same(small, large)):
                return small
            raise NotRecordableError("a tensor comes from no torch function")
        if type(small) is not type(large):
            raise NotRecordableError("arguments depend on the number of images")
        if small == large:
            return small
        if isinstance(small, int) and small * SIZES[1] == large * SIZES[0] and small % SIZES[0] == 0:
            return PerImage(small // SIZES[0])
        raise NotRecordableError("arguments depend on the number of images")

    def _is_by_image(self, call: Call, small: Recorded, large: Recorded) -> bool:
        """True if the call on the first and the last of three images gives these images' rows."""
        if not all(_grows(one, other) for one, other in zip(small.outputs, large.outputs, strict=True)):
            return False
        if not all(self._is_by_row(ref) for ref in call.refs if self._has_rows(ref)):
            return False

        def given(each: Any) -> Any:
            if isinstance(each, PerImage):
                return each.number * 2
            if not isinstance(each, Ref):
                return each
            tensor = self._of(self._large, each)
            if self._has_rows(each):
                tensor = _first_and_last(tensor)
            return tensor.clone() if each == call.written else tensor

        try:
            found = outputs_of(call, replaced(call.args, given), replaced(call.kwargs, given))
        except Exception:  # whatever the function raises, it cannot be called with some of the images
            return False
        return len(found) == len(large.outputs) and all(
            _same(one, _first_and_last(other)) for one, other in zip(found, large.outputs, strict=True)
        )


def outputs_of(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that a call returns; a call that writes into an argument returns this argument."""
    result = call.func(*args, **kwargs)
    if result is None:  # an assignment to some places
        return (args[0],)
    return (result,) if isinstance(result, Tensor) else tuple(each for each in leaves(result) if torch.is_tensor(each))


def _grows(small: Tensor, large: Tensor) -> bool:
    """True if the first axis holds the images, and nothing else depends on their number."""
    rows = len(small) if small.dim() else 0
    return rows * SIZES[1] == (len(large) if large.dim() else -1) * SIZES[0] and small.shape[1:] == large.shape[1:]


def _first_and_last(x: Tensor) -> Tensor:
    """[3k, ...] -> [2k, ...]."""
    k = len(x) // SIZES[1]
    return torch.cat([x[:k], x[2 * k :]])


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    tolerance = 1e-9 if one.element_size() == 8 else 1e-4 if one.element_size() == 4 else 3e-2
    size = other.abs().max().item() if other.numel() else 0.0
    return bool(torch.allclose(one, other, rtol=tolerance, atol=tolerance * size, equal_nan=True))
