"""The Masked Spiking Transformer in ANN form: a Swin with BatchNorm and a QCFS at every activation.

Paper: Wang et al., "Masked Spiking Transformer", ICCV 2023 (arXiv 2210.01208). Module names follow the released
state dicts, so that its weights load by renaming the thresholds only.

Letters: B images (a run folds its time steps in here), W windows of an image, N tokens of a window, L tokens of
the image, C channels, H heads, D channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn

from mst.errors import InputError
from mst.neurons import find_sites, mask_spikes

from .geometry import StageGeometry
from .layers import (
    ActivationProduct,
    AddConstant,
    ClippedReLU,
    TokenBatchNorm,
    checkpoint_forward,
    set_submodule,
)
from .mst_config import MSTConfig, MSTSpec
from .spec import NetworkSpec
from .wrapping import copy_network

HIDDEN = -1000.0
"""Added to the score of two tokens that do not attend to each other, so that the softmax gives exactly 0 there.

The released code adds -100. Its softmax gives exp(-100) = 4e-44, which changes no sum but is a denormal number in
float32; a CPU multiplies these a hundred times as slowly.
"""

# ------------------------------------------------------------------------------------ tensor functions


def partition_windows(x: Tensor, window: int) -> Tensor:
    """[B, height, width, C] -> [B·W, N, C]; the windows of an image stay next to each other."""
    b, height, width, c = x.shape
    x = x.view(b, height // window, window, width // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def merge_windows(windows: Tensor, window: int, resolution: tuple[int, int]) -> Tensor:
    """[B·W, N, C] -> [B, height, width, C]; the inverse of `partition_windows`."""
    height, width = resolution
    c = windows.shape[-1]
    x = windows.view(-1, height // window, width // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, c)


def relative_position_index(window: int) -> Tensor:
    """int64 [N, N]: row of the bias table for the offset from token j to token i of a window."""
    axis = torch.arange(window)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    vertical = rows[:, None] - rows[None, :] + window - 1
    horizontal = columns[:, None] - columns[None, :] + window - 1
    return vertical * (2 * window - 1) + horizontal


def shifted_window_mask(resolution: tuple[int, int], window: int, shift: int) -> Tensor:
    """float [W, N, N]: `HIDDEN` between tokens that are neighbours only because of the cyclic shift, else 0."""
    region = torch.zeros(1, *resolution, 1)
    borders = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(borders):
        for j, columns in enumerate(borders):
            region[:, rows, columns, :] = 3 * i + j
    region_WN = partition_windows(region, window).squeeze(-1)
    return (region_WN[:, :, None] != region_WN[:, None, :]).float() * HIDDEN


# -------------------------------------------------------------------------------------------- modules


class PatchEmbed(nn.Module):
    """Image -> tokens: channel alignment, convolution of patch size and stride, BatchNorm, neuron."""

    def __init__(self, config: MSTConfig) -> None:
        super().__init__()
        chans = config.align_chans or config.in_chans
        self.align = nn.Conv2d(config.in_chans, chans, kernel_size=1) if config.align_chans else nn.Identity()
        self.proj = nn.Conv2d(chans, config.embed_dim, kernel_size=config.patch_size, stride=config.patch_size)
        self.norm = TokenBatchNorm(config.embed_dim)
        self.proj_if = config.site("patch")
        self.image_shape = (config.in_chans, *config.image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> [B, L, C].

        Raises:
            InputError: the image size or number of channels is not the one that the model was built for.
        """
        if x.dim() != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise InputError(
                f"the model takes images [B, {', '.join(map(str, self.image_shape))}], got {tuple(x.shape)}"
            )
        y: Tensor = self.proj_if(self.norm(self.proj(self.align(x)).flatten(2).transpose(1, 2)))
        return y


class WindowAttention(nn.Module):
    """Attention within windows, with neurons for q, k, v, the scores and both outputs. The softmax is analog."""

    relative_position_index: Tensor

    def __init__(self, config: MSTConfig, dim: int, num_heads: int, stage: StageGeometry) -> None:
        super().__init__()
        window, num_windows = stage.window, stage.num_windows
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.q_if = config.site("query", "heads", num_windows)
        self.k_if = config.site("key", "heads", num_windows)
        self.v_if = config.site("value", "heads", num_windows)
        self.query_key = ActivationProduct(True, (dim // num_heads) ** -0.5, ("query", "key"))
        self.attn_if = config.site("scores", "heads", num_windows)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.add_position_bias = AddConstant()
        self.softmax = nn.Softmax(dim=-1)
        self.attention_value = ActivationProduct(roles=("weights", "value"))
        self.attn_v_if = config.site("attention_output", "heads", num_windows)
        self.proj = nn.Linear(dim, dim)
        self.proj_if = config.site("projection", rows_per_image=num_windows)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B·W, N, C], mask [W, N, N] or None -> [B·W, N, C]."""
        windows, n, c = x.shape
        qkv = self.qkv(x).view(windows, n, 3, self.num_heads, c // self.num_heads)
        q_BHND, k_BHND, v_BHND = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        q_BHND, k_BHND, v_BHND = self.q_if(q_BHND), self.k_if(k_BHND), self.v_if(v_BHND)
        scores_BHNN = self.attn_if(self.query_key(q_BHND, k_BHND))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # [H, N, N]
        if mask is None:
            scores_BHNN = self.add_position_bias(scores_BHNN, bias)
        else:
            constant = bias + mask[:, None]  # [W, H, N, N]
            by_image = scores_BHNN.view(-1, *constant.shape)
            scores_BHNN = self.add_position_bias(by_image, constant).view_as(scores_BHNN)
        mixed = self.attention_value(self.softmax(scores_BHNN), v_BHND)
        mixed = self.attn_v_if(mixed).transpose(1, 2).reshape(windows, n, c)
        y: Tensor = self.proj_if(self.proj(mixed))
        return y


class Mlp(nn.Module):
    """fc1 [-> BN] -> neuron -> fc2 [-> BN] -> neuron."""

    def __init__(self, config: MSTConfig, dim: int) -> None:
        super().__init__()
        hidden = int(dim * config.mlp_ratio)
        self.fc1 = nn.Linear(dim, hidden)
        self.norm1 = TokenBatchNorm(hidden) if config.mlp_batch_norm else nn.Identity()
        self.fc1_if = config.site("mlp_hidden")
        self.fc2 = nn.Linear(hidden, dim)
        self.norm2 = TokenBatchNorm(dim) if config.mlp_batch_norm else nn.Identity()
        self.fc2_if = config.site("mlp_output")

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        x = self.fc1_if(self.norm1(self.fc1(x)))
        y: Tensor = self.fc2_if(self.norm2(self.fc2(x)))
        return y


class MSTBlock(nn.Module):
    """Window attention and MLP, each with a residual connection; the second one carries the normalised x."""

    attn_mask: Tensor | None

    def __init__(
        self,
        config: MSTConfig,
        dim: int,
        num_heads: int,
        stage: StageGeometry,
        shifted: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.resolution = stage.resolution
        self.window = stage.window
        self.shift = stage.shift if shifted else 0
        self.norm1 = TokenBatchNorm(dim)
        self.shortcut1_if = config.site("attention_input")
        self.attn = WindowAttention(config, dim, num_heads, stage)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = TokenBatchNorm(dim)
        self.shortcut2_if = config.site("mlp")
        self.mlp = Mlp(config, dim)
        mask = shifted_window_mask(stage.resolution, stage.window, self.shift) if self.shift else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        image = self.shortcut1_if(self.norm1(x)).view(-1, *self.resolution, x.shape[-1])
        if self.shift:
            image = torch.roll(image, (-self.shift, -self.shift), dims=(1, 2))
        windows = self.attn(partition_windows(image, self.window), self.attn_mask)
        image = merge_windows(windows, self.window, self.resolution)
        if self.shift:
            image = torch.roll(image, (self.shift, self.shift), dims=(1, 2))
        x = self.norm2(x + self.drop_path(image.view_as(x)))
        y: Tensor = x + self.drop_path(self.mlp(self.shortcut2_if(x)))
        return y


class PatchMerging(nn.Module):
    """2x2 tokens -> one token of twice the channels: BatchNorm, linear map on the residual stream, neuron."""

    def __init__(self, config: MSTConfig, dim: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.resolution = resolution
        self.norm = TokenBatchNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.reduction_if = config.site("merge")

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L/4, 2C], in the order (even row, even column), (odd, even), (even, odd), (odd, odd)."""
        height, width = self.resolution
        x = x.view(-1, height // 2, 2, width // 2, 2, x.shape[-1])
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(x.shape[0], height * width // 4, 4 * x.shape[-1])
        y: Tensor = self.reduction_if(self.reduction(self.norm(x)))
        return y


class Stage(nn.Module):
    """The blocks of one resolution, every second one shifted, then merging (except in the last stage)."""

    def __init__(
        self,
        config: MSTConfig,
        dim: int,
        num_heads: int,
        geometry: StageGeometry,
        drop_paths: list[float],
        merges: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(MSTBlock(config, dim, num_heads, geometry, i % 2 == 1, rate) for i, rate in enumerate(drop_paths))
        )
        self.downsample = PatchMerging(config, dim, geometry.resolution) if merges else nn.Identity()
        self.grad_checkpointing = config.grad_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L/4, 2C], or [B, L, C] for the last stage."""
        for block in self.blocks:
            x = checkpoint_forward(block, x) if self.grad_checkpointing and self.training else block(x)
        y: Tensor = self.downsample(x)
        return y


class MaskedSpikingTransformer(nn.Module):
    """The Masked Spiking Transformer, with timm's model interface.

    Args:
        config: all sizes and options, see `MSTConfig`.

    Source: Masked Spiking Transformer (ICCV 2023), architecture; released code for what the paper leaves open.
    """

    def __init__(self, config: MSTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.num_features = self.head_hidden_size = config.embed_dim << (len(config.depths) - 1)
        self.patch_embed = PatchEmbed(config)
        stages = config.stages()
        self.add_position = AddConstant()
        self.absolute_pos_embed = (
            nn.Parameter(torch.zeros(1, math.prod(stages[0].resolution), config.embed_dim))
            if config.absolute_position_embedding
            else None
        )
        last = max(1, sum(config.depths) - 1)
        drop_paths = (config.drop_path_rate * block / last for block in range(last + 1))
        self.layers = nn.Sequential(
            *(
                Stage(
                    config,
                    config.embed_dim << i,
                    heads,
                    stages[i],
                    [next(drop_paths) for _ in range(config.depths[i])],
                    i < len(stages) - 1,
                )
                for i, heads in enumerate(config.num_heads)
            )
        )
        self.norm = nn.LayerNorm(self.num_features)
        self.head = nn.Linear(self.num_features, config.num_classes) if config.num_classes else nn.Identity()
        self.init_weights()
        self._spec: NetworkSpec | None = None
        if config.mask_sites and config.activation == "qcfs":  # also for ratio 0, so that a wrong selection is refused
            mask_spikes(self, config.masking_ratio, config.mask_sites, config.mask_rule)

    @property
    def network_spec(self) -> NetworkSpec:
        """Specification of the network: how to build it, and its input and output. One that is set takes the place of
        the configuration's."""
        return MSTSpec(self.config) if self._spec is None else self._spec

    @network_spec.setter
    def network_spec(self, spec: NetworkSpec) -> None:
        self._spec = spec

    @network_spec.deleter
    def network_spec(self) -> None:
        self._spec = None

    def without_sites(self) -> MaskedSpikingTransformer:
        """A copy whose activations have no levels: each QCFS is a `ClippedReLU` of the same threshold. Masks are left
        out."""
        plain = copy_network(self)
        for name, site in find_sites(plain).items():
            if not site.is_operand:
                set_submodule(plain, name, ClippedReLU(site.threshold))
        plain.config = replace(self.config, activation="clip", masking_ratio=0.0)
        return plain

    def init_weights(self) -> None:
        """Draw new weights according to `config.weight_init`; biases 0, position tables std 0.02."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                fixed = self.config.weight_init == "trunc_normal" or name == "head"
                trunc_normal_(module.weight, std=0.02 if fixed else fan_in**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                trunc_normal_(module.relative_position_bias_table, std=0.02)
        if self.absolute_pos_embed is not None:
            trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> tokens of the last stage after LayerNorm, [B, L, C]."""
        x = self.patch_embed(x)
        if self.absolute_pos_embed is not None:
            x = self.add_position(x, self.absolute_pos_embed)
        y: Tensor = self.norm(self.layers(x))
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, L, C] -> logits [B, num_classes], or the pooled features [B, C]."""
        x = x.mean(dim=1)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chans, height, width] -> logits [B, num_classes]."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The head, a linear map; the identity if num_classes is 0."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one for `num_classes`; 0 removes it."""
        self.config = replace(self.config, num_classes=num_classes)
        self.num_classes = num_classes
        head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if isinstance(head, nn.Linear):
            trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        self.head = head.to(self.norm.weight.device, self.norm.weight.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass if `enable`, else keep their activations."""
        for stage in self.layers:
            assert isinstance(stage, Stage)
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay: thresholds and position tables."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith((".threshold", "relative_position_bias_table", "absolute_pos_embed"))
        }
