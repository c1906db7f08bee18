"""Networks of timm and torchvision by name, their stems for small images, and the two small CNNs."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

import mst
from mst.models import build
from mst.models.foreign import architecture
from mst.neurons import find_sites
from mst.quantization import num_classes_of, quantization_of

pytestmark = pytest.mark.slow


def test_create_model_quantises_and_masks_any_name() -> None:
    model = mst.create_model(
        "torchvision:shufflenet_v2_x0_5",
        num_levels=8,
        masking_ratio=0.5,
        mask_sites="stage2.*",
        num_classes=4,
        in_chans=1,
    )
    sites = find_sites(model)
    assert {site.num_levels for site in sites.values()} == {8}
    masked = [name for name, site in sites.items() if site.masking_ratio == 0.5]
    assert masked
    assert all(name.startswith("stage2.") for name in masked)
    assert model.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 4)
    noted = quantization_of(model)
    assert noted is not None
    assert noted.architecture == architecture("torchvision:shufflenet_v2_x0_5", {"num_classes": 4, "in_chans": 1})
    assert num_classes_of(model) == 4


def test_create_model_replaces_other_activations_by_name() -> None:
    with pytest.raises(ValueError, match="no ReLU-like activation to replace"):
        mst.create_model("resnext26ts", num_classes=2)
    model = mst.create_model("resnext26ts", also=("SiLU",), num_classes=2)
    assert len(find_sites(model)) > 10
    with pytest.raises(ValueError, match="'SiLu' is not an activation of torch.nn; did you mean SiLU"):
        mst.create_model("resnext26ts", also=("SiLu",), num_classes=2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet19", {}, "unknown model 'resnet19'; did you mean resnet18"),
        ("torchvision:resnet1", {}, "unknown model 'torchvision:resnet1'; did you mean resnet18.*torchvision:NAME"),
        ("hf-hub:someone/model", {}, "unknown model 'hf-hub:someone/model'"),
        ("local-dir:/tmp", {}, "unknown model"),
        ("resnet18", {"checkpoint_path": "/etc/passwd"}, "checkpoint_path cannot be among the options"),
        ("resnet18", {"pretrained_cfg": {}}, "pretrained_cfg cannot be among the options"),
        ("resnet18", {"act_layer": nn.ReLU}, "must be plain values"),
        ("resnet18", {"widht": 3}, "cannot be built with the options.*widht"),
        ("mst_nano_patch2_window2_8", {"small_stem": True}, "small_stem has no effect on mst_nano"),
        ("resnet18_small", {"small_stem": True}, "small_stem has no effect: SmallResNet keeps the resolution already"),
        ("resnet18_small", {"width": 5}, "width must be even"),
        ("vgg16_small", {"width": 0}, "width must be at least 1"),
        ("vgg16_small", {"pretrained": True}, "no weights are published for vgg16_small"),
    ],
)
def test_create_model_bad_input_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.create_model(name, **options)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "torchvision:resnet18", "regnetx_002", "mobilenetv2_050"])
def test_small_stem_keeps_the_resolution(name: str) -> None:
    plain = build(architecture(name, {"num_classes": 3, "in_chans": 1}))
    small = build(architecture(name, {"num_classes": 3, "in_chans": 1}, small_stem=True))
    places: list[tuple[int, ...]] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        places.append(tuple(inputs[0].shape[-2:]))

    for network in (plain, small):
        second = [module for module in network.modules() if isinstance(module, nn.Conv2d)][1]
        second.register_forward_pre_hook(note)
        network.eval()(torch.rand(1, 1, 32, 32))
    assert places[0] < (32, 32) == places[1]


@pytest.mark.parametrize("size", [8, 28, 32])
def test_small_cnns_take_small_images_and_train(size: int) -> None:
    for name, options in (("resnet18_small", {}), ("vgg16_small", {"img_size": size})):
        model = mst.create_model(name, width=4, in_chans=1, num_classes=5, **options)
        logits = model(torch.rand(4, 1, size, size))
        assert logits.shape == (4, 5)
        logits.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_small_cnns_have_the_parameters_of_the_full_ones() -> None:
    with torch.device("meta"):
        resnet, vgg = (timm.create_model(name) for name in ("resnet18_small", "vgg16_small"))
    assert [round(sum(p.numel() for p in m.parameters()) / 1e6, 1) for m in (resnet, vgg)] == [11.2, 14.7]
    assert len([m for m in vgg.modules() if isinstance(m, nn.Conv2d)]) == 13


def test_build_with_published_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match="resnet18 of timm cannot be built with its published weights: no route"):
        mst.create_model("resnet18", pretrained=True)
