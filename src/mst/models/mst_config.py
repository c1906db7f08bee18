"""The configuration of a Masked Spiking Transformer, all its sizes and options, and its network spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from torch import nn

from mst.errors import InputError
from mst.neurons import QCFS, Layout, make_mask

from .geometry import StageGeometry, stage_geometries
from .layers import ClippedReLU
from .spec import register_architecture, spec_of

if TYPE_CHECKING:
    from .mst import MaskedSpikingTransformer

RELEASED_MASK_SITES = ("attention",)
"""Sites that the released code masks: the queries, the keys and the attention scores."""


@dataclass(frozen=True)
class MSTConfig:
    """Everything that defines an MST except its weights.

    Raises:
        InputError: a value outside its range, or sizes that do not divide.
    """

    img_size: int | tuple[int, int] = 224
    """Pixels: one number, or (height, width)."""

    patch_size: int = 4
    """Pixels along a patch's side."""

    in_chans: int = 3
    """Channels of the image."""

    align_chans: int = 0
    """Channels that a 1x1 convolution in front makes of the image's; 0: no such convolution. For frames of events, so
    that weights trained on pictures of 3 channels fit behind it."""

    num_classes: int = 1000
    """Length of the output; 0 leaves the pooled features as output."""

    embed_dim: int = 96
    """Channels C of the first stage; each later stage has twice its predecessor's."""

    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks per stage."""

    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    """Attention heads per stage; each must divide the channels of its stage."""

    window_size: int = 7
    """Tokens along a window's side; a stage that is smaller shrinks it."""

    mlp_ratio: float = 4.0
    """Hidden channels of the MLP, as a multiple of C."""

    qkv_bias: bool = True
    """Bias on the qkv map."""

    mlp_batch_norm: bool = True
    """BatchNorm after each linear map of the MLP; the released ImageNet weights have it, the CIFAR weights do not."""

    absolute_position_embedding: bool = False
    """A trained table added after the patch embedding."""

    num_levels: int = 16
    """L of every QCFS."""

    threshold: float = 2.0
    """Initial λ of every QCFS or `ClippedReLU`."""

    activation: Literal["qcfs", "clip"] = "qcfs"
    """"qcfs" places a site at every activation; with "clip" each is a `ClippedReLU`, and the network has no site. So it
    can be trained in floating point, or have sites at its products, see `mst.quantize`."""

    masking_ratio: float = 0.0
    """p at the mask sites, in [0, 1)."""

    mask_sites: tuple[str, ...] = RELEASED_MASK_SITES
    """Masked sites: groups, roles or globs of site names, see `select_sites`."""

    mask_rule: str = "random"
    """Rule of the spikes that are dropped together: a name in `MASK_RULES` ("random", "channel", "token")."""

    drop_path_rate: float = 0.0
    """Stochastic depth of the last block; earlier ones rise linearly to it."""

    grad_checkpointing: bool = False
    """Recompute blocks in the backward pass: saves memory, costs about a third more time."""

    weight_init: Literal["fan_in", "trunc_normal"] = "fan_in"
    """"fan_in" draws linear weights with variance 1/fan-in, from which quantised activations learn sooner;
    "trunc_normal" is the released one, standard deviation 0.02."""

    def __post_init__(self) -> None:
        self._check_types()
        make_mask(self.masking_ratio, self.mask_rule)
        if self.masking_ratio > 0 and not self.mask_sites:
            raise InputError(
                f"masking_ratio {self.masking_ratio} has no effect without mask_sites",
                remedy='name them, for instance mask_sites=("attention",)',
            )
        if self.activation not in ("qcfs", "clip"):
            raise InputError(f"activation must be 'qcfs' or 'clip', got {self.activation!r}")
        if self.masking_ratio > 0 and self.activation == "clip":
            raise InputError(
                f"masking_ratio {self.masking_ratio} has no effect on an MST without sites",
                remedy="mask the sites at its products, with mst.mask_spikes",
            )
        if len(self.depths) != len(self.num_heads) or not self.depths or min(self.depths) < 1:
            raise InputError(f"depths {self.depths} and num_heads {self.num_heads} need one positive entry per stage")
        for stage, heads in enumerate(self.num_heads):
            if heads < 1 or (self.embed_dim << stage) % heads:
                raise InputError(f"stage {stage}: {self.embed_dim << stage} channels do not divide by {heads} heads")
        for name in ("patch_size", "in_chans", "embed_dim", "window_size", "num_levels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if int(self.embed_dim * self.mlp_ratio) < 1:
            raise InputError(f"mlp_ratio {self.mlp_ratio} leaves no hidden channel of {self.embed_dim}")
        if self.align_chans < 0:
            raise InputError(f"align_chans must not be negative, got {self.align_chans}")
        if self.num_classes < 0:
            raise InputError(f"num_classes must not be negative, got {self.num_classes}")
        if not self.threshold > 0:
            raise InputError(f"threshold must be above 0, got {self.threshold}")
        if not 0.0 <= self.drop_path_rate < 1.0:
            raise InputError(f"drop_path_rate must be in [0, 1), got {self.drop_path_rate}")
        if self.weight_init not in ("fan_in", "trunc_normal"):
            raise InputError(f"weight_init must be 'fan_in' or 'trunc_normal', got {self.weight_init!r}")
        self.stages()

    def _check_types(self) -> None:
        """Turn lists into tuples, and refuse everything else of a wrong type."""
        for name in ("depths", "num_heads", "mask_sites"):
            value, kind = getattr(self, name), str if name == "mask_sites" else int
            if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
                raise InputError(f"{name} must be a list of {kind.__name__} values, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        if isinstance(self.img_size, list | tuple) and len(self.img_size) == 2:
            object.__setattr__(self, "img_size", tuple(self.img_size))
        for size in self.img_size if isinstance(self.img_size, tuple) else (self.img_size,):
            if not isinstance(size, int) or size < 1:
                raise InputError(f"img_size must be one positive number or (height, width), got {self.img_size!r}")
        for name in (
            "patch_size", "in_chans", "align_chans", "num_classes", "embed_dim", "window_size", "num_levels",
        ):  # fmt: skip
            if not isinstance(getattr(self, name), int):
                raise InputError(f"{name} must be a whole number, got {getattr(self, name)!r}")
        if not isinstance(self.mask_rule, str):
            raise InputError(f"mask_rule must be a name, got {self.mask_rule!r}")
        for name in ("mlp_ratio", "threshold", "masking_ratio", "drop_path_rate"):
            if not isinstance(getattr(self, name), int | float):
                raise InputError(f"{name} must be a number, got {getattr(self, name)!r}")

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        if isinstance(self.img_size, int):
            return self.img_size, self.img_size
        height, width = self.img_size
        return int(height), int(width)

    def stages(self) -> tuple[StageGeometry, ...]:
        """Resolution, window and shift of each stage."""
        return stage_geometries(self.image_shape, self.patch_size, self.window_size, len(self.depths))

    def site(self, role: str, layout: Layout = "channels_last", rows_per_image: int = 1) -> QCFS | ClippedReLU:
        """A new site for `role`, see `QCFS`; masks are set once all sites exist. Without sites, the activation."""
        if self.activation == "clip":
            return ClippedReLU(self.threshold)
        return QCFS(self.num_levels, self.threshold, role=role, layout=layout, rows_per_image=rows_per_image)


@dataclass(frozen=True)
class MSTSpec:
    """The `NetworkSpec` of a Masked Spiking Transformer: its configuration."""

    config: MSTConfig
    """All sizes and options."""

    @property
    def architecture_name(self) -> str:
        """ "mst"."""
        return "mst"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """[C, height, width]."""
        return self.config.in_chans, *self.config.image_shape

    @property
    def num_classes(self) -> int:
        """Length of the output; 0 for a network without a head."""
        return self.config.num_classes

    @property
    def num_levels(self) -> int:
        """L of every site."""
        return self.config.num_levels

    @property
    def default_mask_sites(self) -> tuple[str, ...]:
        """The configuration's mask sites."""
        return self.config.mask_sites

    @property
    def caps(self) -> dict[str, float]:
        """Empty: no site has replaced an activation."""
        return {}

    @property
    def sites_replace_activations(self) -> bool:
        """False: most sites stand where a Swin has no activation."""
        return False

    def describe(self) -> dict[str, Any]:
        """The fields of the configuration; those that came later only where they have not their default."""
        later = {"mask_rule": MSTConfig.mask_rule, "activation": MSTConfig.activation}
        return {name: value for name, value in asdict(self.config).items() if later.get(name, ...) != value}

    @classmethod
    def from_description(cls, architecture_name: str, description: Mapping[str, Any]) -> Self:
        """The spec of a network with these fields.

        Raises:
            ValueError, TypeError: fields that `MSTConfig` does not take.
        """
        return cls(MSTConfig(**description))

    def build(self) -> MaskedSpikingTransformer:
        """A new network with fresh weights."""
        from .mst import MaskedSpikingTransformer  # which needs this file

        return MaskedSpikingTransformer(self.config)

    def adopt(self, model: nn.Module) -> None:
        """Check that `model` is an MST of this configuration.

        Raises:
            InputError: it is not; the fields that differ are listed.
        """
        other = spec_of(model)
        if not isinstance(other, MSTSpec):
            raise InputError(f"{type(model).__name__} is not a Masked Spiking Transformer")
        saved, now = asdict(self.config), asdict(other.config)
        differing = [f"{name}: {saved[name]!r}, not {now[name]!r}" for name in saved if saved[name] != now[name]]
        if differing:
            raise InputError(f"it was saved with {'; '.join(differing)}", remedy="leave the model out to have it built")


register_architecture("mst", MSTSpec)
