"""A network with sites at products or at activations, and sweeps that evaluate it in well under a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mst
from mst.models import ARCHITECTURES
from mst.neurons import QCFS


@dataclasses.dataclass(frozen=True)
class ProductsSpec:
    """Two linear maps, each behind a site; between them a GELU."""

    lowest: int
    architecture_name = "products of the tests"
    image_shape = (1, 8, 8)
    num_classes = 10
    num_levels = 7
    default_mask_sites = ("all",)
    caps: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sites_replace_activations = True

    def describe(self) -> dict[str, Any]:
        return {"lowest": self.lowest}

    @classmethod
    def from_description(cls, architecture_name: str, description: Mapping[str, Any]) -> ProductsSpec:
        return cls(**description)

    def build(self) -> nn.Module:
        return Products(self)

    def adopt(self, model: nn.Module) -> None:
        """Nothing is to be noted."""


class Products(nn.Module):
    def __init__(self, spec: ProductsSpec) -> None:
        super().__init__()
        self.network_spec = spec
        self.one, self.two = (QCFS(7, 1.0, min_level=spec.lowest) for _ in range(2))
        self.first, self.second = nn.Linear(64, 12), nn.Linear(12, 10)
        self.one.is_operand = self.two.is_operand = spec.lowest < 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.one(x.flatten(1)))
        z: Tensor = self.second(self.two(nn.functional.gelu(y) if self.network_spec.lowest else y))
        return z


@contextmanager
def registered() -> Iterator[None]:
    """Within the block, checkpoints of such networks can be read."""
    mst.register_architecture(ProductsSpec.architecture_name, ProductsSpec)
    yield
    del ARCHITECTURES[ProductsSpec.architecture_name]


def saved(lowest: int, folder: Path) -> Path:
    """A checkpoint of such a network, not trained."""
    torch.manual_seed(0)
    data = mst.load_dataset("digits", img_size=8)
    path = folder / "last.safetensors"
    info = mst.CheckpointInfo("digits", data.info.class_names, data.preprocessing)
    mst.save_checkpoint(Products(ProductsSpec(lowest)).eval(), path, info)
    return path


def sweep_options(checkpoint: Path, **changes: object) -> mst.SweepOptions:
    """A sweep of the first six test images."""
    given: dict[str, object] = {
        "method": "evaluate", "checkpoint": checkpoint, "masking_ratios": (0.0,), "codings": ("lossless",),
        "time_steps": (2, 40), "mask_seeds": (0,), "max_images": 6,
    }  # fmt: skip
    return mst.SweepOptions(**{**given, **changes})  # type: ignore[arg-type]
