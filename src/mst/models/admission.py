"""Conditions that a network must meet before anything is done with it: one tensor in, one tensor out, no chance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.errors import InputError

_DRAWS = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli",
    "multinomial", "poisson", "binomial", "uniform", "exponential", "geometric", "cauchy", "log_normal", "random",
    "gumbel_softmax", "fractional_max_pool2d", "fractional_max_pool3d",
})  # fmt: skip
"""Functions that draw random numbers whenever they are called, under the names of `function_name`."""

_DROPOUTS = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
    "native_dropout", "rrelu",
})  # fmt: skip
"""Functions that draw random numbers while their argument `training` is true."""


def function_name(func: Callable[..., Any]) -> str:
    """The name of a torch function without underscores at its ends: "relu" for relu, relu_ and Tensor.relu."""
    name = getattr(func, "__name__", str(func))
    return str(name).partition(".")[0].strip("_").removesuffix("_")


def draws_random_numbers(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """True if this call of the function `name` draws random numbers.

    Args:
        name: as `function_name` gives it.
        args, kwargs: of the call.
    """
    if name in _DROPOUTS:
        default = name not in ("rrelu", "alpha_dropout", "feature_alpha_dropout")
        place = 3 if name == "rrelu" else 2
        is_training = kwargs.get("training", kwargs.get("train", args[place] if len(args) > place else default))
        probability = kwargs.get("p", args[1] if len(args) > 1 and name != "rrelu" else 0.5)
        return bool(is_training) and probability not in (0, 1)
    if name == "scaled_dot_product_attention":
        return bool(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if name == "multi_head_attention_forward":
        return bool(kwargs.get("training", True) and kwargs.get("dropout_p", 0.0))
    return name in _DRAWS


def about_chance(name: str) -> tuple[str, str]:
    """The problem with the random function `name` in evaluation, and its remedy."""
    if name == "scaled_dot_product_attention":
        return f"{name} drops at random in evaluation", "pass dropout_p=p if self.training else 0.0"
    if name.startswith("fractional_max_pool"):
        return f"{name} draws its windows at random in evaluation", "use nn.MaxPool2d or nn.MaxPool3d"
    if name in _DROPOUTS or name == "multi_head_attention_forward":
        return f"{name} is random in evaluation", "pass training=self.training"
    return (
        f"{name} draws random numbers in evaluation",
        "draw them only if self.training, or once, into a buffer of the network",
    )


class _ChanceFinder(TorchFunctionMode):
    """Notes every call of a function that draws random numbers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in model.named_modules()}
        self._stack: list[nn.Module] = []
        self.found: list[tuple[str, str]] = []

    def enter(self, module: nn.Module, args: Any) -> None:
        self._stack.append(module)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = function_name(func)
        if draws_random_numbers(name, args, kwargs or {}):
            self.found.append((self._names[self._stack[-1]] if self._stack else "", name))
        return func(*args, **(kwargs or {}))


def refuse_chance(model: nn.Module, images: Tensor) -> None:
    """Refuse a network whose answer in evaluation depends on chance, or on what it was shown before.

    It runs twice on the same images; the spikes that masks drop at random are not meant (call it before masking).

    Args:
        model: any network in evaluation mode; each call changes it if it keeps state.
        images: [B, ...], as it takes them.

    Raises:
        InputError: the two answers differ; the error names the function that draws random numbers, if there is one.
    """
    finder = _ChanceFinder(model)
    handles = [module.register_forward_pre_hook(finder.enter) for module in model.modules()]
    handles += [module.register_forward_hook(finder.leave) for module in model.modules()]
    try:
        with torch.no_grad():
            with finder:
                first = one_tensor_out(model(images.clone()), model)
            again = one_tensor_out(model(images.clone()), model)
    finally:
        for handle in handles:
            handle.remove()
    # Threads may add in another order, so the last bits are not compared.
    if first.shape == again.shape and torch.allclose(first, again, rtol=1e-4, atol=1e-5, equal_nan=True):
        return
    kind = type(model).__name__
    if finder.found:
        where, name = finder.found[0]
        what, remedy = about_chance(name)
        raise InputError(what, where=where or kind, remedy=remedy)
    raise InputError(
        "it answers differently each time it is run on the same images, also in evaluation",
        where=kind,
        remedy="let nothing in its forward depend on chance or on earlier calls (counters, caches, running means)",
    )


def check_one_tensor_in(model: nn.Module) -> None:
    """Check that a network can be called with images alone.

    Raises:
        InputError: its forward needs several arguments, or takes none.
    """
    parameters = [p for p in inspect.signature(model.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if len(needed) > 1 or not parameters:
        raise InputError(
            f"its forward takes {', '.join(needed) or 'nothing'}, but a network takes one tensor, the images, and "
            "returns one",
            where=type(model).__name__,
            remedy="wrap it in a module whose forward takes the images alone",
        )


def one_tensor_out(output: Any, model: nn.Module) -> Tensor:
    """`output` itself, what `model` has returned.

    Raises:
        InputError: it is not a tensor.
    """
    if isinstance(output, Tensor):
        return output
    inside = ""
    if isinstance(output, tuple | list):
        inside = f" of {', '.join(type(each).__name__ for each in output)}"
    elif isinstance(output, Mapping):
        inside = f" of {', '.join(map(repr, output))}"
    raise InputError(
        f"it returns a {type(output).__name__}{inside}, but a network takes one tensor, the images, and returns one",
        where=type(model).__name__,
        remedy="wrap it in a module whose forward returns the logits alone",
    )
