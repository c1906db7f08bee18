"""Biases corrected for the shift that quantisation makes in the mean of what they are added to.

Letters: B images, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import Tensor, nn

from mst.data import ImageData
from mst.errors import InputError
from mst.models import TokenBatchNorm, ann_of

from .calibration import in_evaluation
from .post_training import beside_float
from .survey import MAPS

MOST_IMAGES = 256
"""Images that biases are corrected on at most; they pass the network in one batch."""

_LAYERS = (*MAPS, nn.modules.batchnorm._BatchNorm)


def correct_biases(model: nn.Module, images: ImageData) -> tuple[str, ...]:
    """Take the shift that quantisation makes in the mean of each channel out of the bias, without training.

        b[c] <- b[c] - mean(y[c], quantised) + mean(y[c], in full precision)

    The means are over images and places. Layers are corrected one after another: the output of each is that behind
    layers which have been corrected, all sites quantising. A convolution without a bias is corrected by the bias of the
    BatchNorm behind it; a map with neither stays as it is.

    Args:
        model: a network whose thresholds were set from images (`mst.quantize` with calibration, `mst.set_thresholds`)
            and that has not been trained since; its biases change in place.
        images: images in any form of `mst.data.ImageData`; of more than 256 evenly spaced ones are taken.

    Returns:
        Paths of the layers that were corrected: linear maps, convolutions and BatchNorms that have a bias of their own
        and are called once. Weights that a function multiplies by (attention in one call) are not among them.

    Raises:
        InputError: no QCFS site, no images, or no layer to correct; a network that was trained with quantisation; NaN
            or infinity in weights or images; images that the network does not take.

    Source: Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction (ICCV 2019), where it
        is the weights that are quantised.
    """
    model = ann_of(model, "mst.correct_biases", "correct the biases of the ANN, then convert it")
    with in_evaluation(model):
        diagnoser, batch = beside_float(model, images, MOST_IMAGES, "correct biases")
        layers = _layers(model)
        means, calls = {}, Counter[str]()

        def note(name: str, layer: nn.Module, y: Tensor) -> Tensor:
            means[name] = _mean(layer, y)
            calls[name] += 1
            return y

        with _observing(layers, note):
            diagnoser.run(batch, 0, ())
        layers = {name: layer for name, layer in layers.items() if calls[name] == 1}
        if not layers:
            raise InputError(
                f"{type(model).__name__} has no linear map, convolution or BatchNorm with a bias of its own",
                remedy="leave biases as they are",
            )

        def correct(name: str, layer: nn.Module, y: Tensor) -> Tensor:
            shift = (_mean(layer, y) - means[name]).to(y.dtype)
            assert isinstance(layer.bias, Tensor)
            layer.bias.sub_(shift)
            return y - shift.view([-1 if axis == _channel_axis(layer) % y.dim() else 1 for axis in range(y.dim())])

        with _observing(layers, correct):
            diagnoser.run(batch, 0, diagnoser.sites)
    return tuple(layers)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers with a bias that no other module has."""
    owners = Counter(id(module._parameters.get("bias")) for module in model.modules())
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _LAYERS) and module.bias is not None and owners[id(module.bias)] == 1
    }


def _channel_axis(layer: nn.Module) -> int:
    return -1 if isinstance(layer, nn.Linear | TokenBatchNorm) else 1


def _mean(layer: nn.Module, y: Tensor) -> Tensor:
    """Mean of each channel, float64 [C]."""
    return y.movedim(_channel_axis(layer), -1).flatten(0, -2).double().mean(dim=0)


@contextmanager
def _observing(layers: Mapping[str, nn.Module], act: Callable[[str, nn.Module, Tensor], Tensor]) -> Iterator[None]:
    """Within the block the output of each layer passes `act`."""

    def hook(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return act(name, layer, output)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(partial(hook, name)).remove)
        yield
