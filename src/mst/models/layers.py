"""Layers that a coding may have to treat specially; each is a module of its own, so that it can be found by type.

Letters: B images (times windows, times steps where a run folds them in), N tokens, C channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import checkpoint

from mst.errors import InputError
from mst.neurons.functional import MIN_THRESHOLD

_RECOMPUTING: ContextVar[bool] = ContextVar("mst_recomputing", default=False)


@contextmanager
def _recomputing() -> Iterator[None]:
    token = _RECOMPUTING.set(True)
    try:
        yield
    finally:
        _RECOMPUTING.reset(token)


def checkpoint_forward(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient checkpointing whose second forward does not update BatchNorm's running statistics.

    A plain checkpoint runs the forward twice and so updates the statistics twice.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _recomputing()

    y: Tensor = checkpoint(function, x, use_reentrant=False, context_fn=contexts)
    return y


class TokenBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the last axis of [B, ..., C], on a 2-D view: no transpose in the forward or backward pass.

    y = γ · (x - mean_C) / sqrt(var_C + eps) + β, statistics over every axis but the last.

    Limits: running statistics move by `momentum`; the cumulative average (momentum None) is not supported.
    """

    synchronised = False
    """Processes share the statistics of a step. torch's SyncBatchNorm does so on accelerators only, over axis 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ..., C] -> same shape.

        Raises:
            InputError: the last axis does not have `num_features` entries, or momentum is None.
        """
        if x.shape[-1] != self.num_features:
            raise InputError(f"TokenBatchNorm over {self.num_features} channels got {tuple(x.shape)}")
        if self.momentum is None:
            raise InputError("TokenBatchNorm needs a momentum, got None", remedy="set momentum=0.1, for instance")
        mean, var, momentum = self.running_mean, self.running_var, self.momentum
        if self.training:
            if _RECOMPUTING.get() and mean is not None and var is not None:
                mean, var = mean.clone(), var.clone()  # these copies are updated and thrown away
            elif self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        flat = x.reshape(-1, self.num_features)
        if self.training and self.synchronised and distributed.is_initialized() and distributed.get_world_size() > 1:
            return self._normalise_together(flat, mean, var).view(x.shape)
        y = F.batch_norm(flat, mean, var, self.weight, self.bias, self.training, momentum, self.eps)
        return y.view(x.shape)

    def _normalise_together(self, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None) -> Tensor:
        """x [tokens, C] -> same shape, normalised by the mean and variance over the tokens of all processes."""
        flat = x.float() if x.element_size() < 4 else x  # sums over a batch exceed the range of half precision
        count = flat.new_tensor([flat.shape[0]])
        total = _sum_over_processes(torch.cat([flat.sum(dim=0), count]))
        number = total[-1].detach()
        centred = flat - total[:-1] / number
        var = _sum_over_processes(centred.square().sum(dim=0)) / number
        if running_mean is not None and running_var is not None and self.momentum is not None:
            with torch.no_grad():
                running_mean.lerp_((total[:-1] / number).to(running_mean.dtype), self.momentum)
                running_var.lerp_((var * number / (number - 1)).to(running_var.dtype), self.momentum)
        y = centred * torch.rsqrt(var + self.eps)
        return (y if self.weight is None else y * self.weight + self.bias).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes, for each of them; in the backward pass, the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(x: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x)
    return total


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let every `TokenBatchNorm` of `model` share its statistics between processes.

    Raises:
        InputError: the model has none.
    """
    layers = [module for module in model.modules() if isinstance(module, TokenBatchNorm)]
    if not layers:
        raise InputError(
            "sync_batch_norm has no effect: this model has no BatchNorm that could be synchronised",
            remedy="leave sync_batch_norm out, or use mst.models.TokenBatchNorm",
        )
    for layer in layers:
        layer.synchronised = True


class ClippedReLU(nn.Module):
    """y = clip(x, 0, λ) with a trainable λ > 0: the activation that a QCFS of the same threshold quantises.

    Args:
        threshold: initial λ, a number or a tensor that broadcasts to the input.
    """

    lowest: Tensor

    def __init__(self, threshold: float | Tensor = 2.0) -> None:
        super().__init__()
        initial = threshold.detach().clone() if isinstance(threshold, Tensor) else torch.full((1,), float(threshold))
        self.threshold = nn.Parameter(initial)
        self.register_buffer("lowest", torch.zeros_like(initial), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> same shape, values in [0, λ]."""
        return torch.clamp(x, self.lowest.to(x.dtype), self.threshold.to(x.dtype).clamp_min(MIN_THRESHOLD))


class ActivationProduct(nn.Module):
    """Matrix product of two activations, scale·A·B or scale·A·Bᵀ: both operands change from image to image.

    Args:
        transpose_right: multiply by Bᵀ instead of B.
        scale: factor on the product.
        roles: names of the operands, which sites at them take as their role.
    """

    def __init__(
        self, transpose_right: bool = False, scale: float = 1.0, roles: tuple[str, str] = ("left", "right")
    ) -> None:
        super().__init__()
        self.transpose_right = transpose_right
        self.scale = scale
        self.roles = roles

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """left [B, H, N, K]; right [B, H, K, M], or [B, H, M, K] if transposed -> [B, H, N, M]."""
        if self.transpose_right:
            right = right.transpose(-2, -1)
        if self.scale == 1.0:
            return left @ right
        *batch, n, k = left.shape
        out = left.new_empty(())
        product = torch.baddbmm(
            out, left.reshape(-1, n, k), right.reshape(-1, k, right.shape[-1]), beta=0, alpha=self.scale
        )
        return product.view(*batch, n, right.shape[-1])

    def extra_repr(self) -> str:
        return f"transpose_right={self.transpose_right}, scale={self.scale:.6g}"


class LinearFunction(nn.Module):
    """A linear map whose weights are given with each call, as `torch.nn.functional.linear` takes them."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., K], weight [M, K], bias [M] -> x·Wᵀ + b, [..., M]."""
        return nn.functional.linear(x, weight, bias)


class ConvolutionFunction(nn.Module):
    """A convolution whose weights are given with each call, as `torch.nn.functional.conv2d` takes them.

    Its options are named as those of `nn.Conv2d`.

    Args:
        weight_shape: [out_channels, in_channels / groups, *kernel_size] of the weights that will be given.
        stride, padding, dilation: one number, or one for each axis of places; padding also "same" or "valid".
        groups: blocks of channels that do not meet.
    """

    padding_mode = "zeros"
    output_padding: tuple[int, ...] = ()

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.weight_shape, self.kernel_size, self.groups = tuple(weight_shape), tuple(weight_shape[2:]), groups
        self.out_channels = self._channels_out(self.weight_shape)
        self.stride, self.dilation = self._per_axis(stride), self._per_axis(dilation)
        self.padding = padding if isinstance(padding, str) else self._per_axis(padding)

    def _channels_out(self, weight_shape: tuple[int, ...]) -> int:
        return weight_shape[0]

    def _per_axis(self, option: int | tuple[int, ...]) -> tuple[int, ...]:
        numbers = (option,) if isinstance(option, int) else tuple(option)
        return numbers * len(self.kernel_size) if len(numbers) == 1 else numbers

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [B, in_channels, *places], weight of `weight_shape`, bias [out_channels] -> [B, out_channels, *places]."""
        convolve: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel_size) - 1]
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{self.weight_shape}, stride={self.stride}, padding={self.padding}, groups={self.groups}"


class TransposedConvolutionFunction(ConvolutionFunction):
    """A transposed convolution whose weights are given with each call, as `torch.nn.functional.conv_transpose2d` does.

    Args:
        weight_shape: [in_channels, out_channels / groups, *kernel_size].
        output_padding: as `nn.ConvTranspose2d` takes it.
        options: see `ConvolutionFunction`.
    """

    def __init__(
        self, weight_shape: tuple[int, ...], output_padding: int | tuple[int, ...] = 0, **options: Any
    ) -> None:
        super().__init__(weight_shape, **options)
        self.output_padding = self._per_axis(output_padding)

    def _channels_out(self, weight_shape: tuple[int, ...]) -> int:
        return weight_shape[1] * self.groups

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [B, in_channels, *places], weight of `weight_shape`, bias [out_channels] -> [B, out_channels, *places]."""
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
        convolve: Callable[..., Tensor] = transposed[len(self.kernel_size) - 1]
        return convolve(x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)


class AddConstant(nn.Module):
    """x + constant, where the constant is a parameter of the network (a position table), not an activation."""

    def forward(self, x: Tensor, constant: Tensor) -> Tensor:
        """x [B, ...], constant broadcastable to x -> [B, ...]."""
        return x + constant


class ChannelAlignment(nn.Module):
    """A 1x1 convolution that maps the channels of the images to those of the network, followed by the network.

    y = network(W·x + b), W and b applied at each pixel. Used to feed frames of events to a network made for pictures.

    Args:
        network: takes [B, align_chans, height, width].
        in_chans: channels of the images.
        align_chans: channels that the network takes.

    Raises:
        InputError: a number of channels below 1.

    Source: Masked Spiking Transformer (ICCV 2023), its networks for event data; the kernel size is ours.
    """

    def __init__(self, network: nn.Module, in_chans: int, align_chans: int = 3) -> None:
        super().__init__()
        if min(in_chans, align_chans) < 1:
            raise InputError(f"channels must be at least 1, got in_chans {in_chans} and align_chans {align_chans}")
        self.align = nn.Conv2d(in_chans, align_chans, kernel_size=1)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> output of the network."""
        y: Tensor = self.network(self.align(x))
        return y


def set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule of `model` at the path `name` by `module`, which takes over the hooks of the old one."""
    parent, _, leaf = name.rpartition(".")
    holder = model.get_submodule(parent)
    old = getattr(holder, leaf, None)
    if isinstance(old, nn.Module):
        for hooks in _HOOKS:
            getattr(module, hooks).update(getattr(old, hooks))
        module._is_full_backward_hook = old._is_full_backward_hook
    setattr(holder, leaf, module)


_HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_backward_pre_hooks", "_backward_hooks",
)  # fmt: skip
"""Tables of a module that hold its hooks."""
