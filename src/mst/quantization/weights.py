"""Weights corrected for the errors that quantisation makes in what they multiply.

Letters: B images, C channels in, C' channels out, G groups, R places, U weights of one output channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from operator import add
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mst.data import ImageData
from mst.errors import InputError
from mst.models import ann_of

from .calibration import in_evaluation
from .convolutions import CONVOLUTIONS, convolution_of
from .moments import Moments, fit_change
from .post_training import beside_float

MOST_IMAGES = 256
"""Images that weights are corrected on at most; they pass the network in one batch."""

MOST_PLACES = 2**13
"""Places of a map's output, drawn at random from all images, at which its weights are fitted."""

MOST_WEIGHTS = 4608
"""Weights of one output channel, at most: the time of a fit grows with their cube. 512 channels with a 3x3 kernel."""

_OPERANDS = 2**24
"""Values that weights multiply, held at a time."""

_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def correct_weights(model: nn.Module, images: ImageData) -> tuple[str, ...]:
    """Fit the weights of each map to the quantised values that they multiply, without training.

        ΔW, Δb = arg min  Σ |y - ((W + ΔW)·x + b + Δb)|² + λ·|ΔW|²

    over images and places, x the quantised input behind layers that have been corrected, y the output of the map in
    full precision. λ is the one, of 0.01 to 10 times the mean of x² and infinity, with the least error on the last
    quarter of the images, where the fit to the others is tried. A map without a bias takes Δb into the running mean
    of the BatchNorm that reads its output, or has none.

    Unlike `correct_biases` it also restores gains: small values become level 0, so that outputs shrink. Where a ReLU
    passes few values, the mean is that of values which it cuts off, and correcting the mean alone can harm the others.

    Args:
        model: a network whose thresholds were set from images (`mst.quantize` with calibration, `mst.set_thresholds`)
            and that has not been trained since; its weights, biases and means change in place.
        images: calibration images in any form of `mst.data.ImageData`; of more than 256 evenly spaced ones are taken.

    Returns:
        Paths of the maps that were corrected: linear maps and convolutions that are called once, whose weights belong
        to no other module, with at most 4,608 weights for each output channel. Transposed convolutions are not among
        them, nor weights that a function computes first.

    Raises:
        InputError: no QCFS site, no images, or no map to correct; a network that was trained with quantisation; NaN or
            infinity in weights or images; images that the network does not take.

    Source: the objective of Hubara et al., Accurate Post Training Quantization With Small Calibration Sets (ICML 2021),
        for values alone, where it has a closed form.
    """
    model = ann_of(model, "mst.correct_weights", "correct the weights of the ANN, then convert it")
    with in_evaluation(model), torch.no_grad():
        diagnoser, batch = beside_float(model, images, MOST_IMAGES, "correct weights")
        maps = _maps(model)
        noted = _Noted()
        with ExitStack() as hooks:
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    hooks.callback(module.register_forward_pre_hook(noted.norm).remove)
            with _Products(maps, noted.map):
                diagnoser.run(batch, 0, ())
        calls = noted.calls
        maps = {key: name for key, name in maps.items() if calls[name] == 1}
        if not maps:
            raise InputError(
                f"{type(model).__name__} has no linear map or convolution that is called once",
                remedy="leave the weights as they are",
            )
        with _Products(maps, partial(_correct, model, noted)):
            diagnoser.run(batch, 0, diagnoser.sites)
    return tuple(name for name in noted.outputs if name in maps.values())


def _maps(model: nn.Module) -> dict[int, str]:
    """id of a weight that one module has -> path of that module."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    found = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if not isinstance(module, _MAPS) or weight is None:
            continue
        if owners[id(weight)] == 1 and weight[0].numel() <= MOST_WEIGHTS:
            found[id(weight)] = name
    return found


@dataclass(frozen=True)
class _Call:
    """A product of a map."""

    x: Tensor
    """[..., C] of a linear map, [B, C, *places] of a convolution."""

    weight: Tensor
    """[C', ...]."""

    bias: Tensor | None
    """[C']."""

    options: dict[str, Any]
    """stride, padding, dilation and groups of a convolution."""

    again: Callable[[], Tensor]
    """Computes the output once more."""


class _Products(TorchFunctionMode):
    """Passes the products of some maps, and their outputs, through `act`.

    Args:
        maps: id of a weight -> name of its map.
        act: (name, call, output) -> output.
    """

    def __init__(self, maps: dict[int, str], act: Callable[[str, _Call, Tensor], Tensor]) -> None:
        super().__init__()
        self.maps, self.act = maps, act

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        y = func(*args, **(kwargs or {}))
        if func is not F.linear and func not in CONVOLUTIONS:
            return y
        x, weight, bias, options = convolution_of(func, args, kwargs or {})
        if id(weight) not in self.maps or (func is not F.linear and x.dim() != weight.dim()):
            return y
        call = _Call(x, weight, bias, options, partial(func, *args, **(kwargs or {})))
        return self.act(self.maps[id(weight)], call, y)


class _Noted:
    """What the network computes in full precision."""

    def __init__(self) -> None:
        self.outputs: dict[str, tuple[Tensor, Tensor]] = {}
        """Map -> places [R], rising, and its output there [R, C']."""

        self.norms: dict[str, nn.Module] = {}
        """Map -> the BatchNorm that reads its output."""

        self.calls = Counter[str | int]()
        self._latest: tuple[str, Tensor] | None = None

    def map(self, name: str, call: _Call, y: Tensor) -> Tensor:
        """Note an output."""
        self.calls[name] += 1
        self._latest = name, y
        number = y.numel() // len(call.weight)
        generator = torch.Generator().manual_seed(len(self.outputs))
        places = torch.randperm(number, generator=generator)[:MOST_PLACES].sort().values
        self.outputs[name] = places, _at(call, y, places)
        return y

    def norm(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note a BatchNorm that reads the latest output."""
        if self._latest is not None and self._latest[1] is inputs[0] and module.running_mean is not None:
            self.norms[self._latest[0]] = module


def _correct(model: nn.Module, noted: _Noted, name: str, call: _Call, y: Tensor) -> Tensor:
    places, wanted = noted.outputs[name]
    norm, groups = noted.norms.get(name), call.options.get("groups", 1)
    error = (wanted - _at(call, y, places)).cpu()
    if not bool(error.any()):
        return y
    error = error.view(len(places), groups, -1).transpose(0, 1)
    num_fitted = max(1, len(places) * 3 // 4)
    parts = zip(places.tensor_split([num_fitted]), error.tensor_split([num_fitted], dim=1), strict=True)
    fitted, rest = (_moments(call, y, taken, lacking) for taken, lacking in parts)
    change, shift = fit_change(fitted, rest, call.bias is not None or norm is not None)
    call.weight.add_(change.reshape(call.weight.shape).to(call.weight))
    if call.bias is not None:
        call.bias.add_(shift.flatten().to(call.bias))
    elif norm is not None:
        assert isinstance(norm.running_mean, Tensor)
        norm.running_mean.sub_(shift.flatten().to(norm.running_mean))
    return call.again()


def _moments(call: _Call, y: Tensor, places: Tensor, error: Tensor) -> Moments:
    """Sums over places [R] of the output; error [G, R, C'/G]."""
    size = max(1, _OPERANDS // (call.weight[0].numel() * len(error)))
    parts = zip(torch.split(places, size), torch.split(error, size, dim=1), strict=True)
    each = (Moments.of(_operands(call, y, taken).cpu(), lacking) for taken, lacking in parts)
    return reduce(add, each)


def _indices(y: Tensor, places: Tensor) -> tuple[Tensor, ...]:
    """Image and coordinates of places of a convolution's output y [B, C', *places]."""
    return torch.unravel_index(places.to(y.device), (len(y), *y.shape[2:]))


def _at(call: _Call, y: Tensor, places: Tensor) -> Tensor:
    """The output at some places, [R, C']."""
    if not call.options["weight_shape"][2:]:
        return y.reshape(-1, y.shape[-1])[places.to(y.device)]
    image, *coordinates = _indices(y, places)
    index: tuple[Any, ...] = (image, slice(None), *coordinates)
    return y[index]


def _operands(call: _Call, y: Tensor, places: Tensor) -> Tensor:
    """What the weights multiply for these places of the output, [G, R, U]."""
    x, kernel = call.x, call.weight.shape[2:]
    if not kernel:
        return x.reshape(-1, x.shape[-1])[places.to(x.device)][None]
    given = {name: call.options.get(name, 1) for name in ("stride", "dilation")}
    stride, dilation = ((each,) * len(kernel) if isinstance(each, int) else each for each in given.values())
    padding = call.options.get("padding", 0)
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        margins = [(total // 2, total - total // 2) for total in totals]
    else:
        padding = 0 if padding == "valid" else padding
        margins = [(each, each) for each in ((padding,) * len(kernel) if isinstance(padding, int) else padding)]
    x = F.pad(x, [side for pair in reversed(margins) for side in pair])
    image, *coordinates = _indices(y, places)
    starts = [each * step for each, step in zip(coordinates, stride, strict=True)]
    taken = [
        x[(image, slice(None), *[start + step * at for start, step, at in zip(starts, dilation, offsets, strict=True)])]
        for offsets in product(*map(range, kernel))
    ]
    groups = call.options.get("groups", 1)
    rows = torch.stack(taken, dim=-1).view(len(places), groups, -1)
    return rows.transpose(0, 1)
