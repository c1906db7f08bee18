"""Before a network runs: is it the kind that is wanted, are its weights sound, does it take the images.

Letters: B images of a batch, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mst.errors import ExplainedError, InputError
from mst.neurons import SpikingNeuron
from mst.numbers import is_finite
from mst.text import one_line

from .admission import one_tensor_out
from .spec import image_shape_of
from .wrapping import unwrapped

logger = logging.getLogger(__name__)

_STATISTICS = ("running_mean", "running_var", "threshold")
"""Buffers in which infinity is as wrong as NaN. In others it may be meant: a mask of scores holds -inf."""


def check_network(model: object, caller: str) -> None:
    """Check that `model` is a network of PyTorch.

    Args:
        model: as the caller of the library gave it.
        caller: function that was called, for the error.

    Raises:
        InputError: it is not.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{caller} takes a network, an nn.Module, got {type(model).__name__}",
            remedy="mst.create_model, mst.quantize and mst.load_checkpoint return one",
        )


def ann_of(model: object, caller: str, for_spiking: str, has_weights: bool = True) -> nn.Module:
    """The ANN that a caller has given, without wrappers of torch around it; its weights are sound.

    Args:
        model: as the caller of the library gave it.
        caller: function that was called, for the error.
        for_spiking: what to do with a spiking network instead.
        has_weights: False for a network whose weights may still be to come.

    Raises:
        InputError: it is not a network, it is a spiking one, or as `unwrapped` and `check_weights`.
    """
    check_network(model, caller)
    assert isinstance(model, nn.Module)
    network = unwrapped(model)
    if any(isinstance(module, SpikingNeuron) for module in network.modules()):
        raise InputError(f"{caller} takes an ANN, got a spiking network", remedy=for_spiking)
    if has_weights:
        check_weights(network)
    return network


def check_weights(model: nn.Module) -> None:
    """Check that no weight, threshold or statistic of BatchNorm is NaN or infinite, and no other buffer NaN.

    Raises:
        InputError: one is, or has no values yet (the meta device); names the first.
    """
    buffers = dict(model.named_buffers())
    for name, tensor in [*model.named_parameters(), *buffers.items()]:
        if nn.parameter.is_lazy(tensor) or tensor.layout is not torch.strided:
            continue
        if tensor.device.type == "meta":
            raise InputError("it is on the meta device, without values", where=name, remedy="load the weights first")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise InputError("it holds a variance below 0", where=name, remedy="load sound weights")
        if is_finite(tensor):
            continue
        has_nan = bool(tensor.isnan().any())
        if has_nan or name not in buffers or name.rpartition(".")[2] in _STATISTICS:
            raise InputError(
                f"it holds {'NaN' if has_nan else 'infinite values'}",
                where=name,
                remedy="load weights that are finite; if training made them so, train again with a lower learning rate",
            )


class NetworkInput:
    """Takes images to a network: in its number format, on its device, with the axes that it needs.

    Args:
        model: ANN or spiking network. Its first parameter or buffer in floating point decides format and device.
        in_slices: True if images have a time axis, [B, K, ...].
        has_warned: True if a warning about the range of uint8 images would be a repetition.
    """

    def __init__(self, model: nn.Module, in_slices: bool = False, has_warned: bool = False) -> None:
        self.like = next((t for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()), None)
        """The tensor that decides; None if there is none: images then stay as they are."""
        self._in_slices = in_slices
        self._shape = image_shape_of(model)
        self._has_warned = has_warned

    def take(self, images: Tensor, first_image: int = 0) -> Tensor:
        """Images [B, ...] as the network takes them.

        Args:
            images: of any number type, on any device.
            first_image: number of the first in the data, for errors.

        Raises:
            InputError: another number of axes than the network's images have, or a value outside the range of the
                network's number format.
        """
        if self._shape is not None and not self._in_slices and images.dim() != len(self._shape) + 1:
            alone = images.dim() == len(self._shape)
            raise InputError(
                f"the network takes images {self._known()}, got {list(images.shape)}",
                remedy="add the axis of images: images[None]" if alone else "",
            )
        if images.dtype == torch.uint8 and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the images are uint8 and are taken as they are, from 0 to 255; if the network learned from another "
                "range, scale them first (images / 255 is 0 to 1)"
            )
        if self.like is None:
            return images if images.is_floating_point() else images.to(torch.get_default_dtype())
        if images.dtype != self.like.dtype:
            images = self._cast(images, self.like.dtype, first_image)
        return images.to(self.like.device)

    def _cast(self, images: Tensor, dtype: torch.dtype, first_image: int) -> Tensor:
        cast = images.to(dtype)
        if not is_finite(cast):
            beyond = int((~cast.isfinite()).flatten(1).any(dim=1).nonzero()[0])
            raise InputError(
                f"its largest value is beyond the range of the network's {str(dtype).removeprefix('torch.')}",
                where=f"image {first_image + beyond}",
                remedy="scale the images, or convert the network with .float()",
            )
        return cast

    @contextmanager
    def shown(self, images: Tensor) -> Iterator[None]:
        """Around a forward pass: an error of the network becomes one that names the shape of the images.

        Raises:
            InputError: the network fails on them. Errors of this library and a lack of memory are passed on as they
                are.
        """
        try:
            yield
        except (ExplainedError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            given = f"{list(images.shape)} of {str(images.dtype).removeprefix('torch.')} on {images.device}"
            remedy = "check their size, channels and axes"
            if self._shape is not None:
                remedy = f"it takes images {self._known()}" if tuple(images.shape[1:]) != self._shape else ""
            raise InputError(f"the network fails on images {given}: {one_line(error)}", remedy=remedy) from error

    def _known(self) -> str:
        return f"[B, {', '.join(map(str, self._shape or ()))}]"


def rows_of(output: Any, model: nn.Module, num_rows: int) -> Tensor:
    """`output` itself, what `model` has returned: a tensor with one row per image.

    Raises:
        InputError: it is something else.
    """
    rows = one_tensor_out(output, model)
    if rows.shape[:1] != (num_rows,):
        raise InputError(
            f"it returns {list(rows.shape)} for {num_rows} images, not one row for each",
            where=type(model).__name__,
            remedy="check that images are [B, ...], the axis of images first, and that the network keeps that axis",
        )
    return rows


def logits_of(output: Any, model: nn.Module, num_images: int) -> Tensor:
    """`output` itself, what `model` has returned: logits [B, K].

    Raises:
        InputError: it is something else.
    """
    logits = rows_of(output, model, num_images)
    if logits.dim() != 2:
        raise InputError(
            f"it returns {list(logits.shape)} for {num_images} images, not logits [B, classes]",
            where=type(model).__name__,
            remedy="end the network in one row of logits per image",
        )
    return logits


def check_answers(logits: Tensor) -> None:
    """Check that a network has answered each image by numbers; logits: [N, ...]. Infinity may be meant: log 0.

    Raises:
        InputError: NaN; names the first image.
    """
    if is_finite(logits) or not bool((is_nan := logits.isnan()).any()):
        return
    first = int(is_nan.flatten(1).any(dim=1).nonzero()[0])
    raise InputError(
        "its logits are NaN, although image and weights are finite",
        where=f"image {first}",
        remedy="look in the network for an overflow, a division by 0, or a root or logarithm of numbers below 0",
    )
