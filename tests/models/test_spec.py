"""Network specs: their answers, their description, and a new kind of network by one registration."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mst
from conftest import tiny_config
from mst.errors import InputError
from mst.models import (
    ARCHITECTURES,
    CannotBuildError,
    MaskedSpikingTransformer,
    image_shape_of,
    num_classes_of,
    register_architecture,
    spec_of,
)
from mst.neurons import QCFS, find_sites
from mst.quantization import note_quantization

NETWORKS = {
    "mst": lambda: MaskedSpikingTransformer(tiny_config(mask_sites=("mlp",))),
    "timm": lambda: mst.create_model("resnet18_small", width=2, num_levels=4, num_classes=3, in_chans=1),
    "torchvision": lambda: mst.create_model(
        "torchvision:shufflenet_v2_x0_5", num_levels=4, num_classes=3, in_chans=1, align_chans=3
    ),
}


def own() -> nn.Module:
    return mst.quantize(nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU6()), 4, torch.rand(8, 1, 4, 4))


@pytest.mark.parametrize("name", NETWORKS)
def test_spec_builds_the_network_again_from_its_description(name: str) -> None:
    model = NETWORKS[name]()
    spec = spec_of(model)
    assert spec is not None
    assert (spec.architecture_name, spec.num_levels) == (name, 4)
    assert num_classes_of(model) == 3
    description = json.loads(json.dumps(spec.describe()))  # as it is stored in a file
    again = ARCHITECTURES[name].from_description(name, description).build()
    assert spec_of(again) == spec
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}


def test_spec_answers_the_same_questions_for_every_network() -> None:
    transformer, network, plain = NETWORKS["mst"](), own(), nn.Linear(2, 2)
    specs = [spec_of(model) for model in (transformer, network)]
    assert [spec and spec.default_mask_sites for spec in specs] == [("mlp",), ("all",)]
    assert [spec and spec.sites_replace_activations for spec in specs] == [False, True]
    assert [spec and dict(spec.caps) for spec in specs] == [{}, {"2": 6.0}]
    assert [image_shape_of(model) for model in (transformer, network, plain)] == [(1, 8, 8), (1, 4, 4), None]
    assert [num_classes_of(model) for model in (transformer, network, plain)] == [3, 5, None]
    assert spec_of(plain) is None


def test_spec_of_a_class_of_the_user_cannot_build_it_and_adopts_what_agrees() -> None:
    spec = spec_of(own())
    assert spec is not None
    with pytest.raises(CannotBuildError, match="class Sequential is not part of a library.*; build and quantise it"):
        spec.build()
    fresh = mst.quantize(nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU6()), 4)
    assert image_shape_of(fresh) is None
    spec.adopt(fresh)
    assert (image_shape_of(fresh), num_classes_of(fresh)) == ((1, 4, 4), 5)
    note_quantization(fresh, num_levels=8)
    with pytest.raises(InputError, match="saved with num_levels=4, and the model is quantised with 8"):
        spec.adopt(fresh)
    with pytest.raises(InputError, match="Linear is not quantised; pass what mst.quantize returns"):
        spec.adopt(nn.Linear(1, 1))


def test_spec_of_an_mst_adopts_only_one_of_its_configuration() -> None:
    spec = spec_of(NETWORKS["mst"]())
    assert spec is not None
    spec.adopt(NETWORKS["mst"]())
    with pytest.raises(InputError, match="saved with num_levels: 4, not 8; leave the model out"):
        spec.adopt(MaskedSpikingTransformer(tiny_config(mask_sites=("mlp",), num_levels=8)))
    with pytest.raises(InputError, match="Linear is not a Masked Spiking Transformer"):
        spec.adopt(nn.Linear(1, 1))


def test_spec_follows_a_head_that_was_replaced() -> None:
    model = NETWORKS["mst"]()
    model.reset_classifier(7)
    assert num_classes_of(model) == 7


@dataclasses.dataclass(frozen=True)
class ChainSpec:
    """A kind of network from outside the package."""

    width: int
    architecture_name = "chain"
    image_shape = (1, 4, 4)
    num_classes = 2
    num_levels = 4
    default_mask_sites = ("all",)
    caps: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sites_replace_activations = True

    def describe(self) -> dict[str, Any]:
        return {"width": self.width}

    @classmethod
    def from_description(cls, architecture_name: str, description: Mapping[str, Any]) -> ChainSpec:
        return cls(**description)

    def build(self) -> nn.Module:
        return Chain(self)

    def adopt(self, model: nn.Module) -> None:
        assert spec_of(model) == self


class Chain(nn.Module):
    def __init__(self, spec: ChainSpec) -> None:
        super().__init__()
        self.network_spec = spec
        self.first, self.site, self.last = nn.Linear(16, spec.width), QCFS(4), nn.Linear(spec.width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.site(self.first(x.flatten(1))))
        return y


def test_architecture_from_outside_is_saved_loaded_and_converted_after_one_registration(
    tmp_path: Path,
) -> None:
    model, x = Chain(ChainSpec(width=6)).eval(), torch.rand(3, 1, 4, 4)
    register_architecture("chain", ChainSpec)
    try:
        mst.save_checkpoint(model, tmp_path / "x.safetensors")
        loaded = mst.load_checkpoint(tmp_path / "x.safetensors")
        assert torch.equal(loaded(x), model(x))
        assert list(find_sites(loaded)) == ["site"]
        assert [line.site for line in mst.convert(loaded, "lossless").sites] == ["site"]
        with pytest.raises(InputError, match="'chain' is registered already, for ChainSpec"):
            register_architecture("chain", type(spec_of(own())))  # type: ignore[arg-type]
    finally:
        del ARCHITECTURES["chain"]
    with pytest.raises(InputError, match="the architecture 'chain' is unknown"):
        mst.load_checkpoint(tmp_path / "x.safetensors")
