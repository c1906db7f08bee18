"""Networks without the wrappers that torch puts around them, and copies of networks."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mst.errors import InputError
from mst.text import note, one_line

Model = TypeVar("Model", bound=nn.Module)

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_SHARDED = ("FullyShardedDataParallel", "FSDPModule")
_COMPILED_FROM = "_torchdynamo_orig_callable"


def unwrapped(model: nn.Module) -> nn.Module:
    """The network without the wrappers of torch around it or around its parts.

    Wrappers are DataParallel, DistributedDataParallel, AveragedModel, and everything that torch.compile does: the
    module that it returns, `module.compile()`, a compiled forward.

    Args:
        model: a network; it does not change.

    Returns:
        `model` itself if nothing wraps it or a part of it. Otherwise a network of the same parameters, buffers and
        modules; only modules that hold a wrapper are new objects, which share their tensors with the old ones.

    Raises:
        InputError: weights that FSDP has divided among processes.
    """
    return _bare(model, "", {})


def _bare(module: nn.Module, path: str, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) not in done:
        done[id(module)] = _stripped(module, path, done)
    return done[id(module)]


def _stripped(module: nn.Module, path: str, done: dict[int, nn.Module]) -> nn.Module:
    if isinstance(module, torch.jit.ScriptModule):  # has no parts of Python to look at
        return module
    if any(kind.__name__ in _SHARDED for kind in type(module).__mro__):
        raise InputError(
            "FSDP has divided its weights among processes", where=path or type(module).__name__,
            remedy="gather them (torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict) "
            "and load them into the plain network",
        )  # fmt: skip
    inner = _wrapped_by(module)
    if inner is not None:
        if module._forward_hooks or module._forward_pre_hooks:
            note(f"{path or 'the network'}: the hooks of its {type(module).__name__} are not run")
        return _bare(inner, path, done)
    children = {
        name: None if child is None else _bare(child, f"{path}.{name}" if path else name, done)
        for name, child in module._modules.items()
    }
    attributes = {name: _eager(value) for name, value in vars(module).items()}
    if _eager(type(module).forward) is not type(module).forward:
        attributes.setdefault("forward", MethodType(_eager(type(module).forward), module))
    attributes.pop("_compiled_call_impl", None)
    same = all(children[name] is child for name, child in module._modules.items())
    if same and attributes.keys() == vars(module).keys() and all(attributes[n] is v for n, v in vars(module).items()):
        return module
    clone = type(module).__new__(type(module))
    for name, value in attributes.items():
        if isinstance(value, MethodType) and value.__self__ is module:
            attributes[name] = MethodType(value.__func__, clone)
    clone.__dict__.update(attributes, _modules=children)
    return clone


def _wrapped_by(module: nn.Module) -> nn.Module | None:
    """The network inside a wrapper; None if the module is not a wrapper."""
    compiling = sys.modules.get("torch._dynamo.eval_frame")  # slow to import, and nothing is compiled without it
    if compiling is not None and isinstance(module, compiling.OptimizedModule):
        inner: nn.Module = module.get_submodule("_orig_mod")
        return inner
    return module.get_submodule("module") if isinstance(module, _WRAPPERS) else None


def _eager(value: Any) -> Any:
    """The function that torch.compile was given; any other value as it is."""
    while isinstance(value, FunctionType) and hasattr(value, _COMPILED_FROM):
        value = getattr(value, _COMPILED_FROM)
    return value


def copy_network(model: Model) -> Model:
    """A deep copy of a network.

    A function among a module's attributes that refers to a module of the network refers to that module's copy in the
    copy, as a bound method does; `copy.deepcopy` alone would leave it with the original.

    Args:
        model: a network; it does not change.

    Raises:
        InputError: a part cannot be copied. Names the path of the attribute, the reason and a remedy.
    """
    memo: dict[int, Any] = {}
    try:
        network = copy.deepcopy(model, memo)
    except Exception as error:  # a part may raise anything
        path, part, reason = _uncopyable(model, "", {id(model)}) or ("", model, error)
        raise InputError(
            f"the network cannot be copied: {_in_words(part, reason)}",
            where=type(model).__name__ + path, remedy=_remedy(part),
        ) from reason  # fmt: skip
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__closure__:
                vars(module)[name] = _rebound(value, memo)
    return network


def _rebound(function: FunctionType, memo: Mapping[int, Any]) -> FunctionType:
    """The function with copies in place of the modules that it refers to."""
    cells = tuple(
        CellType(memo[id(cell.cell_contents)])
        if isinstance(_content(cell), nn.Module) and id(cell.cell_contents) in memo
        else cell
        for cell in function.__closure__ or ()
    )
    if cells == function.__closure__:
        return function
    new = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    new.__kwdefaults__ = function.__kwdefaults__
    new.__dict__.update(function.__dict__)
    return new


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _uncopyable(value: Any, path: str, seen: set[int]) -> tuple[str, Any, Exception] | None:
    """Path, value and error of the innermost part that cannot be copied; None if every part can."""
    for name, part in _parts(value):
        if id(part) in seen:
            continue
        seen.add(id(part))
        try:
            copy.deepcopy(part)
        except Exception as error:  # a part may raise anything
            return _uncopyable(part, path + name, seen) or (path + name, part, error)
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Parts of an object, each under the end of its path."""
    if isinstance(value, Tensor | ModuleType | type):
        return
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    attributes = getattr(value, "__dict__", {})
    if isinstance(value, nn.Module):
        groups = ("_parameters", "_buffers", "_modules")
        attributes = {n: v for n, v in attributes.items() if n not in groups} | {
            name: part for group in groups for name, part in attributes.get(group, {}).items()
        }
    yield from ((f".{name}", part) for name, part in attributes.items())


def _in_words(part: Any, reason: Exception) -> str:
    if isinstance(part, Tensor):
        return "this tensor is the result of a computation with gradients"
    kind = type(part)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"this object of the class {name} refuses it ({one_line(reason)})"


def _remedy(part: Any) -> str:
    if isinstance(part, Tensor):
        return (
            "make pruning or weight normalisation permanent first (torch.nn.utils.prune.remove, "
            "torch.nn.utils.remove_weight_norm); keep a tensor of a forward pass as tensor.detach()"
        )
    return "set the attribute to None first, or leave it out in a __getstate__ of the class that holds it"
