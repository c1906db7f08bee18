"""A recording of one pass through a network, call by call, so that it can be repeated for some of the images.

A function mode sees every torch function. Neurons are calls of their own; what is inside them is not recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.dataflow import OPAQUE
from mst.dataflow.calls import by_batch_statistics, writes
from mst.dataflow.tables import LEAVES_TORCH
from mst.dataflow.values import tensors_in
from mst.models import draws_random_numbers, function_name, rows_of
from mst.neurons import SignedIFNeuron, SpikingNeuron, begin_run, current_run, running
from mst.neurons.functional import quantum

FACTS = frozenset({
    "get", "size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "is_floating_point",
    "is_complex", "is_contiguous", "is_same_size", "get_device", "len", "hash", "storage_offset", "is_signed",
    "is_tensor", "result_type", "type", "repr",
})  # fmt: skip
"""Functions that return the shape or type of a tensor, not its values."""

SHAPE_BY_VALUES = frozenset({
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "unique_dim", "bincount", "masked_scatter",
})  # fmt: skip
"""Functions whose result has a shape that depends on values."""


class NotRecordableError(Exception):
    """The pass does what cannot be made again for other images."""


class Ref(NamedTuple):
    """A tensor that an earlier call has returned."""

    call: int
    """Number of the call; 0 is the image."""

    item: int
    """Index among the tensors that the call returns."""


THE_IMAGE = Ref(0, 0)


class Key(NamedTuple):
    """A call as the counters of operations know it."""

    path: str
    """Path of the module whose forward makes it; "" for the network itself."""

    name: str
    """Name of the function; "" for the call of the module itself."""

    number: int
    """Number of this call among those that the module makes, or of the module, in one pass; counted from 1."""


@dataclass
class Recorded:
    """One call."""

    func: Callable[..., Any]
    """The function, or the neuron."""

    args: tuple[Any, ...]
    """Positional arguments, with a `Ref` for each tensor that an earlier call has returned."""

    kwargs: dict[str, Any]
    """Keyword arguments, likewise."""

    outputs: tuple[Tensor, ...]
    """The tensors that it returned."""

    written: Ref | None
    """The argument that it has written into, and returns; None if it returns tensors of its own."""

    key: Key | None
    """None inside modules that the counters leave alone."""


@dataclass
class Recording:
    """One pass."""

    calls: list[Recorded] = field(default_factory=list)
    """All calls in order; the first stands for the image."""

    entered: dict[Key, tuple[int, tuple[Any, ...]]] = field(default_factory=dict)
    """Calls of modules: how many calls came before, and the tensors that the module was given, or `Ref`s to them."""

    output: Ref = THE_IMAGE
    """The output of the network."""


def the_image() -> None:
    """Stands in the place of a function in the first entry, which is not a call."""


def record(network: nn.Module, images: Tensor) -> Recording:
    """Record one pass of `images` [B, ...], none of them alike, through a network of signed neurons.

    The neurons return random levels, so that no two images are alike behind them either.

    Raises:
        NotRecordableError: it does what cannot be made again for other images.
    """
    return _Recorder(network).run(images)


class _Recorder(TorchFunctionMode):
    """Records a pass while it is active."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._recording = Recording()
        self._refs: dict[int, Ref] = {}
        self._keep: list[Tensor] = []  # an id is unique only while its tensor lives
        self._owners: dict[int, set[int]] = {}  # address of memory -> ids of the known tensors in it
        self._stack: list[str] = []
        self._reached: Counter[tuple[str, str]] = Counter()
        self._inside_opaque = self._inside_neuron = 0
        self._generator = torch.Generator().manual_seed(0)

    def run(self, images: Tensor) -> Recording:
        """See `record`."""
        self._run_state = begin_run(self._network, batch_size=len(images))
        images = images.clone()
        self._note(Recorded(the_image, (), {}, (images,), None, None))
        with self._watching(), torch.no_grad(), running(self._run_state), self:
            output = rows_of(self._network(images), self._network, len(images))
        if id(output) not in self._refs:
            raise NotRecordableError("the output does not come from a torch function")
        self._recording.output = self._refs[id(output)]
        return self._recording

    @contextmanager
    def _watching(self) -> Iterator[None]:
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            if current_run() is not self._run_state or kwargs is None:
                return
            self._stack.append(path)
            self._reached[path, ""] += 1
            key = Key(path, "", self._reached[path, ""])
            tensors = tuple(self._refs.get(id(x), x) for x in tensors_in((*args, *kwargs.values())))
            self._recording.entered[key] = len(self._recording.calls), tensors
            self._inside_opaque += isinstance(module, OPAQUE)
            self._inside_neuron += isinstance(module, SpikingNeuron)

        return hook

    def _after(self, module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> Tensor | None:
        if current_run() is not self._run_state:
            return None
        self._stack.pop()
        self._inside_opaque -= isinstance(module, OPAQUE)
        if not isinstance(module, SpikingNeuron):
            return None
        if not isinstance(module, SignedIFNeuron) or len(args) != 1 or keywords_and_output[0]:
            raise NotRecordableError(f"site {module.site!r} is not called with one tensor")
        low, high = module.levels
        shape = args[0].shape
        levels = torch.empty_like(args[0]).copy_(torch.randint(low, high + 1, shape, generator=self._generator))
        output = (levels * quantum(levels, module.threshold, module.num_levels)).to(levels.dtype)
        self._note(Recorded(module, self._noted(args), {}, (output,), None, None))
        self._inside_neuron -= 1
        return output

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside_neuron or current_run() is not self._run_state:
            return func(*args, **kwargs)
        name, full = function_name(func), getattr(func, "__name__", "")
        path = self._stack[-1] if self._stack else ""
        key = None
        if not self._inside_opaque:
            self._reached[path, name] += 1
            key = Key(path, name, self._reached[path, name])
        given = list(tensors_in((*args, *kwargs.values())))
        known = [x for x in given if id(x) in self._refs]
        if full in LEAVES_TORCH and known:
            raise NotRecordableError(f"{full} in {path!r} may decide by values")
        if known and (name in SHAPE_BY_VALUES or _by_flags(name, args, kwargs)):
            raise NotRecordableError(f"the shape of what {full} in {path!r} returns may depend on values")
        self._refuse_chance(func, name, args, kwargs)
        call_args, call_kwargs = self._noted(args), self._noted(kwargs)
        versions = [x._version for x in given]
        before = [x.clone() for x in known] if writes(func, name, kwargs) else None
        result = func(*args, **kwargs)
        written = [x for x, version in zip(given, versions, strict=True) if x._version != version]
        outputs = (result,) if isinstance(result, Tensor) else tuple(tensors_in((result,)))
        if written:
            outputs = self._written(written, outputs, name)
            if before is None:
                raise NotRecordableError(f"{full} in {path!r} writes into its argument")
            self._keep_content(written[0], before[[x is written[0] for x in known].index(True)])
        elif not outputs:
            if known and name not in FACTS:
                raise NotRecordableError(f"{full} in {path!r} returns no tensor")
            return result
        elif any(id(out) in self._refs for out in outputs):  # returns what it was given
            if len(outputs) > 1 or not any(outputs[0] is each for each in known):
                raise NotRecordableError(f"{full} in {path!r} returns one of its arguments")
            return result
        target = self._refs[id(written[0])] if written else None
        self._note(Recorded(func, call_args, call_kwargs, outputs, target, key))
        return result

    def _written(self, written: list[Tensor], outputs: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
        """The tensor that a call has written into, its result; it must be known and share its memory with no other."""
        (target, *others) = written
        alone = id(target) in self._refs and len(self._owners[_address(target)]) == 1
        if others or not alone or any(out is not target for out in outputs):
            raise NotRecordableError(f"{name} writes into a tensor that others may read")
        return (target,)

    def _keep_content(self, target: Tensor, content: Tensor) -> None:
        """The call that has returned `target` keeps what was in it before another call wrote into it."""
        number, item = self._refs[id(target)]
        outputs = list(self._recording.calls[number].outputs)
        outputs[item] = content
        self._recording.calls[number].outputs = tuple(outputs)

    def _refuse_chance(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if draws_random_numbers(name, args, kwargs):
            raise NotRecordableError(f"{name} draws random numbers")
        if name == "batch_norm" and by_batch_statistics(func, args, kwargs):
            raise NotRecordableError("BatchNorm by statistics of the batch")

    def _noted(self, value: Any) -> Any:
        """Arguments, with refs in place of known tensors."""
        return replaced(value, lambda x: self._refs.get(id(x), x) if isinstance(x, Tensor) else x)

    def _note(self, call: Recorded) -> None:
        number = len(self._recording.calls)
        self._recording.calls.append(call)
        for item, output in enumerate(call.outputs):
            self._refs[id(output)] = Ref(number, item)
            self._keep.append(output)
            self._owners.setdefault(_address(output), set()).add(id(output))


def replaced(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A structure of tuples, lists, dicts and slices with `leaf` applied to all that is none of these."""
    if isinstance(value, Ref):
        return leaf(value)
    if isinstance(value, torch.Size):
        return tuple(leaf(each) for each in value)
    if isinstance(value, tuple):
        parts = [replaced(each, leaf) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [replaced(each, leaf) for each in value]
    if isinstance(value, dict):
        return {key: replaced(each, leaf) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(replaced(value.start, leaf), replaced(value.stop, leaf), replaced(value.step, leaf))
    return leaf(value)


def leaves(value: Any) -> Iterator[Any]:
    """All that `replaced` hands to its function, in that order."""
    if isinstance(value, (tuple, list)) and not isinstance(value, Ref):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, slice):
        yield from (value.start, value.stop, value.step)
    else:
        yield value


def _by_flags(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True for a selection by flags, or by a number of repetitions that is a tensor."""
    if name in ("getitem", "setitem", "index_put"):
        return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in leaves(args[1:2]))
    if name == "where":
        return len(args) + len(kwargs) == 1
    return name == "repeat_interleave" and any(isinstance(each, Tensor) for each in (*args[1:2], *kwargs.values()))


def _address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
