"""Tensors on a CUDA device that has no values: what they meet must be on that device too, as on a real one.

torch's fake tensors know shape, type and device, and refuse operations on tensors of different devices as CUDA does.
What asks for values gets stand-ins: a condition is False, a number is 1, every tensor is finite, and half of what a
mask selects is there. A backward pass cannot run; gradients are ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Wait(NamedTuple):
    """A place in our code that waits for the device, because it needs a value or its shape depends on one."""

    file: str
    function: str
    in_loop: bool
    """True within the loop over time steps."""


class FakeCuda(TorchDispatchMode):
    """The mode that answers for values."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self._fake = fake
        self.waits: list[Wait] = []
        self.yes: tuple[str, ...] = ()
        """Functions of our code in which a condition is True."""

    def moved(self, model: nn.Module) -> nn.Module:
        """`model` itself, its parameters and buffers on the device."""
        known: dict[int, Tensor] = {}
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        if id(tensor) not in known:
                            there = self._fake.from_tensor(tensor).detach().to("cuda")
                            is_weight = isinstance(tensor, nn.Parameter)
                            known[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if is_weight else there
                        tensors[name] = known[id(tensor)]
        return model

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return self._value(func, args[0])
        if func is aten.equal.default:
            self._note(args[0])
            return True
        if func is aten.bincount.default:
            return args[0].new_empty(kwargs.get("minlength", args[2] if len(args) > 2 else 1))
        if func is aten.nonzero.default:
            self._note(args[0])
            return args[0].new_empty((_half(args[0].numel()), args[0].dim()), dtype=torch.int64)
        if func is aten.index.Tensor:
            return func(args[0], [index for each in args[1] for index in self._indices(each)])
        result = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source, target = (args[1], args[0]) if func is aten.copy_.default else (args[0], result)
            if target.device.type == "cpu":
                self._note(source)
        return result

    def _value(self, func: Any, tensor: Tensor) -> Any:
        if tensor.device.type == "cpu" and getattr(tensor, "constant", None) is not None:
            return func(tensor)
        self._note(tensor)
        if tensor.dtype == torch.bool:
            return _place()[1] in self.yes
        return 1.0 if tensor.is_floating_point() else 1

    def _indices(self, index: Tensor | None) -> list[Tensor | None]:
        if index is None or index.dtype != torch.bool:
            return [index]
        self._note(index)
        return [torch.empty(_half(index.numel()), dtype=torch.int64, device=index.device)] * index.dim()

    def _note(self, tensor: Tensor) -> None:
        if tensor.device.type == "cuda":
            self.waits.append(Wait(*_place()))


def _half(number: int) -> int:
    return number - number // 2


def _place() -> tuple[str, str, bool]:
    ours: list[CodeType] = []  # the innermost first
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if "/src/mst/" in frame.f_code.co_filename:
            ours.append(frame.f_code)
        frame = frame.f_back
    if not ours:
        return "", "", False
    in_loop = any(code.co_filename.endswith("simulation/loop.py") and code.co_name == "_run" for code in ours)
    return ours[0].co_filename.rpartition("/src/mst/")[2], ours[0].co_name, in_loop


class _Finite:
    def all(self, *_: Any) -> _Finite:
        return self

    def __bool__(self) -> bool:
        return True


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """Within the block every tensor is a fake one, and device "cuda" can be used."""

    def ones(_: Any, inputs: Any, *__: Any, **___: Any) -> tuple[Tensor, ...]:
        return tuple(torch.ones_like(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs))

    with pytest.MonkeyPatch.context() as patch, FakeTensorMode() as fake, FakeCuda(fake) as device:
        patch.setattr(Tensor, "isfinite", lambda self: _Finite())
        patch.setattr(torch, "isfinite", lambda x: _Finite())
        patch.setattr(torch.autograd, "grad", ones)
        yield device
