"""Network specs: how a network is built again, which images it takes, how many classes it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

from torch import nn

from mst.errors import InputError


class CannotBuildError(InputError):
    """A network whose code is not part of a library, so that its spec cannot build it."""


@runtime_checkable
class NetworkSpec(Protocol):
    """Everything that defines a network except its weights.

    A model carries its spec as the attribute `network_spec`; `spec_of` reads it. A class with these members, entered in
    `ARCHITECTURES`, is all that checkpoints need to know about a new kind of network.
    """

    @property
    def architecture_name(self) -> str:
        """Key of `ARCHITECTURES` under which a checkpoint names this kind of network."""
        ...

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """[C, height, width] of the images that the network takes; None if it is not known."""
        ...

    @property
    def num_classes(self) -> int | None:
        """Length of the network's output; None if it is not known."""
        ...

    @property
    def num_levels(self) -> int:
        """L of every site, fixed when the network was made."""
        ...

    @property
    def default_mask_sites(self) -> tuple[str, ...]:
        """Sites to mask where the user names none, see `select_sites`; empty if the network names none either."""
        ...

    @property
    def caps(self) -> Mapping[str, float]:
        """Site -> largest output of the activation that it replaced, for those that saturate."""
        ...

    @property
    def sites_replace_activations(self) -> bool:
        """True if every site stands in for an activation of a working network, which can set the thresholds."""
        ...

    def describe(self) -> dict[str, Any]:
        """The spec as plain values, for a checkpoint."""
        ...

    @classmethod
    def from_description(cls, architecture_name: str, description: Mapping[str, Any]) -> Self:
        """The spec that `describe` has described.

        Raises:
            ValueError, KeyError, TypeError: a description that is damaged or asks for what it must not.
        """
        ...

    def build(self) -> nn.Module:
        """A new network with fresh weights.

        Raises:
            CannotBuildError: the network's class is the user's own.
            InputError: sizes or options that do not give a network.
        """
        ...

    def adopt(self, model: nn.Module) -> None:
        """Check that `model` was made as this spec says, and note on it what the spec knows about its shapes.

        Raises:
            InputError: it was made otherwise.
        """
        ...


ARCHITECTURES: dict[str, type[NetworkSpec]] = {}
"""Architecture name -> class of its spec. `register_architecture` adds to it."""


def register_architecture(name: str, spec: type[NetworkSpec]) -> None:
    """Let checkpoints describe, and build again, networks whose spec is of this class.

    Args:
        name: what `architecture_name` returns.
        spec: a class with the members of `NetworkSpec`.

    Raises:
        InputError: the name is taken by another class.
    """
    if ARCHITECTURES.get(name, spec) is not spec:
        raise InputError(f"the architecture {name!r} is registered already, for {ARCHITECTURES[name].__name__}")
    ARCHITECTURES[name] = spec


def spec_of(model: nn.Module) -> NetworkSpec | None:
    """The spec that a model carries; None if it is neither an MST nor quantised by `mst.quantize`."""
    spec = getattr(model, "network_spec", None)
    return spec if isinstance(spec, NetworkSpec) else None


def image_shape_of(model: nn.Module) -> tuple[int, ...] | None:
    """[C, height, width] of the images that a model takes; None if its spec does not know, or it has none."""
    spec = spec_of(model)
    return None if spec is None else spec.image_shape


def num_classes_of(model: nn.Module) -> int | None:
    """Length of a model's output by its spec or else by its attribute `num_classes`; None if neither knows."""
    spec = spec_of(model)
    known = None if spec is None else spec.num_classes
    if known is None:
        known = getattr(model, "num_classes", None)
    return known if isinstance(known, int) else None


def note_classes(model: nn.Module, class_names: object) -> None:
    """Note on a model the names of the classes that it was trained on, for `class_names_of`.

    Args:
        model: the network.
        class_names: names in the order of the logits; anything but a list or tuple of texts counts as not known.
    """
    known = isinstance(class_names, list | tuple) and all(isinstance(name, str) for name in class_names)
    model.trained_class_names = tuple(class_names) if known else ()  # type: ignore[assignment, arg-type]


def class_names_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the classes that a model was trained on, in the order of its logits; empty if they are not known."""
    names = getattr(model, "trained_class_names", ())
    return names if isinstance(names, tuple) else ()
