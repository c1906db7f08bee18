"""Calls of functions, known by their place, shown while a network runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.dataflow import OPAQUE, other_image, smooth_output
from mst.dataflow.values import tensors_in
from mst.models import function_name
from mst.neurons import RunState, SpikingNeuron, begin_run, current_run, running

from .functions import Function, Key

Observe = Callable[[Function, list[Tensor]], None]

_UNOBSERVED: ContextVar[bool] = ContextVar("mst_unobserved", default=False)


@contextmanager
def unobserved() -> Iterator[None]:
    """Hide the calls of this block, which are a counter's own and not the network's, from every `CallObserver`."""
    token = _UNOBSERVED.set(True)
    try:
        yield
    finally:
        _UNOBSERVED.reset(token)


class CallObserver(TorchFunctionMode):
    """Shows the tensors of known calls before they are made.

    A call is known by the module whose forward makes it, the function, and how often this module has called it in the
    pass, as the tracer of the dataflow knows it.

    Args:
        network: the network that runs.
        functions: the calls to show.
        run: the run in which they are made; others are ignored.
        observe: called with the function and the tensors of its call.

    Attributes:
        missed: names of functions that a pass has not called as often as the trace has.
        reached: (path, function) -> calls in the present pass.
    """

    def __init__(self, network: nn.Module, functions: tuple[Function, ...], run: RunState, observe: Observe) -> None:
        super().__init__()
        self.missed: set[str] = set()
        self.reached: Counter[tuple[str, str]] = Counter()
        self._network, self._run, self._observe = network, run, observe
        self._wanted = {function.key: function for function in functions}
        self._names = {name for _, name, _ in self._wanted}
        self._paths = {path for path, _, _ in self._wanted}
        self._known: dict[Any, str] = {}
        self._stack: list[str] = []
        self._inside_opaque = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show the calls that are made in this block."""
        handles = []
        for path, module in self._network.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            if current_run() is not self._run or kwargs is None:
                return
            if not path:
                self._stack.clear()
                self.reached.clear()
                self._inside_opaque = 0
            self._stack.append(path)
            self._inside_opaque += isinstance(module, OPAQUE)

        return hook

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], *keywords_and_output: Any) -> None:
            if current_run() is not self._run or not self._stack:
                return
            self._stack.pop()
            self._inside_opaque -= isinstance(module, OPAQUE)
            if not path:
                self._check()

        return hook

    def _check(self) -> None:
        for (path, name, _), function in self._wanted.items():
            if self.reached[path, name] != function.calls:
                self.missed.add(function.name)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._stack or self._inside_opaque or _UNOBSERVED.get() or current_run() is not self._run:
            return func(*args, **kwargs)
        name = self._name_of(func)
        path = self._stack[-1]
        if name in self._names and path in self._paths:
            self.reached[path, name] += 1
            function = self._wanted.get((path, name, self.reached[path, name]))
            if function is not None:
                self._observe(function, list(tensors_in((*args, *kwargs.values()))))
        return func(*args, **kwargs)

    def _name_of(self, func: Callable[..., Any]) -> str:
        if func not in self._known:
            self._known[func] = function_name(func)
        return self._known[func]


@contextmanager
def showing_module_inputs(
    network: nn.Module, functions: tuple[Function, ...], run: RunState, observe: Observe
) -> Iterator[None]:
    """Show the inputs of functions that are modules with a row among the operations, which need no function mode.

    Args:
        network, run, observe: see `CallObserver`.
        functions: those to show.
    """
    wanted = {(function.key[0], function.key[2]): function for function in functions}
    calls: Counter[str] = Counter()
    in_step: list[int] = []

    def hook_of(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            if current_run() is not run or kwargs is None:
                return
            if in_step != [run.step]:  # another pass through the network begins
                in_step[:] = [run.step]
                calls.clear()
            calls[path] += 1
            if (path, calls[path]) in wanted:
                with unobserved():
                    observe(wanted[path, calls[path]], list(tensors_in((*args, *kwargs.values()))))

        return hook

    paths = {path for path, _ in wanted}
    handles = [network.get_submodule(p).register_forward_pre_hook(hook_of(p), with_kwargs=True) for p in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_batch_axes(
    functions: tuple[Function, ...], network: nn.Module, image: Tensor
) -> tuple[tuple[Function, ...], tuple[str, ...]]:
    """Find the axis of each operand on which images lie, by passes over one image and over two.

    Args:
        functions: as traced.
        network: the converted network.
        image: [1, ...].

    Returns:
        The functions, and the names of those that have been left out: they have an operand without such an axis.
    """
    observed = tuple(function for function in functions if not function.operation)
    if not observed:
        return functions, ()
    of_one: dict[Key, list[Tensor]] = {}
    axes: dict[Key, list[int | None]] = {}

    def keep(function: Function, tensors: list[Tensor]) -> None:
        of_one[function.key] = [tensors[each.index].clone() for each in function.operands]

    def compare(function: Function, tensors: list[Tensor]) -> None:
        of_two = [tensors[each.index] for each in function.operands if each.index < len(tensors)]
        axes[function.key] = [*map(_batch_axis, of_one.get(function.key, []), of_two)]

    _pass(network, image, observed, keep)
    reached = _pass(network, torch.cat([image, other_image(image)]), observed, compare)
    found: list[Function] = []
    for function in functions:
        known = [axis for axis in axes.get(function.key, []) if axis is not None]
        if function.operation:
            found.append(function)
        elif _are_aligned(function, known):
            operands = (replace(each, batch_axis=axis) for each, axis in zip(function.operands, known, strict=True))
            found.append(replace(function, operands=tuple(operands), calls=reached[function.key[:2]]))
    kept = {function.key for function in found}
    return tuple(found), tuple(function.name for function in functions if function.key not in kept)


def _pass(
    network: nn.Module, images: Tensor, functions: tuple[Function, ...], observe: Observe
) -> Counter[tuple[str, str]]:
    """One pass with smooth outputs in place of the spikes, so that no two images look the same. Returns the number of
    calls of each function in each module."""
    run = begin_run(network, batch_size=len(images))
    observer = CallObserver(network, functions, run, observe)
    handles = [
        module.register_forward_hook(lambda neuron, args, _: smooth_output(neuron, args[0]))
        for module in network.modules()
        if isinstance(module, SpikingNeuron)
    ]
    try:
        with torch.inference_mode(False), torch.no_grad(), running(run), observer.watching():
            network(images.detach().clone())
    finally:
        for handle in handles:
            handle.remove()
    return observer.reached


def _batch_axis(of_one: Tensor, of_two: Tensor) -> int | None:
    """The axis on which the tensor of two images holds that of the first, and then as much; None if there is none."""
    if of_one.dim() != of_two.dim():
        return None
    longer = [axis for axis, (one, two) in enumerate(zip(of_one.shape, of_two.shape, strict=True)) if one != two]
    if len(longer) != 1 or of_two.shape[longer[0]] != 2 * of_one.shape[longer[0]]:
        return None
    one, (first, second) = of_one.double(), of_two.double().chunk(2, dim=longer[0])
    apart, others_apart = (float((each - one).nan_to_num(posinf=0, neginf=0).norm()) for each in (first, second))
    # Sums are rounded otherwise in a batch of another size; of images that are mixed neither half is the first.
    return (
        longer[0]
        if apart <= max(0.25 * others_apart, 1e-4 * float(one.nan_to_num(posinf=0, neginf=0).norm()))
        else None
    )


def _are_aligned(function: Function, axes: list[int]) -> bool:
    """True if images lie on one axis of all operands, counted from the last, and on none of a row."""
    operands = function.operands
    if len(axes) != len(operands):
        return False
    from_last = {axis - len(each.shape) for each, axis in zip(operands, axes, strict=True)}
    return len(from_last) == 1 and not set(axes) & set(function.rule.axes)
