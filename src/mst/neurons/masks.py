"""Spike masks: rules that drop a share of the spikes of a site, in training and in evaluation.

Letters: B images, k rows of one image on the batch axis (its windows), N tokens, C channels, H heads, D channels of a
head, p the masking ratio.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from mst.errors import InputError
from mst.text import suggestion

from . import kernels
from .functional import check_masking_ratio

Layout = Literal["channels_first", "channels_last", "heads"]
"""Order of the axes of a site: [B*k, C, ...] (convolutions), [B*k, ..., C] (tokens), or [B*k, H, N, D] (attention)."""


def check_layout(layout: Layout | None) -> Layout | None:
    """`layout` itself.

    Raises:
        InputError: it is neither None nor a layout.
    """
    if layout is not None and layout not in get_args(Layout):
        raise InputError(f"unknown layout {layout!r}", remedy=f"choose from {', '.join(get_args(Layout))}, or None")
    return layout


def channel_axes(num_axes: int, layout: Layout | None = None) -> tuple[int, ...]:
    """The axes of a tensor [B*k, ...] that together tell its channels apart; the others are places or tokens.

    "heads": axes 1 and 3, so a channel is one of D in one head. For attention scores [B*k, H, N, N] a token is the
    query's row, and a channel is one key's column in one head.

    Args:
        num_axes: of the tensor, the batch axis included.
        layout: None decides by the number of axes: the last of 3, else axis 1. A Conv1d's output needs
            "channels_first", and 4 axes with the channels last need "channels_last".

    Raises:
        InputError: "heads" for a tensor that does not have 4 axes.
    """
    if layout == "heads":
        if num_axes != 4:
            raise InputError(f"layout 'heads' is for tensors [B*k, heads, tokens, channels], got {num_axes} axes")
        return (1, 3)
    if num_axes < 2:
        return ()
    is_last = num_axes == 3 if layout is None else layout == "channels_last"
    return (num_axes - 1,) if is_last else (1,)


@dataclass(frozen=True)
class SpikeMask(ABC):
    """A rule that keeps or drops the spikes of a site. What it keeps is not rescaled by 1/(1 - p).

    Inside a run a mask is a function of (seed, site, step, image) and of nothing else: neither batch size nor chunk
    length, process or device changes it. Outside a run, in training, it is drawn afresh at every call from torch's
    global generator, as dropout is.

    A rule of your own is a subclass with a `name` and `shared_axes`, and an entry in `MASK_RULES`; its fields must be
    plain values, because a checkpoint stores them.

    Raises:
        InputError: masking_ratio outside [0, 1), or an unknown layout.
    """

    name: ClassVar[str]
    """Name of the rule in `MASK_RULES`, in checkpoints and on the command line."""

    masking_ratio: float
    """p, fraction dropped, in [0, 1)."""

    layout: Layout | None = None
    """Order of the axes; None: that of the site, see `channel_axes`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "masking_ratio", check_masking_ratio(self.masking_ratio))
        check_layout(self.layout)

    @abstractmethod
    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        """Axes of [B, k, ...] along which one draw decides for all elements.

        Args:
            num_axes: of [B, k, ...], at least 2.
            channels: those of its axes that tell channels apart.
        """

    def keep(
        self, like: Tensor, images: Tensor, *, seed: int, site: str, step: int, layout: Layout | None = None
    ) -> Tensor:
        """The mask of one step inside a run.

        Args:
            like: spikes of that step, [B*k, ...].
            images: int64 [B], index in the data of each image.
            seed, site, step: what the draw belongs to.
            layout: of the site.

        Returns:
            bool, broadcastable to `like`; True keeps, with probability 1 - p.
        """
        shape = self._draws(like, len(images), layout)
        keep = kernels.keep_mask(images, math.prod(shape[1:]), self.masking_ratio, seed=seed, site=site, step=step)
        return _as_rows(keep.view(shape), like)

    def keep_fresh(self, like: Tensor, rows_per_image: int = 1, layout: Layout | None = None) -> Tensor:
        """A mask from torch's global generator, for training.

        Args:
            like: activations, [B*k, ...].
            rows_per_image: k; where it does not divide the batch axis, each row counts as an image.
            layout: of the site.

        Returns:
            bool, broadcastable to `like`; True keeps, with probability 1 - p.
        """
        num_images = like.shape[0] // rows_per_image if like.shape[0] % rows_per_image == 0 else like.shape[0]
        shape = self._draws(like, num_images, layout)
        if math.prod(shape) == like.numel():
            return torch.empty_like(like, dtype=torch.bool).bernoulli_(1.0 - self.masking_ratio)
        keep = torch.empty(shape, dtype=torch.bool, device=like.device).bernoulli_(1.0 - self.masking_ratio)
        return _as_rows(keep, like)

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values, from which `mask_from_dict` makes it again."""
        return {"rule": self.name, **asdict(self)}

    def __str__(self) -> str:
        return f"{self.name} {self.masking_ratio:g}"

    def _draws(self, like: Tensor, num_images: int, layout: Layout | None) -> list[int]:
        """[B, k, ...] with 1 in place of the axes that share a draw."""
        by_image = [num_images, like.shape[0] // num_images, *like.shape[1:]]
        channels = tuple(axis + 1 for axis in channel_axes(like.dim(), self.layout or layout))
        for axis in self.shared_axes(len(by_image), channels):
            by_image[axis] = 1
        return by_image


def _as_rows(keep: Tensor, like: Tensor) -> Tensor:
    """[B, 1 or k, ...] -> [B*k, ...]."""
    return keep.expand(-1, like.shape[0] // keep.shape[0], *keep.shape[2:]).flatten(0, 1)


class RandomMask(SpikeMask):
    """Drops each spike by itself with probability p.

    Source: Masked Spiking Transformer (ICCV 2023), Random Spike Masking; released code (no rescaling).
    """

    name = "random"

    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class ChannelMask(SpikeMask):
    """Drops whole channels: one draw per channel of an image, for all its places, tokens and windows.

    Limits: in training, `QCFS.rows_per_image` tells how many rows of the batch axis are one image. Networks other than
    the MST that fold windows into the batch must set it; otherwise each window counts as an image there.
    """

    name = "channel"

    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(axis for axis in range(1, num_axes) if axis not in channels)


class TokenMask(SpikeMask):
    """Drops whole tokens or places: one draw per token of an image, for all its channels and heads.

    Limits: a site without places, [B, C], has one token per image; the mask then drops all of it or nothing.
    """

    name = "token"

    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        return channels


MASK_RULES: dict[str, type[SpikeMask]] = {rule.name: rule for rule in (RandomMask, ChannelMask, TokenMask)}
"""Name -> rule. To add one from outside: MASK_RULES[MyMask.name] = MyMask."""

MaskRule = str | type[SpikeMask] | SpikeMask
"""Ways to give a rule: by name, as a class, or as a mask whose other fields are used."""


def make_mask(masking_ratio: float, rule: MaskRule = "random") -> SpikeMask | None:
    """The mask of this rule that drops this share; None for ratio 0.

    Raises:
        InputError: a ratio outside [0, 1), or an unknown rule.
    """
    ratio = check_masking_ratio(masking_ratio)
    if isinstance(rule, SpikeMask):
        return replace(rule, masking_ratio=ratio) if ratio else None
    kind = _rule_named(rule) if isinstance(rule, str) else rule
    return kind(ratio) if ratio else None


def mask_from_dict(values: Mapping[str, Any]) -> SpikeMask:
    """The mask that `SpikeMask.to_dict` described.

    Raises:
        InputError: an unknown rule, or values that the rule does not take.
    """
    options = dict(values)
    kind = _rule_named(options.pop("rule", None))
    try:
        return kind(**options)
    except TypeError as error:
        raise InputError(f"mask rule {kind.name!r} does not take {options}: {error}") from error


def _rule_named(name: object) -> type[SpikeMask]:
    kind = MASK_RULES.get(name) if isinstance(name, str) else None
    if kind is None:
        choices = f"choose from {', '.join(MASK_RULES)}, or add your own to mst.neurons.MASK_RULES"
        raise InputError(f"unknown mask rule {name!r}", remedy=suggestion(str(name), list(MASK_RULES), choices))
    return kind
