"""The spec of a network that `quantize` has quantised: what was done to it, and how it is built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import nn

from mst.errors import InputError
from mst.models import MODEL_NAMES, RELEASED_MASK_SITES, Architecture, CannotBuildError, register_architecture
from mst.models.foreign import TORCHVISION, architecture
from mst.neurons import ALL_SITES

MaxPool = Literal["keep", "average"]

Placement = Literal["activations", "products", "none"]
"""Sites in the places of ReLU-like activations, at the operands of products, or nowhere. See `quantize`."""

OWN = "own"
"""Architecture name of a network whose class only its user has."""

_MUST_AGREE = ("num_levels", "max_pool", "also", "placement", "image_site")


@dataclass(frozen=True)
class Quantization:
    """Options and findings of `quantize`, as a `NetworkSpec`; the network carries it as `model.network_spec`."""

    num_levels: int
    """L of every site."""

    max_pool: MaxPool = "keep"
    """Treatment of max-pools, see `quantize`."""

    also: tuple[str, ...] = ()
    """Class names of the activations besides ReLU-like ones that were replaced."""

    caps: Mapping[str, float] = field(default_factory=dict)
    """Site -> largest output of the activation that it replaced, for those that saturate."""

    image_shape: tuple[int, ...] | None = None
    """[C, height, width] of the images that it was calibrated with or built for, if known."""

    num_classes: int | None = None
    """Length of its output, if known."""

    placement: Placement = "activations"
    """Placement of the sites, see `quantize`."""

    image_site: bool = False
    """True if sites at products stand also before what reads the image itself, see `quantize`."""

    architecture: Architecture | None = None
    """Description from which the plain network can be built again; None for a class of the user."""

    class_name: str = ""
    """Class of the network."""

    @property
    def architecture_name(self) -> str:
        """The library that builds the network, or `OWN`."""
        return OWN if self.architecture is None else self.architecture.library

    @property
    def default_mask_sites(self) -> tuple[str, ...]:
        """All sites; those of the attention in an MST."""
        is_mst = self.architecture is not None and self.architecture.name in MODEL_NAMES
        return RELEASED_MASK_SITES if is_mst else (ALL_SITES,)

    @property
    def sites_replace_activations(self) -> bool:
        """True: what reaches a site without quantisation tells its threshold, see `set_thresholds`."""
        return True

    def describe(self) -> dict[str, Any]:
        """The spec as plain values, for a checkpoint."""
        description = asdict(self)
        network, class_name = description.pop("architecture"), description.pop("class_name")
        if network is None:
            return {**description, "class": class_name}
        del network["library"]
        return {**description, "network": network}

    @classmethod
    def from_description(cls, architecture_name: str, description: Mapping[str, Any]) -> Self:
        """The spec that `describe` has described.

        Raises:
            InputError: an unknown network, options that a file must not bring along, or impossible shapes.
            KeyError, TypeError: entries that are missing or of another type.
        """
        shape, classes = description["image_shape"], description["num_classes"]
        numbers = [*(shape or ()), *(() if classes is None else (classes,))]
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise InputError(f"image_shape {shape} and num_classes {classes} must be whole numbers above 0")
        network = None
        if architecture_name != OWN:
            stored = description["network"]
            prefix = TORCHVISION if architecture_name == "torchvision" else ""
            network = architecture(
                prefix + str(stored["name"]),
                stored["options"],
                bool(stored["small_stem"]),
                stored.get("align_chans", 0),
            )
        return cls(
            num_levels=description["num_levels"],
            max_pool=description["max_pool"],
            also=tuple(description["also"]),
            caps=dict(description["caps"]),
            image_shape=None if shape is None else tuple(shape),
            num_classes=classes,
            placement=description.get("placement", "activations"),
            image_site=bool(description.get("image_site", False)),
            architecture=network,
            class_name=str(description.get("class", "")),
        )

    def build(self) -> nn.Module:
        """The quantised network with fresh weights.

        Raises:
            CannotBuildError: its class is the user's own.
            InputError: as `mst.create_model`.
        """
        from .named import quantize_named  # which needs this file

        if self.architecture is None:
            raise CannotBuildError(
                f"the network's class {self.class_name} is not part of a library, so it cannot be built from its "
                "description",
                remedy="build and quantise it yourself",
            )
        example = None if self.image_shape is None else torch.zeros(1, *self.image_shape)
        model = quantize_named(
            self.architecture,
            self.num_levels,
            self.also,
            max_pool=self.max_pool,
            placement=self.placement,
            image_site=self.image_site,
            example=example,
        )
        note_quantization(model, image_shape=self.image_shape, num_classes=self.num_classes)
        return model

    def adopt(self, model: nn.Module) -> None:
        """Check that `model` was quantised as this says, and note the shape of its images and its output on it.

        Raises:
            InputError: it was quantised otherwise, or not at all.
        """
        noted = quantization_of(model)
        if noted is None:
            raise InputError(f"{type(model).__name__} is not quantised", remedy="pass what mst.quantize returns")
        for name in _MUST_AGREE:
            saved, now = getattr(self, name), getattr(noted, name)
            if saved != now:
                raise InputError(f"it was saved with {name}={saved!r}, and the model is quantised with {now!r}")
        note_quantization(model, image_shape=self.image_shape, num_classes=self.num_classes)


for _name in ("timm", "torchvision", OWN):
    register_architecture(_name, Quantization)


def quantization_of(model: nn.Module) -> Quantization | None:
    """Description that `quantize` left on the network; None if the network does not come from `quantize`."""
    noted = getattr(model, "network_spec", None)
    return noted if isinstance(noted, Quantization) else None


def note_quantization(model: nn.Module, **changes: Any) -> None:
    """Replace fields of the `Quantization` that a quantised network carries."""
    noted = quantization_of(model)
    assert noted is not None
    model.network_spec = replace(noted, **changes)  # type: ignore[assignment]
